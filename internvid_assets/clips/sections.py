"""To which of a video's wanted sections a frame belongs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from internvid_assets.videos.sections import disjoint

_ROUNDED_SECONDS = 0.0005
"""Sections are given in whole milliseconds; frames are where they are."""


class Sections:
    """Wanted spans in seconds from the first frame, overlapping ones joined; none: all of the video."""

    def __init__(self, sections: Sequence[tuple[float, float]]):
        self._spans = disjoint(sections)
        self._starts = [start for start, _ in self._spans]

    def __bool__(self) -> bool:
        """Whether only some of the video is wanted."""
        return bool(self._spans)

    def at(self, seconds: float) -> int | None:
        """The number of the section that a frame which is shown at this time lies in; None outside of all."""
        seconds += _ROUNDED_SECONDS
        number = bisect_right(self._starts, seconds) - 1
        return number if number >= 0 and seconds < self._spans[number][1] else None
