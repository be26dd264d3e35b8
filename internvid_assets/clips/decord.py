"""The optional `decord` reader: small RGB frames, on the GPU in CUDA builds (https://github.com/dmlc/decord)."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import av

from internvid_assets.clips.decode import DecodedFrame, DecodeError, FrameTime

if TYPE_CHECKING:
    from internvid_assets.clips.decode import VideoReader

_SHORT_SIDE = 256
_MIN_WIDTH = 256
"""decord2 3.4 fails to copy some narrower frames: they are enlarged."""
_CHUNK = 16


def decord_frames(reader: VideoReader) -> Iterator[DecodedFrame]:
    """The frames of a reader's video, short side 256; times are decord's, in microseconds.

    Differs: decord gives neither the stream's own time base nor its rotation, colour space and broken packets.
    """
    import decord

    context = decord.gpu(0) if _has_gpu(decord) else decord.cpu(0)
    try:
        probe = decord.VideoReader(str(reader.path), ctx=context)
        height, width = probe[0].shape[:2]
        scale = max(min(1.0, _SHORT_SIDE / min(height, width)), _MIN_WIDTH / width)
        size = [max(2, round(side * scale / 2) * 2) for side in (width, height)]
        video = decord.VideoReader(str(reader.path), ctx=context, width=size[0], height=size[1])
    except (decord.DECORDError, RuntimeError) as error:
        raise DecodeError("unreadable", f"decord cannot read it: {str(error).splitlines()[0]}") from error
    reader.time_base = Fraction(1, 10**6)
    reader.average_fps = Fraction(video.get_avg_fps()).limit_denominator(1001)
    for start in range(0, len(video), _CHUNK):
        numbers = list(range(start, min(start + _CHUNK, len(video))))
        times = (video.get_frame_timestamp(numbers) * 1e6).round().astype(int).tolist()
        for number, picture, (begin, end) in zip(numbers, video.get_batch(numbers).asnumpy(), times, strict=True):
            yield DecodedFrame(FrameTime(number, begin, end), av.VideoFrame.from_ndarray(picture, format="rgb24"))


def _has_gpu(decord) -> bool:
    try:
        return bool(decord.gpu(0)) and decord.nd.array([0], ctx=decord.gpu(0)) is not None
    except (decord.DECORDError, AttributeError):
        return False
