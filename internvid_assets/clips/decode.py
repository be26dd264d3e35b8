"""Frames of a video in display order, each with its exact time. They stay in the decoder's own planes: no RGB here."""

from __future__ import annotations

import ctypes
import errno
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.codec.hwaccel import HWAccel
from av.error import FFmpegError

from internvid_assets.clips.skipping import PacketSkipper
from internvid_assets.videos.container import truncated_box

DECODERS = ("pyav", "nvdec", "decord")
_DEFAULT_FPS = 25
_MAX_BROKEN_PACKETS = 1000
_MAX_PIXEL_ASPECT = 10
"""A header that asks for more stretched pixels is wrong: they are taken as square."""


class DecodeError(Exception):
    """The video gives no usable frames: `reason` is a quarantine code, `detail` a sentence."""

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class DecodeOptions:
    """How a video is decoded.

    `decoder`: `pyav` (FFmpeg on the CPU), `nvdec` (FFmpeg's CUDA decoder; frames come back as NV12) or `decord` (its own
    reader, on the GPU in CUDA builds). `threads`: of one video; 1 costs least CPU, 0 takes all cores. `fast`
    skips the loop filter but of key frames (slightly blocky pictures), and frames to which no other refers except where the
    sizes of the packets hint at a cut.
    """

    decoder: str = "pyav"
    threads: int = 1
    fast: bool = False
    max_pixels: int = 8192 * 8192
    max_seconds: float = 12 * 3600.0

    def __post_init__(self) -> None:
        if self.decoder not in DECODERS:
            raise ValueError(f"decoder {self.decoder!r} is unknown: choose one of {', '.join(DECODERS)}")
        if self.threads < 0 or self.max_pixels < 1 or self.max_seconds <= 0:
            raise ValueError(f"threads must be 0 or more, max_pixels and max_seconds positive: {self}")

    def require(self) -> None:
        """Raises: ValueError when this machine lacks what the chosen decoder needs."""
        if self.decoder == "nvdec":
            try:
                ctypes.CDLL("libcuda.so.1")
            except OSError:
                raise ValueError("decoder 'nvdec' needs an NVIDIA GPU and its driver: set decoder to 'pyav'") from None
        if self.decoder == "decord" and importlib.util.find_spec("decord") is None:
            raise ValueError("decoder 'decord' is not installed: pip install decord2, or a CUDA build of decord")


@dataclass(slots=True)
class FrameTime:
    """When a frame is shown: [pts, end_pts) in the reader's `time_base` units; `pts` strictly grows, `index` counts from 0.

    `count` is how many frames of the video it stands for: more than 1 where the reader left out those that follow.
    """

    index: int
    pts: int
    end_pts: int
    count: int = 1

    @property
    def end_index(self) -> int:
        """The index of the first frame after it."""
        return self.index + self.count


class DecodedFrame(NamedTuple):
    """One frame as the decoder gave it."""

    time: FrameTime
    image: av.VideoFrame


def yuv_planes(image: av.VideoFrame) -> tuple[list[np.ndarray], int, tuple[int, int]]:
    """The planes Y, U, V as [H, W] views without a copy, their bits a sample, and (vertical, horizontal) subsampling.

    Planar YUV of any depth and NV12/P010 are viewed as they are; other formats (grey, RGB, palette) are converted.
    """
    layout = _plane_layout(image.format.name, image.width, image.height)
    if layout is None:
        return yuv_planes(image.reformat(format="yuv420p"))
    sources, size = image.planes, layout.dtype.itemsize
    planes = []
    for plane, start, step, height, width in layout.views:
        strides = sources[plane].line_size, step * size
        planes.append(np.ndarray((height, width), layout.dtype, memoryview(sources[plane]), start * size, strides))
    return planes, layout.bits, layout.subsampling


class _PlaneLayout(NamedTuple):
    views: list[tuple[int, int, int, int, int]]
    """Of Y, U, V: plane, first sample, step between samples, height, width."""
    dtype: np.dtype
    bits: int
    subsampling: tuple[int, int]


