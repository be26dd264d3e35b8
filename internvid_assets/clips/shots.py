"""Where shots begin, decided from per-frame scores: pure, no I/O. The neural detectors are in `neural_shots.py`.

Source: PySceneDetect 0.7 (https://www.scenedetect.com/docs/latest/api/detectors.html); `ContentDetector` with threshold
27 is the detector of P§3.1.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, Protocol

import av

from internvid_assets.clips.measure import MeasuredFrame


class Boundary(NamedTuple):
    """A shot ends before `end_frame`, the next begins at `start_frame`; between them lies a gradual transition, if any."""

    end_frame: int
    start_frame: int
    score: float


class ShotDetector(Protocol):
    """Sees the frames in order; reports each boundary once, in order, perhaps some frames late."""

    decided: int
    """Every boundary that begins before this frame has been reported."""

    def push(self, measured: MeasuredFrame, image: av.VideoFrame) -> list[Boundary]:
        """Take the next frame; the boundaries that are certain now."""

    def finish(self) -> list[Boundary]:
        """The boundaries that were waiting for frames to come."""


class ContentDetector:
    """Frames that differ from the one before by `threshold` or more, at least `min_frames` apart.

    Bursts are merged into their last frame (PySceneDetect's flash filter in merge mode).
    """

    def __init__(self, threshold: float, min_frames: int):
        self.decided = 0
        self._threshold = threshold
        self._filter = CutFilter(min_frames)
        self._score_above = 0.0

    def push(self, measured: MeasuredFrame, image: av.VideoFrame) -> list[Boundary]:
        """Take the next frame."""
        above = measured.score >= self._threshold
        cut = self._filter.cut(measured.time.index, above)
        score = measured.score if above else self._score_above
        self._score_above = score
        self.decided = self._filter.undecided_from(measured.time.index)
        return [] if cut is None else [Boundary(cut, cut, score)]

    def finish(self) -> list[Boundary]:
        """Nothing: a burst that the video ends in is no cut."""
        return []


class CutFilter:
    """Turns frames above the threshold into cuts at least `min_frames` apart, merging bursts into their last frame."""

    def __init__(self, min_frames: int = 15):
        self._min_frames = min_frames
        self._last_above: int | None = None
        self._enabled = False
        self._merge_start: int | None = None

    def cut(self, frame: int, above: bool) -> int | None:
        """The frame at which a cut is now certain: this one, an earlier one (a burst ended), or None."""
        if self._last_above is None:
            self._last_above = frame
        far_enough = frame - self._last_above >= self._min_frames
        if above:
            self._last_above = frame
        if self._merge_start is not None:
            if far_enough and not above and self._last_above - self._merge_start >= self._min_frames:
                self._merge_start = None
                return self._last_above
            return None
        if not above:
            return None
        if far_enough:
            self._enabled = True
            return frame
        if self._enabled:
            self._merge_start = frame
        return None

    def undecided_from(self, frame: int) -> int:
        """The earliest frame that may yet prove to be a cut, when `frame` was the last one seen."""
        if self._merge_start is None or self._last_above is None:
            return frame + 1
        return self._last_above if self._last_above - self._merge_start >= self._min_frames else frame + 1


class AdaptiveDetector:
    """Frames whose score is `ratio` times the mean of the two frames on either side, and at least `min_score`.

    Source: PySceneDetect 0.7 `AdaptiveDetector` with its defaults; it mistakes fast camera motion for cuts less often.
    """

    _WIDTH = 2

    def __init__(self, ratio: float, min_score: float, min_frames: int):
        self.decided = 0
        self._ratio = ratio
        self._min_score = min_score
        self._min_frames = min_frames
        self._window: deque[tuple[int, float]] = deque(maxlen=2 * self._WIDTH + 1)
        self._last_cut: int | None = None

    def push(self, measured: MeasuredFrame, image: av.VideoFrame) -> list[Boundary]:
        """Take the next frame."""
        frame = measured.time.index
        self._last_cut = frame if self._last_cut is None else self._last_cut
        self._window.append((frame, measured.score))
        self.decided = frame + 1 - self._WIDTH
        if len(self._window) < 2 * self._WIDTH + 1:
            return []
        target, score = self._window[self._WIDTH]
        mean = (sum(s for _, s in self._window) - score) / (2 * self._WIDTH)
        stands_out = score >= self._ratio * mean if mean > 1e-5 else True
        if not stands_out or score < self._min_score or target - self._last_cut < self._min_frames:
            return []
        self._last_cut = target
        return [Boundary(target, target, score)]

    def finish(self) -> list[Boundary]:
        """Nothing: the last frames have no window."""
        return []
