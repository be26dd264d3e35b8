"""Evenly spaced samples of a stream whose length is not known beforehand, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class StreamSampler(Generic[T]):
    """Keeps at most `limit` samples at least `step` apart; when full, every second one goes and the step doubles.

    With room for 3 n of a stream's items, one lies within a third of a spacing of each of n even positions.
    """

    limit: int
    step: float
    positions: list[float] = field(default_factory=list)
    items: list[T] = field(default_factory=list)

    def offer(self, position: float, item: T) -> bool:
        """Take the item at a position behind all earlier ones, if it is far enough from the last one kept; whether it is."""
        if self.positions and position - self.positions[-1] < self.step * (1 - 1e-9):
            return False
        self.positions.append(position)
        self.items.append(item)
        if len(self.positions) > self.limit:
            self.step *= 2
            self.positions, self.items = self.positions[::2], self.items[::2]
        return True

    def nearest(self, position: float) -> int:
        """Index of the sample nearest to a position."""
        return min(range(len(self.positions)), key=lambda i: abs(self.positions[i] - position))

    def uniform(self, start: float, end: float, count: int) -> list[int]:
        """Indices of the samples nearest to the middles of `count` equal spans of [start, end), each once, in order."""
        span = (end - start) / count
        return sorted({self.nearest(start + (i + 0.5) * span - 0.5) for i in range(count)})
