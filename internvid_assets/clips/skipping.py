"""Which frames need not be decoded to find cuts, told from packet sizes before decoding."""

from __future__ import annotations

import heapq
from collections import deque
from statistics import median

import av

_REMEMBERED = 12
_LARGE, _TINY, _LARGE_BETWEEN = 1.25, 0.5, 0.6
"""Sizes, relative to the median of the last anchors: an anchor beyond the first may show something new, one below the
second something plain (a flash, black); a frame between that is above the third is ill predicted from both sides."""


class PacketSkipper:
    """A cut makes the first reference frame behind it costly, for nothing before it predicts it.

    Packets come in decoding order: one that is shown after all earlier ones is an anchor, those between it and the next
    anchor are shown before it. They may be skipped, if no frame refers to them, unless their size or their anchor's is
    suspicious.
    """

    def __init__(self) -> None:
        self._sizes: deque[int] = deque(maxlen=_REMEMBERED)
        self._latest: int | None = None
        self._usual = 0.0
        self._after_tiny = False
        self._suspicious = True
        self._pending: list[int] = []

    def may_skip(self, packet: av.Packet) -> bool:
        """Whether the decoder may leave the packet out if no other frame refers to it."""
        if packet.pts is None or not packet.size:
            return False
        heapq.heappush(self._pending, packet.pts)
        if self._latest is not None and packet.pts < self._latest:
            return not self._suspicious and packet.size < _LARGE_BETWEEN * self._usual
        self._latest = packet.pts
        usual = self._usual = median(self._sizes) if len(self._sizes) >= 3 else 0.0
        is_tiny = packet.size < _TINY * usual
        self._suspicious = packet.is_keyframe or is_tiny or self._after_tiny or packet.size > _LARGE * usual
        self._after_tiny = is_tiny
        if not packet.is_keyframe:
            self._sizes.append(packet.size)
        return False

    def num_skipped_before(self, pts: int | None) -> int:
        """How many packets shown before a frame that was just given out (None: before the end) gave no frame.

        To be called for each frame from the second on, in order of display.
        """
        shown = 0
        while self._pending and (pts is None or self._pending[0] < pts):
            heapq.heappop(self._pending)
            shown += 1
        return max(0, shown - 1)
