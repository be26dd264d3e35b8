"""Subtitles that came with a video, as cues, and their share in a span."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
from av.error import FFmpegError

_TIME = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{2})[.,](\d{1,3})")
_TAG = re.compile(r"<[^>]*>|\{\\[^}]*\}")


@dataclass(frozen=True)
class Cue:
    """Words shown in [start, end) seconds of the video."""

    start_seconds: float
    end_seconds: float
    text: str


def cues_beside(video: Path) -> list[Cue]:
    """The cues of `video.srt`, `video.vtt` or `video.LANG.srt|vtt` beside a video file; none when there is no file."""
    found = sorted(p for p in video.parent.glob(f"{glob_escape(video.stem)}*") if p.suffix.lower() in (".srt", ".vtt"))
    return parse(found[0].read_text(errors="replace")) if found else []


def glob_escape(text: str) -> str:
    """The text with characters that mean something in a glob made literal."""
    return re.sub(r"([*?[])", r"[\1]", text)


def parse(text: str) -> list[Cue]:
    """The cues of SubRip or WebVTT text, in order. Blocks without a time line are left out."""
    cues = []
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n").lstrip("\ufeff")):
        lines = block.strip().split("\n")
        at = next((i for i, line in enumerate(lines) if "-->" in line), None)
        if at is None:
            continue
        times = [_seconds(m) for m in _TIME.finditer(lines[at])]
        words = " ".join(_TAG.sub("", " ".join(lines[at + 1 :])).split())
        if len(times) >= 2 and words:
            cues.append(Cue(times[0], times[1], words))
    return cues


def _seconds(match: re.Match[str]) -> float:
    hours, minutes, seconds, fraction = match.groups()
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + int(fraction.ljust(3, "0")) / 1000


def cues_inside(video: Path) -> list[Cue]:
    """The cues of the first text subtitle stream; none when there is none or it cannot be read."""
    cues = []
    try:
        with av.open(str(video)) as container:
            if not container.streams.subtitles:
                return []
            stream = container.streams.subtitles[0]
            for packet in container.demux(stream):
                if packet.pts is None or packet.time_base is None:
                    continue
                start = float(packet.pts * packet.time_base)
                end = start + float((packet.duration or 0) * packet.time_base)
                words = " ".join(_ass_text(subtitle) for subtitle in packet.decode())
                if words.strip():
                    cues.append(Cue(start, end, words.strip()))
    except FFmpegError:
        return []
    return cues


def _ass_text(subtitle: object) -> str:
    dialogue = getattr(subtitle, "dialogue", b"")
    return " ".join(_TAG.sub("", dialogue.decode(errors="replace").replace("\\N", " ")).split())


def text_in_span(cues: Sequence[Cue], start_seconds: float, end_seconds: float) -> str:
    """The words of all cues of which at least half lies in the half-open span."""
    inside = []
    for cue in cues:
        overlap = min(cue.end_seconds, end_seconds) - max(cue.start_seconds, start_seconds)
        if overlap > 0 and overlap >= 0.5 * (cue.end_seconds - cue.start_seconds):
            inside.append(cue.text)
    return " ".join(inside)
