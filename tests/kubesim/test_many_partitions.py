"""Partitions launched at once: each is done once, and no more at once than allowed. 200 of them: `python -m bench.kubernetes`."""

from __future__ import annotations

from pathlib import Path

from tests.kubesim.partitions import launch

NUM_PARTITIONS, MAX_RUNS = 24, 6


def test_every_partition_is_done_once_within_the_limit(tmp_path: Path, postgres: str) -> None:
    done = launch(tmp_path, postgres, "many", NUM_PARTITIONS, MAX_RUNS)
    assert done.statuses == ["SUCCESS"] * NUM_PARTITIONS
    assert sorted(partition for partition, _, _ in done.steps) == [f"p{number:03d}" for number in range(NUM_PARTITIONS)]
    assert done.num_jobs == 2 * NUM_PARTITIONS and done.num_restarted_pods == 0  # a Job for each run and each step
    assert 1 < done.max_runs <= MAX_RUNS and done.most_steps() <= MAX_RUNS
