"""Many partitions through the real run launcher, queue and executor of dagster-k8s, against the tests' stand-in for a cluster.

    python -m bench.kubernetes [--partitions 200] [--runs 10]      every partition done, none twice, the limit kept; seconds

What is real and what is not is said in tests/kubesim/partitions.py.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.kubesim.partitions import launch
from tests.servers import postgres_server


def main() -> None:
    """One launch, and what became of it."""
    parser = argparse.ArgumentParser(prog="bench.kubernetes", description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--partitions", type=int, default=200)
    parser.add_argument("--runs", type=int, default=10, help="at most so many at once")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, postgres_server() as postgres:
        done = launch(Path(folder), postgres, "many", arguments.partitions, arguments.runs)
    names = [partition for partition, _, _ in done.steps]
    print(f"{arguments.partitions} partitions in {done.seconds:.0f} s: {done.statuses.count('SUCCESS')} succeeded")
    print(
        f"{len(set(names))} ran, {len(names) - len(set(names))} twice; {done.num_jobs} Jobs, {done.num_restarted_pods} pods twice"
    )
    print(f"at most {done.max_runs} runs at once, of {arguments.runs} allowed; at most {done.most_steps()} steps")


if __name__ == "__main__":
    main()
