"""What can be made to go wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass
class Fault:
    """So many answers of some requests are errors. Status 0: the connection breaks instead."""

    method: str
    path: str
    status: int
    count: int
    reason: str = "Simulated"
    headers: dict[str, str] = field(default_factory=dict)


class Faults:
    """Switches that a test may set at any time."""

    def __init__(self) -> None:
        self._answers: list[Fault] = []
        self.cut_logs_after: list[int] = []
        """Each log stream that is followed takes one and breaks after so many lines."""
        self.drop_watches_after: list[int] = []
        """Likewise each watch, after so many events."""
        self.missing_images: set[str] = set()
        self.quota: dict[str, int] = {}
        """Namespace to the number of pods that it may have."""
        self.num_served = 0

    def answer(self, method: str, path: str, status: int, count: int = 1, **more: str) -> None:
        """Let the next `count` requests that match fail."""
        self._answers.append(Fault(method, path, status, count, **more))  # type: ignore[arg-type]

    def next_for(self, method: str, path: str) -> Fault | None:
        for fault in self._answers:
            if fault.count and re.fullmatch(fault.method, method) and re.search(fault.path, path):
                fault.count -= 1
                self.num_served += 1
                return fault
        return None
