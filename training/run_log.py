"""Metrics of a training run: `metrics.jsonl`, TensorBoard, a line on the screen and in the Dagster run."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from training.pipes_report import Report


class RunLog:
    """Written by the first process only."""

    def __init__(self, output: Path, num_steps: int, every: int, report: Report):
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and readers of a log need none

        self._file = (output / "metrics.jsonl").open("a")
        self._board = SummaryWriter(str(output / "tensorboard"))
        self._num_steps, self._every, self._report = num_steps, every, report
        self._began = self._logged_at = time.perf_counter()
        self._samples = 0

    def step(self, step: int, batch_size: int, **values: float) -> None:
        """Note one step, counted from 1 over all stages; every so many steps it is written.

        Raises: ValueError when the loss is not a number: the run has diverged.
        """
        self._samples += batch_size
        if not math.isfinite(values["loss"]):
            raise ValueError(
                f"the loss of step {step} is {values['loss']}: lower the learning rate, e.g. --set stages.0.learning_rate=…"
            )
        if step % self._every and step != self._num_steps:
            return
        now = time.perf_counter()
        row: dict[str, Any] = {"step": step, **values, "samples_per_second": self._samples / (now - self._logged_at)}
        self._logged_at, self._samples = now, 0
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        for name, value in row.items():
            self._board.add_scalar(name, value, step)
        line = (
            f"step {step}/{self._num_steps}  loss {row['loss']:.3f}  accuracy {row['accuracy']:.3f}  "
            f"{row['samples_per_second']:.0f} clips/s"
        )
        print(
            f"\r{line}  {now - self._began:.0f} s",
            end="\n" if not sys.stderr.isatty() else "",
            file=sys.stderr,
            flush=True,
        )
        self._report.step(line)

    def close(self) -> None:
        """Flush everything."""
        self._file.close()
        self._board.close()


def read_metrics(output: Path) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl` by step; a step that was repeated after a resume counts once, as last written."""
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [row for _, row in sorted({row["step"]: row for row in rows}.items())]
