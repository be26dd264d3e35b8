"""What a file's headers and its first frame say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
from av.error import FFmpegError

from internvid_assets.lake.stage import Refusal
from internvid_assets.videos.container import truncated_box

_CONTAINER_MARKS = (
    b"ftyp",
    b"moov",
    b"mdat",
    b"\x1aE\xdf\xa3",
    b"RIFF",
    b"FLV",
    b"\x00\x00\x01\xba",
    b"OggS",
    b"0&\xb2u",
)
"""MP4/MOV, Matroska/WebM, AVI, FLV, MPEG, Ogg, ASF: what the first bytes of a video file hold."""


@dataclass(frozen=True)
class VideoFacts:
    """A container's first video stream. Sizes are as displayed; `average_fps` is 0 when the container does not say."""

    container: str
    video_codec: str
    pixel_format: str
    width: int
    height: int
    rotation: int
    average_fps: float
    duration_seconds: float
    has_audio: bool
    has_subtitles: bool


def probe(path: Path) -> VideoFacts | Refusal:
    """The facts of a video file, or the reason why there are none.

    Reasons: `empty_file`, `not_a_video` (no container's mark), `truncated` (an MP4 cut short before its index),
    `unreadable` (a broken one), `no_video_stream`, `unknown_codec`, `no_dimensions`, `no_frames` (nothing decodes).
    """
    if path.stat().st_size == 0:
        return Refusal("empty_file", "the file has no bytes")
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            return _facts(container)
    except FFmpegError as error:
        missing = truncated_box(path)
        if missing:
            return Refusal("truncated", f"the file is cut short: {missing}")
        with path.open("rb") as file:
            head = file.read(16)
        known = any(mark in head for mark in _CONTAINER_MARKS)
        return Refusal("unreadable" if known else "not_a_video", f"FFmpeg cannot read it: {error.strerror or error}")


def _facts(container: av.container.InputContainer) -> VideoFacts | Refusal:
    pictures = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & pictures]
    if not streams:
        return Refusal("no_video_stream", f"streams: {', '.join(s.type for s in container.streams) or 'none'}")
    stream = streams[0]
    context = stream.codec_context
    if context is None:
        return Refusal("unknown_codec", "no decoder for the video stream")
    if not (context.width and context.height):
        return Refusal("no_dimensions", "the header gives no picture size")
    duration_seconds = _duration_seconds(container, stream)
    frame = next(container.decode(stream), None)
    if frame is None:
        return Refusal("no_frames", "no frame can be decoded")
    rotation = -frame.rotation % 360  # FFmpeg counts anticlockwise
    width, height = (frame.height, frame.width) if rotation % 180 else (frame.width, frame.height)
    return VideoFacts(
        container=container.format.name,
        video_codec=context.name,
        pixel_format=context.pix_fmt or "",
        width=width,
        height=height,
        rotation=rotation,
        average_fps=float(stream.average_rate or 0),
        duration_seconds=duration_seconds,
        has_audio=bool(container.streams.audio),
        has_subtitles=bool(container.streams.subtitles),
    )


def _duration_seconds(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return float(container.duration or 0) / av.time_base
