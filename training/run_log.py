"""Metrics of a training run: `metrics.jsonl`, TensorBoard, a line on the screen and in the Dagster run."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
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
        self._samples, self._wait_seconds, self._flops, self._broken = 0, 0.0, 0.0, 0

    def note(self, text: str) -> None:
        """Say something that is no number."""
        print(f"training: {text}", file=sys.stderr, flush=True)
        self._report.step(text)

    def step(self, step: int, batch_size: int, wait_seconds: float, flops: float, broken: int, **values: float) -> None:
        """Note one step, counted from 1 over all stages; every so many steps it is written.

        Args:
            wait_seconds: how long the loop waited for this batch.
            flops: model FLOPs of the batch, as a share of what the device does in a second.
            broken: samples that were left out on the way to this batch.

        Raises: ValueError when the loss is not a number: the run has diverged.
        """
        self._samples += batch_size
        self._wait_seconds, self._flops, self._broken = (
            self._wait_seconds + wait_seconds, self._flops + flops, self._broken + broken
        )  # fmt: skip
        if not math.isfinite(values["loss"]):
            raise ValueError(
                f"the loss of step {step} is {values['loss']}: lower the learning rate, e.g. --set stages.0.learning_rate=…"
            )
        if step % self._every and step != self._num_steps:
            return
        now = time.perf_counter()
        seconds = now - self._logged_at
        row: dict[str, Any] = {
            "step": step,
            **values,
            "samples_per_second": self._samples / seconds,
            "data_wait_share": self._wait_seconds / seconds,
            "mfu": self._flops / seconds,
            "num_broken": self._broken,
        }
        self._logged_at, self._samples, self._wait_seconds, self._flops, self._broken = now, 0, 0.0, 0.0, 0
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


class BrokenLog:
    """`broken.jsonl`: each broken sample that any process met. A resumed run may meet one again; it counts once."""

    def __init__(self, output: Path):
        self._path = output / "broken.jsonl"

    def add(self, broken: Sequence[tuple[str, str]]) -> None:
        """Append a line a sample."""
        if broken:
            with self._path.open("a") as file:
                file.write("".join(json.dumps({"clip_id": c, "reason": reason}) + "\n" for c, reason in broken))

    def count(self) -> int:
        """How many different samples."""
        return len(set(self._path.read_text().splitlines())) if self._path.exists() else 0


def read_metrics(output: Path) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl` by step; a step that was repeated after a resume counts once, as last written."""
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [row for _, row in sorted({row["step"]: row for row in rows}.items())]
