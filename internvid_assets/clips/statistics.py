"""What becomes of the numbers of a clip's frames: the columns of `clips.clips`, in memory that does not grow with it."""

from __future__ import annotations

import cv2
import numpy as np

from internvid_assets.clips.measure import MeasuredFrame

STILL_MOTION = 1 / 255
"""Neighbouring frames whose most different block (of 16 x 12) differs by less are equal within noise: a small object
that moves before a resting camera is motion, though the mean over the picture hardly sees it."""
BLACK_LUMA = 24 / 255  # 16 is black in limited range
"""A frame whose mean luma is below is black; a line whose every pixel stays below is border."""
STATIC_RUN_SECONDS = 0.8
_UNCHANGED_LEVELS = 3
_MOTION_BINS = 4096


class ClipStatistics:
    """Accumulates the measured frames of one clip."""

    def __init__(self) -> None:
        self._num_frames = self._num_black = 0
        self._num_moved = self._num_still = self._num_static_runs = 0
        self._brightness = self._motion = 0.0
        self._motion_histogram = np.zeros(_MOTION_BINS, np.int64)
        self._static_seconds = 0.0
        self._flat: list[float] = []
        self._brightest: np.ndarray | None = None
        self._darkest: np.ndarray | None = None

    def add(self, measured: MeasuredFrame, seconds: float) -> None:
        """Take the clip's next frame and its duration. What the first frame differs from belongs to another clip."""
        is_first = self._num_frames == 0
        self._num_frames += 1
        self._brightness += measured.brightness
        self._num_black += measured.brightness < BLACK_LUMA
        if not is_first and measured.motion is not None and measured.block_motion is not None:
            self._add_motion(measured.motion, measured.block_motion, seconds)
        if self._num_frames.bit_count() == 1:  # the 1st, 2nd, 4th, 8th …: a few of any clip
            self._flat.append(flat_share(measured.luma))
        if self._brightest is None or self._darkest is None or self._brightest.shape != measured.luma.shape:
            self._brightest, self._darkest = measured.luma.copy(), measured.luma.copy()
        cv2.max(self._brightest, measured.luma, self._brightest)
        cv2.min(self._darkest, measured.luma, self._darkest)

    def _add_motion(self, motion: float, block_motion: float, seconds: float) -> None:
        self._num_moved += 1
        self._motion += motion
        self._motion_histogram[min(int(motion * _MOTION_BINS), _MOTION_BINS - 1)] += 1
        if block_motion >= STILL_MOTION:
            self._static_seconds = 0.0
            return
        self._num_still += 1
        before, self._static_seconds = self._static_seconds, self._static_seconds + seconds
        self._num_static_runs += before < STATIC_RUN_SECONDS <= self._static_seconds

    def summary(self) -> dict[str, float | int]:
        """The statistic columns of one clip; all in 0..1 but the count of static runs."""
        assert self._brightest is not None and self._darkest is not None
        num_moved = max(1, self._num_moved)
        return {
            "brightness": self._brightness / self._num_frames,
            "black_share": self._num_black / self._num_frames,
            "border_share": border_share(self._brightest),
            "motion_mean": self._motion / num_moved,
            "motion_peak": self._motion_quantile(0.95),
            "still_share": self._num_still / num_moved,
            "num_static_runs": self._num_static_runs,
            "static_share": float((cv2.subtract(self._brightest, self._darkest) <= _UNCHANGED_LEVELS).mean()),
            "flat_share": sum(self._flat) / len(self._flat),
        }

    def picture_box(self) -> tuple[int, int, int, int]:
        """Top, bottom, left and right of what is inside the borders, half-open, in lines and columns of the luma."""
        assert self._brightest is not None
        (top, bottom), (left, right) = (_bright_span(dark) for dark in _dark_lines(self._brightest))
        return top, bottom, left, right

    def _motion_quantile(self, share: float) -> float:
        """To 1/4096: the middle of the bin in which the quantile lies."""
        total = int(self._motion_histogram.sum())
        if total == 0:
            return 0.0
        rank = int(np.searchsorted(np.cumsum(self._motion_histogram), share * total))
        return (rank + 0.5) / _MOTION_BINS if rank else 0.0


def border_share(brightest: np.ndarray) -> float:
    """Share of the picture in the dark lines along its edges, of the greatest luma each pixel had, uint8 [H, W]."""
    inside = 1.0
    for dark in _dark_lines(brightest):
        first, last = _bright_span(dark)
        inside *= (last - first) / len(dark) if not dark.all() else 0.0
    return 1 - inside


def _dark_lines(brightest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which lines, and which columns, are dark from end to end."""
    rows, columns = (brightest.max(axis=axis).astype(float) / 255 < BLACK_LUMA for axis in (1, 0))
    return rows, columns


def _bright_span(dark: np.ndarray) -> tuple[int, int]:
    """First and last line inside the dark runs that touch either edge, half-open; all of them where all are dark."""
    bright = np.flatnonzero(~dark)
    return (int(bright[0]), int(bright[-1]) + 1) if len(bright) else (0, len(dark))


def flat_share(luma: np.ndarray) -> float:
    """Share of pixels equal, within a level, to their right neighbour: near 1 for a screen, low for a camera; uint8 [H, W]."""
    if luma.shape[1] < 2:
        return 1.0
    return float((cv2.absdiff(np.ascontiguousarray(luma[:, 1:]), np.ascontiguousarray(luma[:, :-1])) <= 1).mean())
