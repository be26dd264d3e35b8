"""Subtitles that came with a video, as files beside it or streams inside it, and the words of a span."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
from av.error import FFmpegError

_TIME = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{2})[.,](\d{1,3})")
_TAG = re.compile(r"<[^>]*>|\{\\[^}]*\}")
_THREE_LETTERS = {
    "ara": "ar", "chi": "zh", "zho": "zh", "deu": "de", "ger": "de", "dut": "nl", "nld": "nl", "eng": "en", "fra": "fr",
    "fre": "fr", "hin": "hi", "ind": "id", "ita": "it", "jpn": "ja", "kor": "ko", "pol": "pl", "por": "pt", "rus": "ru",
    "spa": "es", "swe": "sv", "tha": "th", "tur": "tr", "ukr": "uk", "vie": "vi",
}  # fmt: skip
"""ISO 639-2 codes, as containers carry them, of the languages one meets most."""


@dataclass(frozen=True)
class Cue:
    """Words shown in [start, end) seconds of the video."""

    start_seconds: float
    end_seconds: float
    text: str


@dataclass(frozen=True)
class Track:
    """The cues of one subtitle file or stream; `language` is an ISO 639-1 code where the source names it."""

    cues: tuple[Cue, ...]
    language: str | None = None


def track_beside(video: Path, language: str) -> Track | None:
    """`video.srt`, `video.vtt` or `video.LANG.srt|vtt` beside a video file, in the wanted language if there is a choice."""
    found = sorted(p for p in video.parent.glob(f"{glob_escape(video.stem)}.*") if p.suffix.lower() in (".srt", ".vtt"))
    tracks = [Track(tuple(parse(p.read_text(errors="replace"))), _named_language(p, video)) for p in found]
    return _best(tracks, language)


def track_of(files: Sequence[Path], language: str) -> Track | None:
    """The subtitle file `NAME.LANGUAGE.srt|vtt` in the wanted language, else the first that can be read; None without."""
    tracks = [
        Track(tuple(parse(p.read_text(errors="replace"))), language_code(p.stem.partition(".")[2])) for p in files
    ]
    return _best(tracks, language)


def _named_language(path: Path, video: Path) -> str | None:
    """`en` of `video.en.srt`, `video.en-US.vtt` or `video.eng.srt`."""
    return language_code(path.stem.removeprefix(video.stem).strip("."))


def language_code(name: str | None) -> str | None:
    """The ISO 639-1 code of a tag such as `en`, `en-US`, `eng`; None for what is no language tag."""
    tag = re.split(r"[-_]", (name or "").lower())[0]
    return _THREE_LETTERS.get(tag) or (tag if re.fullmatch("[a-z]{2}", tag) else None)


def _best(tracks: Sequence[Track], language: str) -> Track | None:
    told = [track for track in tracks if track.cues]
    return next((track for track in told if track.language == language), told[0] if told else None)


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


def track_inside(video: Path, language: str) -> Track | None:
    """The text subtitle stream in the wanted language, else the first one that can be read; None without."""
    tracks = []
    try:
        with av.open(str(video)) as container:
            streams = list(container.streams.subtitles)
            starts = [s.start_time * s.time_base for s in container.streams.video if s.start_time and s.time_base]
        for index, stream in enumerate(streams):
            tracks.append(
                Track(
                    tuple(_cues_of(video, index, float(min(starts, default=0)))),
                    language_code(stream.metadata.get("language")),
                )
            )
    except FFmpegError:
        return _best(tracks, language)
    return _best(tracks, language)


def _cues_of(video: Path, index: int, zero_seconds: float) -> Iterator[Cue]:
    """The cues of one subtitle stream, in seconds from the first video frame."""
    with av.open(str(video)) as container:
        for packet in container.demux(container.streams.subtitles[index]):
            if packet.pts is None or packet.time_base is None:
                continue
            start = float(packet.pts * packet.time_base) - zero_seconds
            end = start + float((packet.duration or 0) * packet.time_base)
            words = " ".join(_ass_text(subtitle) for subtitle in packet.decode())
            if words.strip():
                yield Cue(start, end, words.strip())


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
