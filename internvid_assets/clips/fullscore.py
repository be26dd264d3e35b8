"""The content score as PySceneDetect computes it, from the pixels that it looks at and no others."""

from __future__ import annotations

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from internvid_assets.clips.decode import DecodedFrame, yuv_planes

_DOWNSCALED_LENGTH = 256


class FullScore:
    """Scores of pairs of frames at the resolution of PySceneDetect's automatic downscale.

    OpenCV reads BGR from swscale (nearest chroma) and PySceneDetect shrinks it by bilinear interpolation to 256 pixels
    along its longer side: each of its pixels depends on at most 2 x 2 of the video's. Those are gathered from the
    planes, converted by swscale and interpolated. Other formats than 8-bit 4:2:0 of even height take swscale's general
    path and are converted whole.

    Source: PySceneDetect 0.7 `SceneManager._process_frame`, `compute_downscale_factor`.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._known: dict[int, np.ndarray] = {}

    def score(self, before: DecodedFrame, frame: DecodedFrame) -> float:
        """Mean absolute HSV difference, 0..255; 0 for frames of different sizes."""
        pictures = [self._hsv(each) for each in (before, frame)]
        self._known = {frame.time.index: pictures[1]}
        if pictures[0].shape != pictures[1].shape:
            return 0.0
        return float(cv2.norm(pictures[0], pictures[1], cv2.NORM_L1)) / pictures[0].size

    def _hsv(self, frame: DecodedFrame) -> np.ndarray:
        known = self._known.get(frame.time.index)
        return cv2.cvtColor(self._shrunk(frame.image), cv2.COLOR_BGR2HSV) if known is None else known

    def _shrunk(self, image: av.VideoFrame) -> np.ndarray:
        factor = max(1.0, max(image.width, image.height) / _DOWNSCALED_LENGTH)
        width, height = (max(1, round(side / factor)) for side in (image.width, image.height))
        if image.format.name not in ("yuv420p", "yuvj420p") or image.height % 2:
            whole = self._reformatter.reformat(image, format="bgr24", interpolation="BICUBIC", threads=1).to_ndarray()
            return cv2.resize(whole, (width, height), interpolation=cv2.INTER_LINEAR)
        single = not _centres(image.height, height)[1].any() and not _centres(image.width, width)[1].any()
        rows, down = _taps(image.height, height, single)
        columns, across = _taps(image.width, width, single)
        bgr = self._gathered(image, rows.reshape(-1), columns.reshape(-1))
        if down is None or across is None:
            return bgr
        bgr = bgr.astype(np.int32).reshape(height * 2, width, 2, 3)
        lines = ((bgr[:, :, 0] * across[0] + bgr[:, :, 1] * across[1]) >> 4).reshape(height, 2, width, 3)
        mixed = (lines[:, 0] * down[0][:, None] >> 16) + (lines[:, 1] * down[1][:, None] >> 16)
        return (mixed + 2 >> 2).astype(np.uint8)

    def _gathered(self, image: av.VideoFrame, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The BGR pixels at the crossings of rows and columns, uint8 [R, C, 3]."""
        (luma, blue, red), _, _ = yuv_planes(image)
        doubled = np.repeat(np.repeat(luma[rows[:, None], columns], 2, axis=0), 2, axis=1)
        chroma = [plane[(rows // 2)[:, None], columns // 2].reshape(-1) for plane in (blue, red)]
        i420 = np.concatenate([doubled.reshape(-1), *chroma]).reshape(-1, doubled.shape[1])
        small = av.VideoFrame.from_ndarray(i420, format=image.format.name)
        small.colorspace, small.color_range = image.colorspace, image.color_range
        bgr = self._reformatter.reformat(small, format="bgr24", threads=1).to_ndarray()
        return np.ascontiguousarray(bgr[::2, ::2])


def _taps(source: int, target: int, single: bool) -> tuple[np.ndarray, list[np.ndarray] | None]:
    """For bilinear shrinking by pixel centres: source positions [target, 1 or 2] and the weights of both, [target, 1].

    OpenCV's arithmetic, to the bit: weights in 2048ths, the sums of a line cut to 16 levels a unit.
    Source: OpenCV `resize.cpp`, `HResizeLinear`, `VResizeLinear` of 8-bit pictures.
    """
    low, share = _centres(source, target)
    if single:
        return low[:, None], None
    positions = np.stack([low, low + 1], axis=1).clip(0, source - 1)
    upper = np.rint(share * 2048).astype(np.int32)[:, None]
    return positions, [2048 - upper, upper]


def _centres(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    centre = ((np.arange(target) + 0.5) * (source / target) - 0.5).astype(np.float32)
    low = np.floor(centre)
    return low.astype(int), centre - low
