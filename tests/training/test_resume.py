"""A killed run against an uninterrupted one; broken samples, mixtures and pictures in whole runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.conftest import ROOT, cli_environment, train
from training.run_log import read_metrics

LONG = ["--set", "stages.0.steps=60", "--set", "stages.1.steps=20", "--set", "save_every=7", "--set", "data.loader_workers=1"]  # fmt: skip


def losses(output: Path) -> list[float]:
    return [row["loss"] for row in read_metrics(output)]


def killed(shards: Path, output: Path, after_rows: int) -> None:
    """Start a run and end it with SIGKILL when it has logged so many steps."""
    command = [sys.executable, "-m", "training.train", "--recipe", "debug_tiny", "--shards", str(shards)]
    process = subprocess.Popen(
        [*command, "--output", str(output), *LONG], cwd=ROOT, env=cli_environment(), stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    metrics, deadline = output / "metrics.jsonl", time.monotonic() + 120
    while not metrics.exists() or len(metrics.read_text().splitlines()) < after_rows:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_run_killed_in_the_middle_of_an_epoch_goes_on_bit_for_bit(shards: Path, tmp_path: Path) -> None:
    assert train(shards, tmp_path / "straight", *LONG).returncode == 0
    killed(shards, tmp_path / "killed", 24)
    assert not (tmp_path / "killed" / "run.json").exists()
    result = train(shards, tmp_path / "killed", *LONG)
    assert result.returncode == 0, result.stderr
    assert len(losses(tmp_path / "straight")) == 80
    assert losses(tmp_path / "killed") == losses(tmp_path / "straight")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("straight", "killed")]
    assert weights[0] == weights[1]


def test_the_log_says_how_the_time_was_spent(shards: Path, tmp_path: Path) -> None:
    result = train(shards, tmp_path / "run")
    row = read_metrics(tmp_path / "run")[-1]
    assert row["logit_scale"] == pytest.approx(1 / row["temperature"])
    assert 0 < row["mfu"] < 1 and 0 <= row["data_wait_share"] < 1 and row["num_broken"] == 0
    assert "PlainEngine, attention by sdpa, products by" in result.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["attention"] == "attention by sdpa"
