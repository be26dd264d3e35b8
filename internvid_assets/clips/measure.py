"""What is measured on every frame, from about 7,200 of its pixels, a batch of frames at a time.

Letters: `B` frames of a batch, `H W` the sampled grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from internvid_assets.clips.decode import DecodedFrame, FrameTime, yuv_planes
from internvid_assets.clips.fullscore import FullScore

_GRID_POINTS = 160 * 45
"""About so many pixels of a frame are looked at: every n-th of every 2n-th line, since fetching a line from memory costs
most."""
_BATCH = 8
_BATCH_BYTES = 64 * 2**20
_BLOCKS = (16, 12)


@dataclass(slots=True)
class MeasuredFrame:
    """One frame with its numbers, all but `score` in 0..1."""

    time: FrameTime
    score: float
    """Mean absolute HSV difference to the frame before, 0..255 (PySceneDetect's content value); 0 for the first.
    Where the reader skipped frames between, their share of it."""
    brightness: float
    """Mean luma."""
    motion: float | None
    """Mean absolute luma difference to the frame before; None where there is none of this size."""
    block_motion: float | None
    """The same for the most different of 16 x 12 blocks."""
    luma: np.ndarray
    """The sampled luma, uint8 [H, W]."""


class FrameMeter:
    """Measures consecutive frames.

    A score within `margin` of `threshold` is computed again as PySceneDetect does, so that few pixels decide only what
    is clear; with `exact` all are.
    """

    def __init__(self, threshold: float, margin: float, exact: bool = False):
        self._threshold = threshold
        self._margin = margin
        self._exact = exact
        self._reformatter = VideoReformatter()
        self._full = FullScore()
        self._last: DecodedFrame | None = None
        self._last_luma: np.ndarray | None = None
        self._last_hsv: np.ndarray | None = None

    def measure(self, frames: Iterable[DecodedFrame]) -> Iterator[tuple[MeasuredFrame, av.VideoFrame]]:
        """The frames' numbers, in order, each with its image."""
        batch: _Batch | None = None
        for frame in frames:
            if batch is not None and (len(batch.frames) == batch.limit or batch.kind != _kind(frame.image)):
                yield from self._measured(batch)
                batch = None
            if batch is None:
                batch = _Batch(frame.image)
            batch.add(frame)
        if batch is not None:
            yield from self._measured(batch)

    def _measured(self, batch: _Batch) -> Iterator[tuple[MeasuredFrame, av.VideoFrame]]:
        luma_bhw = batch.luma_bhw
        hsv_bhw = self._hsv(batch).reshape(batch.limit, -1)
        if self._last_luma is None or self._last_luma.shape != luma_bhw.shape[1:]:
            self._last = self._last_luma = self._last_hsv = None
        motion = self._motion(luma_bhw)
        for number, frame in enumerate(batch.frames):
            hsv, last = hsv_bhw[number], self._last_hsv
            score = 0.0 if last is None else cv2.norm(hsv, last, cv2.NORM_L1) / hsv.size
            if self._last is not None and (self._exact or abs(score - self._threshold) <= self._margin):
                score = self._full.score(self._last, frame)
            score /= self._last.time.count if self._last else 1
            mean, block = (None, None) if last is None else (float(motion[0][number]), float(motion[1][number]))
            luma = luma_bhw[number]
            brightness = cv2.mean(luma)[0] / 255
            yield MeasuredFrame(frame.time, score, brightness, mean, block, luma), frame.image
            self._last, self._last_hsv, self._last_luma = frame, hsv, luma

    def _hsv(self, batch: _Batch) -> np.ndarray:
        """Converted by swscale, whose rounding OpenCV's reader, and so PySceneDetect, sees: dark hues depend on it."""
        bgr = self._reformatter.reformat(batch.image, format="bgr24", threads=1).to_ndarray()
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV)

    def _motion(self, luma_bhw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Per frame, the mean and the greatest block mean of its difference to the frame before; 0..1, float [B]."""
        count, height, width = luma_bhw.shape
        difference = np.empty((count * height, width), np.uint8)
        before = luma_bhw[0] if self._last_luma is None else self._last_luma
        for number, luma in enumerate(luma_bhw):
            cv2.absdiff(luma, before, difference[number * height : (number + 1) * height])
            before = luma
        blocks = cv2.resize(difference, (_BLOCKS[0], _BLOCKS[1] * count), interpolation=cv2.INTER_AREA)
        mean = cv2.reduce(difference.reshape(count, -1), 1, cv2.REDUCE_AVG, dtype=cv2.CV_32F).reshape(-1) / 255
        return mean, blocks.reshape(count, -1).max(axis=1) / 255


class _Kind(NamedTuple):
    width: int
    height: int
    format: str
    full_range: bool


def _kind(image: av.VideoFrame) -> _Kind:
    name = image.format.name
    return _Kind(image.width, image.height, name, name.startswith("yuvj") or image.color_range == 2)


class _Batch:
    """Frames of one size and format, and the pixels of their grid as one picture: the frames one below the other.

    The pixels are taken when the frame arrives, while the processor's caches may still hold it.
    """

    def __init__(self, like: av.VideoFrame):
        self.kind = _kind(like)
        self.limit = max(1, min(_BATCH, _BATCH_BYTES // (like.width * like.height * 3 // 2)))
        self.frames: list[DecodedFrame] = []
        across = max(1, round((like.width * like.height / _GRID_POINTS / 2) ** 0.5))
        down = max(1, min(2 * across, like.height // 2))
        planes, bits, (sub_down, sub_across) = yuv_planes(like)
        self._shift = bits - 8
        luma = slice(down // 2, None, down), slice(across // 2, None, across)
        chroma = (
            slice(down // 2 // sub_down, None, max(1, 2 * down // sub_down)),
            slice(across // 2 // sub_across, None, max(1, 2 * across // sub_across)),
        )
        height, width = (
            max(1, min(full // 2, half))
            for full, half in zip(planes[0][luma].shape, planes[1][chroma].shape, strict=True)
        )
        self._slices = luma, chroma, chroma
        layout = "yuvj420p" if self.kind.full_range else "yuv420p"
        self.image = av.VideoFrame(2 * width, 2 * height * self.limit, layout)
        sizes = (2 * height, 2 * width), (height, width), (height, width)
        self._targets = [
            np.frombuffer(memoryview(plane), np.uint8).reshape(self.limit, -1, plane.line_size)[:, : size[0], : size[1]]
            for plane, size in zip(self.image.planes, sizes, strict=True)
        ]

    @property
    def luma_bhw(self) -> np.ndarray:
        """uint8 [B, H, W]."""
        return self._targets[0][: len(self.frames)]

    def add(self, frame: DecodedFrame) -> None:
        """Take a frame of the same kind."""
        planes, _, _ = yuv_planes(frame.image)
        for target, plane, where in zip(self._targets, planes, self._slices, strict=True):
            pixels = plane[where][: target.shape[1], : target.shape[2]]
            target[len(self.frames)] = pixels >> self._shift if self._shift else pixels
        self.frames.append(frame)
