"""Frames of a video in display order, each with its exact time and a small picture. No full-size RGB is ever made."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import av
import cv2
import numpy as np
from av.error import FFmpegError

_SCORE_WIDTH = 256  # PySceneDetect's automatic downscale aims at this width


class DecodeError(Exception):
    """The video gives no usable frames: `reason` is a quarantine code, `detail` a sentence."""

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class DecodedFrame:
    """One frame.

    `pts` counts `time_base` units and strictly grows; `index` counts frames from 0.
    """

    def __init__(self, frame: av.VideoFrame, index: int, pts: int, end_pts: int):
        self._frame = frame
        self.index = index
        self.pts = pts
        self.end_pts = end_pts

    @cached_property
    def score_yuv(self) -> np.ndarray:
        """I420 planes stacked, uint8 [H*3/2, 256], linearly sampled as PySceneDetect does; not rotated."""
        width = min(_SCORE_WIDTH, self._frame.width) & ~1
        height = max(2, round(self._frame.height * width / self._frame.width) & ~1)
        return self._i420(width, height, cv2.INTER_LINEAR)

    def small_bgr(self, short_side: int) -> np.ndarray:
        """The upright picture, uint8 [H, W, 3] BGR, short side at most `short_side`, never enlarged."""
        scale = min(1.0, short_side / min(self._frame.width, self._frame.height))
        width, height = (max(2, round(side * scale / 2) * 2) for side in (self._frame.width, self._frame.height))
        picture = cv2.cvtColor(self._i420(width, height, cv2.INTER_AREA), cv2.COLOR_YUV2BGR_I420)
        turns = round(self._frame.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture

    def _planes(self) -> list[np.ndarray] | None:
        """The decoder's own planes, for the commonest pixel format; None for all others."""
        frame = self._frame
        if frame.format.name != "yuv420p" or frame.width % 2 or frame.height % 2:
            return None
        sizes = [(frame.width, frame.height)] + [(frame.width // 2, frame.height // 2)] * 2
        return [_plane(plane, *size) for plane, size in zip(frame.planes, sizes, strict=True)]

    def _i420(self, width: int, height: int, interpolation: int) -> np.ndarray:
        planes = self._planes()
        if planes is None:
            return self._frame.reformat(width, height, "yuv420p").to_ndarray()
        sizes = [(width, height)] + [(width // 2, height // 2)] * 2
        small = [cv2.resize(p, size, interpolation=interpolation) for p, size in zip(planes, sizes, strict=True)]
        return np.concatenate([p.reshape(-1) for p in small]).reshape(height * 3 // 2, width)


def _plane(plane: av.video.plane.VideoPlane, width: int, height: int) -> np.ndarray:
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:height, :width]


@dataclass
class VideoReader:
    """An open video: iterate over it once. `num_errors` counts packets that did not decode.

    Raises: DecodeError `unreadable`, `no_video_stream` on opening, `no_frames` while iterating; MemoryError when
    FFmpeg gets no memory (the machine's fault, not the file's).
    """

    path: Path
    time_base: Fraction = Fraction(1, 1000)
    average_fps: Fraction = Fraction(0)
    num_errors: int = 0

    def __iter__(self) -> Iterator[DecodedFrame]:
        try:
            with av.open(str(self.path), metadata_errors="ignore") as container:
                yield from self._frames(container)
        except FFmpegError as error:
            if error.errno == errno.ENOMEM:
                raise MemoryError(error.strerror) from error
            raise DecodeError("unreadable", f"FFmpeg cannot read it: {error.strerror or error}") from error

    def _frames(self, container: av.container.InputContainer) -> Iterator[DecodedFrame]:
        pictures = av.stream.Disposition.attached_pic
        stream = next((s for s in container.streams.video if not s.disposition & pictures), None)
        if stream is None:
            raise DecodeError("no_video_stream", "the container holds no moving pictures")
        stream.thread_type = "AUTO"
        self.time_base = stream.time_base or self.time_base
        self.average_fps = stream.average_rate or Fraction(0)
        step = max(1, round(1 / (self.average_fps or 25) / self.time_base))
        index, last_end = 0, None
        for frame in self._decoded(container, stream):
            pts = frame.pts if frame.pts is not None else (0 if last_end is None else last_end)
            if last_end is not None and pts < last_end - step + 1:
                pts = last_end  # times that run backwards are moved behind the frame before
            last_end = pts + (frame.duration or step)
            yield DecodedFrame(frame, index, pts, last_end)
            index += 1
        if index == 0:
            raise DecodeError("no_frames", f"no frame decodes; {self.num_errors} broken packets")

    def _decoded(self, container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
        """Frames of all packets; a packet that does not decode is counted and left out."""
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                frames = packet.decode()
            except FFmpegError as error:
                if error.errno == errno.ENOMEM:
                    raise
                self.num_errors += 1
                if self.num_errors > 1000:
                    raise DecodeError("too_many_errors", "more than 1000 packets do not decode") from None
                continue
            yield from frames
