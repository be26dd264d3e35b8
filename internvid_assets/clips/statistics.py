"""What is measured on every frame of a clip, and how it becomes the numbers of `clips.clips`."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

STILL_MOTION = 1 / 255
"""Neighbouring frames whose most different block (of 16 x 12) differs by less are equal within noise: a small object
that moves before a resting camera is motion, though the mean over the picture hardly sees it."""
BLACK_LUMA = 24 / 255  # 16 is black in limited range
"""A frame whose mean luma is below is black; a line whose every pixel stays below is border."""
STATIC_RUN_SECONDS = 0.8


@dataclass
class ClipStatistics:
    """Accumulates luma statistics of consecutive frames; two of consecutive spans can be joined."""

    brightness: list[float] = field(default_factory=list)
    motion: list[float] = field(default_factory=list)
    """Per frame, against the frame before it; the clip's first frame has none."""
    block_motion: list[float] = field(default_factory=list)
    """The same for the most different block."""
    motion_seconds: list[float] = field(default_factory=list)
    row_max: np.ndarray | None = None
    column_max: np.ndarray | None = None

    def add(self, luma: np.ndarray, previous: np.ndarray | None, seconds: float) -> None:
        """Take the next frame: luma uint8 [H, W], its neighbour before it (None at a clip's start), its duration."""
        self.brightness.append(float(luma.mean()) / 255)
        if previous is not None:
            difference = cv2.absdiff(luma, previous)
            self.motion.append(float(difference.mean()) / 255)
            self.block_motion.append(float(cv2.resize(difference, (16, 12), interpolation=cv2.INTER_AREA).max()) / 255)
            self.motion_seconds.append(seconds)
        self._join_border(luma.max(axis=1), luma.max(axis=0))

    def extend(self, later: ClipStatistics) -> None:
        """Append the statistics of the span that follows."""
        self.brightness += later.brightness
        self.motion += later.motion
        self.block_motion += later.block_motion
        self.motion_seconds += later.motion_seconds
        if later.row_max is not None and later.column_max is not None:
            self._join_border(later.row_max, later.column_max)

    def _join_border(self, row_max: np.ndarray, column_max: np.ndarray) -> None:
        self.row_max = row_max if self.row_max is None else np.maximum(self.row_max, row_max)
        self.column_max = column_max if self.column_max is None else np.maximum(self.column_max, column_max)

    def summary(self) -> dict[str, float | int]:
        """The statistic columns of one clip; all in 0..1 but the count of static runs."""
        motion = np.array(self.motion or [0.0])
        still = np.array(self.block_motion or [0.0]) < STILL_MOTION
        return {
            "brightness": float(np.mean(self.brightness)),
            "black_share": float(np.mean(np.array(self.brightness) < BLACK_LUMA)),
            "border_share": self._border_share(),
            "motion_mean": float(motion.mean()),
            "motion_peak": float(np.quantile(motion, 0.95)),
            "still_share": float(still.mean()),
            "num_static_runs": _num_runs(still, self.motion_seconds),
        }

    def _border_share(self) -> float:
        assert self.row_max is not None and self.column_max is not None
        shares = [_edge_share(lines.astype(float) / 255 < BLACK_LUMA) for lines in (self.row_max, self.column_max)]
        return 1 - (1 - shares[0]) * (1 - shares[1])


def _edge_share(dark: np.ndarray) -> float:
    """Share of lines in the dark runs that touch either edge."""
    if dark.all():
        return 1.0
    bright = np.flatnonzero(~dark)
    return float(bright[0] + len(dark) - 1 - bright[-1]) / len(dark)


def _num_runs(still: np.ndarray, seconds: list[float]) -> int:
    """How many unbroken runs of still frames last at least STATIC_RUN_SECONDS."""
    runs, length = 0, 0.0
    for is_still, duration in zip(still, seconds, strict=False):
        length = length + duration if is_still else 0.0
        if is_still and length >= STATIC_RUN_SECONDS > length - duration:
            runs += 1
    return runs
