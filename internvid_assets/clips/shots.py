"""Where shots begin, decided from small frames: pure, no I/O.

Source: PySceneDetect 0.7 `ContentDetector` with its flash filter in merge mode
(https://www.scenedetect.com/docs/latest/api/detectors.html), the detector and threshold of P§3.1.
"""

from __future__ import annotations

import cv2
import numpy as np


def content_score(hsv: np.ndarray, previous: np.ndarray) -> float:
    """Mean absolute difference of hue, saturation and value of two uint8 [H, W, 3] HSV pictures, 0..255."""
    return float(cv2.absdiff(hsv, previous).mean())


def hsv_of(score_yuv: np.ndarray) -> np.ndarray:
    """The HSV picture of I420 planes, uint8 [H, W, 3]."""
    return cv2.cvtColor(cv2.cvtColor(score_yuv, cv2.COLOR_YUV2BGR_I420), cv2.COLOR_BGR2HSV)


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
