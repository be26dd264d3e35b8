"""Which frames of a clip are hashed: moments that a copy has too, wherever it begins and however it was encoded."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_SMOOTH_SECONDS = 0.121
"""Not 0.12 and 0.5: of usual frame rates no frame lies so near the edge of a window that rounding decides."""
_WINDOW_SECONDS = 0.501
_EDGE_SECONDS = 0.2
_GAP_SECONDS = 0.45
_LIMIT = 12
_LIMIT_SECONDS = 4.0
_MAX_LIMIT = 32


@dataclass(frozen=True)
class Moment:
    """A frame to hash: seconds from the start of the clip, luma uint8 [H, W], and how little moved around it."""

    seconds: float
    luma: np.ndarray
    motion: float = float("inf")


class MomentFinder:
    """Finds the frames around which, within half a second, the picture moves least.

    Motion is a property of what is shown, so a copy that was trimmed, scaled or encoded anew has its minima at the same
    frames (nine of ten on real footage, within 0.09 s), and where little moves a small error of time does no harm.
    """

    def __init__(self) -> None:
        self._times: list[float] = []
        self._sums: list[float] = [0.0]
        self._smooth: list[float] = []
        self._lumas: list[np.ndarray] = []
        self._decided = 0
        self._found: list[Moment] = []

    def add(self, seconds: float, motion: float, luma: np.ndarray) -> None:
        """Take the next frame; `motion` is its difference to the one before. That of the first counts as the second's."""
        if len(self._times) == 1:
            self._sums[1] = motion
        self._times.append(seconds)
        self._sums.append(self._sums[-1] + motion)
        self._lumas.append(luma)
        self._settle(seconds)

    def _settle(self, now: float, ended: bool = False) -> None:
        """Smooth and judge the frames whose surroundings are known."""
        times = self._times
        while len(self._smooth) < len(times) and (ended or times[len(self._smooth)] + _SMOOTH_SECONDS <= now):
            at = times[len(self._smooth)]
            first, last = bisect_left(times, at - _SMOOTH_SECONDS), bisect_right(times, at + _SMOOTH_SECONDS)
            self._smooth.append((self._sums[last] - self._sums[first]) / (last - first))
        known = times[len(self._smooth) - 1] if self._smooth else -1.0
        while self._decided < len(self._smooth) and (ended or times[self._decided] + _WINDOW_SECONDS <= known):
            if self._is_least(self._decided):
                self._keep(Moment(times[self._decided], self._lumas[self._decided].copy(), self._smooth[self._decided]))
            self._decided += 1
        if self._decided > 512:
            self._forget(bisect_left(times, times[self._decided - 1] - 2 * _WINDOW_SECONDS))

    def _is_least(self, place: int) -> bool:
        smooth, times = self._smooth, self._times
        value = smooth[place]
        if (place and smooth[place - 1] <= value) or (place + 1 < len(smooth) and smooth[place + 1] < value):
            return False
        first = bisect_left(times, times[place] - _WINDOW_SECONDS)
        last = bisect_right(times, times[place] + _WINDOW_SECONDS)
        return value <= min(smooth[first:last])

    def _keep(self, moment: Moment) -> None:
        self._found.append(moment)
        if len(self._found) > 4 * _MAX_LIMIT:
            self._found = _most_telling(self._found, 2 * _MAX_LIMIT)

    def _forget(self, count: int) -> None:
        """Let go of frames that no decision needs."""
        base = self._sums[count]
        self._sums = [value - base for value in self._sums[count:]]
        for values in (self._times, self._smooth, self._lumas):
            del values[:count]
        self._decided -= count

    def finish(self, seconds: float, others: Sequence[Moment]) -> list[Moment]:
        """The moments of a clip of this length, in order: 8, or one for 4 s of a long clip, at most.

        Args:
            others: frames at even times, for stretches without a moment and for clips too short to have one.
        """
        self._settle(seconds, ended=True)
        inside = [m for m in self._found if _EDGE_SECONDS <= m.seconds <= seconds - _EDGE_SECONDS]
        limit = int(min(_MAX_LIMIT, max(_LIMIT, seconds / _LIMIT_SECONDS)))
        chosen = sorted(_most_telling(inside, limit), key=lambda m: m.seconds)
        for other in others:
            if len(chosen) < limit and all(abs(other.seconds - m.seconds) > _GAP_SECONDS for m in chosen):
                chosen.append(other)
        if len(chosen) < 2 and len(others) > 1:
            chosen = [others[len(others) // 4], others[3 * len(others) // 4]]
        return sorted(chosen or others, key=lambda m: m.seconds)


def _most_telling(moments: list[Moment], limit: int) -> list[Moment]:
    """Those that are least for the longest time to either side: a trimmed copy has the same ones."""
    if len(moments) <= limit:
        return moments

    def reach(moment: Moment) -> float:
        return min((abs(m.seconds - moment.seconds) for m in moments if m.motion < moment.motion), default=float("inf"))

    kept = sorted(moments, key=lambda m: (-reach(m), m.seconds))[:limit]
    return sorted(kept, key=lambda m: m.seconds)
