"""Wanted spans of a video: as people write them, in order, half-open, in seconds from its first frame."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

Section = tuple[float, float]
_TIME = re.compile(r"(?:(?:(\d+):)?(\d{1,3}):)?(\d+(?:\.\d+)?)")
_RANGE = re.compile(r"^\*?\s*([\d:.]+)\s*-\s*([\d:.]+)$")
_MAX_SECONDS = 1e5


def parse_seconds(value: Any) -> float:
    """Seconds of a number, `95.5`, `1:35.5` or `00:01:35.500`. Raises: ValueError naming the value."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"time {value!r} must be seconds or HH:MM:SS.mmm")
    if isinstance(value, str):
        match = _TIME.fullmatch(value.strip())
        if match is None:
            raise ValueError(f"time {value!r} must be seconds or HH:MM:SS.mmm")
        hours, minutes, seconds = (float(part or 0) for part in match.groups())
        value = hours * 3600 + minutes * 60 + seconds
    if not (math.isfinite(value) and 0 <= value < _MAX_SECONDS):
        raise ValueError(f"time {value!r} must be at least 0 and below {_MAX_SECONDS:.0f} s")
    return round(float(value), 3)


def format_seconds(seconds: float) -> str:
    """`HH:MM:SS.mmm`, as InternVid writes times."""
    milliseconds = round(seconds * 1000)
    return (
        f"{milliseconds // 3_600_000:02d}:{milliseconds // 60_000 % 60:02d}:{milliseconds // 1000 % 60:02d}"
        f".{milliseconds % 1000:03d}"
    )


def parse_sections(value: Any) -> list[Section]:
    """Sections of a list of pairs or `START-END` texts, of such a list as JSON, or of texts with commas between.

    Worked example: `"0:10-0:20, 65-1:10.5"` gives [(10.0, 20.0), (65.0, 70.5)].

    Raises: ValueError naming what is wrong.
    """
    if value is None or value == "":
        return []
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"sections {value!r} are not JSON: {error}") from error
    if isinstance(value, str):
        value = [part for part in re.split(r"[,;]", value) if part.strip()]
    if not isinstance(value, Sequence):
        raise ValueError(f"sections {value!r} must be a list of [start, end] or START-END")
    if len(value) == 2 and all(isinstance(part, int | float) for part in value):
        value = [value]
    return [_section(part) for part in value]


def _section(value: Any) -> Section:
    if isinstance(value, str):
        match = _RANGE.match(value.strip())
        if match is None:
            raise ValueError(f"section {value!r} must be START-END, such as 00:01:00-00:01:30")
        value = match.groups()
    if not isinstance(value, Sequence) or len(value) != 2:
        raise ValueError(f"section {value!r} must be [start, end]")
    start, end = map(parse_seconds, value)
    if start >= end:
        raise ValueError(f"section {start:g}-{end:g} must end after it starts")
    return start, end


def in_order(
    sections: Sequence[Section], captions: Sequence[str | None] | None = None
) -> list[tuple[Section, str | None]]:
    """Each different section once, by start and end, with the first caption that it has."""
    found: dict[Section, str | None] = {}
    for section, caption in zip(sections, captions or [None] * len(sections), strict=True):
        found[section] = found.get(section) or caption
    return sorted(found.items())


def disjoint(sections: Sequence[Section]) -> list[Section]:
    """The same seconds as spans that do not overlap, in order; touching sections stay apart.

    Worked example: [(0, 10), (5, 20), (20, 30)] gives [(0, 20), (20, 30)].
    """
    merged: list[Section] = []
    for start, end in sorted(sections):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
