"""Small upright pictures of frames, made only when they are wanted."""

from __future__ import annotations

import weakref
from collections import deque

import av
import cv2
import numpy as np
from av.video.reformatter import Colorspace, VideoReformatter

from internvid_assets.clips.decode import yuv_planes

_HELD_BYTES = 192 * 2**20
_HD_LINES = 720
_HALVED_FORMATS = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "yuv420p10le")
_MATRICES = {matrix.value for matrix in Colorspace}


class PictureMaker:
    """Makes pictures of a short side of at most `short_side` pixels, never enlarged, as JPEG.

    Decoded frames are kept as they are while they fit into a budget of bytes; the oldest are shrunk when they do not.
    """

    def __init__(self, short_side: int, quality: int, pixel_aspect: float = 1.0):
        self._short_side = short_side
        self._quality = quality
        self._pixel_aspect = pixel_aspect
        self._reformatter = VideoReformatter()
        self._held: deque[weakref.ref[Picture]] = deque()
        self._size = (0, 0)
        self._limit = 1

    def picture(self, image: av.VideoFrame) -> Picture:
        """A picture to be, of one frame."""
        picture = Picture(self, image)
        self._held.append(weakref.ref(picture))
        size = (image.width, image.height)
        if size != self._size:
            self._size, self._limit = size, max(1, _HELD_BYTES // _num_bytes(image))
        limit = self._limit
        if len(self._held) > limit:
            alive = [(reference, reference()) for reference in self._held]
            kept = [reference for reference, held in alive if held is not None and held.is_held]
            for reference in kept[: max(0, len(kept) - limit)]:
                oldest = reference()
                if oldest is not None:
                    oldest.jpeg()
            self._held = deque(kept[max(0, len(kept) - limit) :])
        return picture

    def encode(self, image: av.VideoFrame) -> bytes:
        """The JPEG of a frame: area-averaged, square pixels, its own colour matrix (BT.709 for HD that names none)."""
        width, height = image.width * max(1.0, self._pixel_aspect), image.height / min(1.0, self._pixel_aspect)
        scale = min(1.0, self._short_side / min(width, height))
        matrix = image.colorspace
        if matrix not in _MATRICES:
            matrix = Colorspace.ITU709 if image.height >= _HD_LINES else Colorspace.ITU601
        size = max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)
        small = self._reformatter.reformat(
            halved(image, size),
            *size,
            "bgr24",
            src_colorspace=matrix,
            interpolation="AREA",
            threads=1,
        )
        upright = np.rot90(small.to_ndarray(), round(image.rotation / 90) % 4)
        done, data = cv2.imencode(".jpg", np.ascontiguousarray(upright), [cv2.IMWRITE_JPEG_QUALITY, self._quality])
        assert done
        return data.tobytes()


class Picture:
    """A frame that will become a JPEG, if it is wanted."""

    __slots__ = ("__weakref__", "_image", "_jpeg", "_maker")

    def __init__(self, maker: PictureMaker, image: av.VideoFrame):
        self._maker = maker
        self._image: av.VideoFrame | None = image
        self._jpeg = b""

    @property
    def is_held(self) -> bool:
        """Whether the decoded frame is still in memory."""
        return self._image is not None

    def jpeg(self) -> bytes:
        """The picture; the decoded frame is let go."""
        if self._image is not None:
            self._jpeg, self._image = self._maker.encode(self._image), None
        return self._jpeg


def _num_bytes(image: av.VideoFrame) -> int:
    return max(1, sum(plane.buffer_size for plane in image.planes))


def halved(image: av.VideoFrame, size: tuple[int, int]) -> av.VideoFrame:
    """The frame halved, by means of 2 x 2 pixels, as often as it stays above `size`: a third of swscale's time.

    Frames of other formats or odd sizes come back as they are.
    """
    while (
        image.format.name in _HALVED_FORMATS
        and image.width % 4 == image.height % 4 == 0
        and image.width >= 2 * size[0]
        and image.height >= 2 * size[1]
    ):
        half = av.VideoFrame(image.width // 2, image.height // 2, image.format.name)
        half.colorspace, half.color_range = image.colorspace, image.color_range
        for source, target in zip(yuv_planes(image)[0], yuv_planes(half)[0], strict=True):
            cv2.resize(source, target.shape[::-1], target, interpolation=cv2.INTER_AREA)
        image = half
    return image