@lru_cache(maxsize=32)
def _plane_layout(name: str, width: int, height: int) -> _PlaneLayout | None:
    interleaved = name in ("nv12", "p010le")
    if not interleaved and (not name.startswith("yuv") or "p" not in name or name.endswith("be")):
        return None
    luma, blue, red = av.VideoFormat(name, width, height).components[:3]
    chroma = [(1, 0, 2), (1, 1, 2)] if interleaved else [(1, 0, 1), (2, 0, 1)]
    views = [(0, 0, 1, height, width)]
    views += [(*where, c.height, c.width) for where, c in zip(chroma, (blue, red), strict=True)]
    bits = 16 if name == "p010le" else luma.bits  # P010 keeps its ten bits at the upper end of the word
    sub = max(1, round(height / blue.height)), max(1, round(width / blue.width))
    return _PlaneLayout(views, np.dtype(np.uint8 if bits == 8 else np.uint16), bits, sub)


def to_seconds(pts: int, time_base: Fraction) -> float:
    """A span of `time_base` units in seconds, correctly rounded."""
    return pts * time_base.numerator / time_base.denominator


@dataclass
class VideoReader:
    """A video to iterate over once; the facts below hold after the first frame, the counts after the last.

    Raises: DecodeError on iterating: `unreadable`, `truncated`, `no_video_stream`, `unknown_codec`, `absurd_dimensions`, `no_frames`,
    `single_frame`, `no_frame_rate`, `corrupt`, `endless`; MemoryError when FFmpeg gets no memory (the machine's fault,
    not the file's).
    """

    path: Path
    options: DecodeOptions = field(default_factory=DecodeOptions)
    time_base: Fraction = Fraction(1, 1000)
    average_fps: Fraction = Fraction(0)
    pixel_aspect: Fraction = Fraction(1)
    num_errors: int = 0
    """Packets that did not decode, and frames that the decoder calls corrupt."""
    declared_seconds: float = 0.0
    """What the container says; 0 when it does not."""

    def __iter__(self) -> Iterator[DecodedFrame]:
        if self.options.decoder == "decord":
            from internvid_assets.clips.decord import decord_frames

            yield from self._checked(decord_frames(self))
            return
        try:
            with av.open(str(self.path), metadata_errors="ignore", hwaccel=self._hwaccel()) as container:
                yield from self._checked(self._timed(container))
        except FFmpegError as error:
            if error.errno == errno.ENOMEM:
                raise MemoryError(error.strerror) from error
            self._require_whole_file()
            raise DecodeError("unreadable", f"FFmpeg cannot read it: {error.strerror or error}") from error

    def _require_whole_file(self) -> None:
        missing = truncated_box(self.path)
        if missing:
            raise DecodeError("truncated", f"the file is cut short: {missing}")

    def _hwaccel(self) -> HWAccel | None:
        if self.options.decoder != "nvdec":
            return None
        return HWAccel("cuda", allow_software_fallback=False)

    def _checked(self, frames: Iterator[DecodedFrame]) -> Iterator[DecodedFrame]:
        """The frames, or the reason why they are no video."""
        first = last = None
        latest = 0
        for frame in frames:
            if first is None:
                first = frame.time
                latest = first.pts + int(self.options.max_seconds / self.time_base)
            if frame.time.end_pts > latest:
                raise DecodeError("endless", f"frames go on after {self.options.max_seconds:g} s")
            last = frame.time
            yield frame
        if first is None or last is None:
            self._require_whole_file()
            raise DecodeError("no_frames", f"no frame decodes; {self.num_errors} broken packets")
        if last is first:
            raise DecodeError("single_frame", "the video is one still picture")

    def _timed(self, container: av.container.InputContainer) -> Iterator[DecodedFrame]:
        stream = self._opened(container)
        step = max(1, round(1 / (self.average_fps or _DEFAULT_FPS) / self.time_base))
        skipper = PacketSkipper() if self.options.fast else None
        waiting: DecodedFrame | None = None
        moves = False
        for image in self._decoded(container, stream, skipper):
            last = waiting.time if waiting else None
            pts = image.pts if image.pts is not None else (last.end_pts if last else 0)
            if last and pts <= last.pts:
                pts = last.end_pts  # times that run backwards are moved behind the frame before
            elif last:
                moves = True
            if waiting and last:
                num_skipped = skipper.num_skipped_before(pts) if skipper else 0
                last = FrameTime(last.index, last.pts, pts, 1 + num_skipped)
                yield DecodedFrame(last, waiting.image)
            duration = image.duration if image.duration and image.duration > 0 else step
            waiting = DecodedFrame(FrameTime(last.end_index if last else 0, pts, pts + duration), image)
        if waiting:
            time = waiting.time
            count = 1 + (skipper.num_skipped_before(None) if skipper else 0)
            end_pts = time.pts + count * (time.end_pts - time.pts)
            yield DecodedFrame(FrameTime(time.index, time.pts, end_pts, count), waiting.image)
            if time.index and not moves and not self.average_fps:
                raise DecodeError("no_frame_rate", "all frames have one time, and the container gives no rate")

    def _opened(self, container: av.container.InputContainer) -> av.VideoStream:
        pictures = av.stream.Disposition.attached_pic
        stream = next((s for s in container.streams.video if not s.disposition & pictures), None)
        if stream is None:
            self._require_whole_file()
            raise DecodeError("no_video_stream", "the container holds no moving pictures")
        if stream.codec_context is None:
            raise DecodeError("unknown_codec", "FFmpeg has no decoder for the video stream")
        if stream.width * stream.height > self.options.max_pixels:
            raise DecodeError("absurd_dimensions", f"{stream.width} x {stream.height} pixels: above max_pixels")
        stream.thread_type = "NONE" if self.options.threads == 1 else "AUTO"
        stream.codec_context.thread_count = self.options.threads
        if self.options.fast:
            stream.codec_context.options = {"skip_loop_filter": "nokey"}
        self.time_base = stream.time_base or self.time_base
        self.average_fps = stream.average_rate or Fraction(0)
        aspect = stream.sample_aspect_ratio or Fraction(1)
        self.pixel_aspect = aspect if 1 / _MAX_PIXEL_ASPECT <= aspect <= _MAX_PIXEL_ASPECT else Fraction(1)
        self.declared_seconds = float(stream.duration * self.time_base) if stream.duration else 0.0
        return stream

    def _decoded(
        self, container: av.container.InputContainer, stream: av.VideoStream, skipper: PacketSkipper | None
    ) -> Iterator[av.VideoFrame]:
        """Frames of all packets; a packet that does not decode is counted and left out."""
        packets, reading_failed = container.demux(stream), False
        while True:
            try:
                packet = next(packets, None)
                reading_failed = False
            except IndexError:  # PyAV does not know a stream that begins in the middle of a transport stream
                packets = container.demux(stream)
                continue
            except FFmpegError as error:
                self._count_error(error)
                if reading_failed:
                    return
                packets, reading_failed = container.demux(stream), True
                continue
            if packet is None:
                return
            if skipper is not None:
                stream.codec_context.skip_frame = "NONREF" if skipper.may_skip(packet) else "DEFAULT"
            try:
                frames = packet.decode()
            except FFmpegError as error:
                self._count_error(error)
                continue
            for frame in frames:
                self.num_errors += frame.is_corrupt
                yield frame

    def _count_error(self, error: FFmpegError) -> None:
        if error.errno == errno.ENOMEM:
            raise error
        self.num_errors += 1
        if self.num_errors > _MAX_BROKEN_PACKETS:
            raise DecodeError("corrupt", f"more than {_MAX_BROKEN_PACKETS} packets do not decode")
