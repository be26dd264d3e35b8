"""Span arithmetic: the one place where times become ids. Spans are half-open, [start, end)."""

from __future__ import annotations

_MAX_MS = 10**8


def milliseconds(seconds: float) -> int:
    """Nearest whole millisecond of a time from a video's first frame. Raises: ValueError below 0 or from 10^5 s on."""
    value = round(seconds * 1000)
    if not 0 <= value < _MAX_MS:
        raise ValueError(f"time {seconds} s does not fit an id: it must be at least 0 and below {_MAX_MS // 1000} s")
    return value


def clip_id(video_id: str, start_seconds: float, end_seconds: float) -> str:
    """`{video_id}_{start_ms:08d}_{end_ms:08d}`. Raises: ValueError when the span is empty after rounding."""
    start, end = milliseconds(start_seconds), milliseconds(end_seconds)
    if start >= end:
        raise ValueError(f"span [{start_seconds}, {end_seconds}) of video {video_id} is shorter than a millisecond")
    return f"{video_id}_{start:08d}_{end:08d}"


def parse_clip_id(identity: str) -> tuple[str, float, float]:
    """Video id, start and end seconds of a clip id. Raises: ValueError for anything else."""
    video_id, start, end = ([*identity.rsplit("_", 2), "", ""])[:3]
    if not (video_id and start.isdigit() and end.isdigit()):
        raise ValueError(f"{identity!r} is no clip id: wanted VIDEO_STARTMS_ENDMS")
    return video_id, int(start) / 1000, int(end) / 1000
