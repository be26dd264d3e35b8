"""Which item is asked for next: no host is asked by too many at once, too often, or before it wants to be."""

from __future__ import annotations

import heapq
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Again:
    """What a worker gives back for an item that is to be tried again."""

    seconds: float
    """From now."""
    hold_host: bool = False
    """Whether the host wants no request at all before."""


@dataclass(frozen=True)
class Pace:
    """How much a host is asked."""

    concurrent: int
    """Items at once."""
    interval_seconds: float = 0.0
    """Between two starts."""


@dataclass
class _Host(Generic[Item]):
    pace: Pace
    waiting: list[tuple[float, int, Item]] = field(default_factory=list)
    """Heap of (not before, order, item)."""
    running: int = 0
    next_start: float = 0.0

    def ready_at(self) -> float:
        """When its next item may start; never, when it has none or enough are running."""
        if not self.waiting or self.running >= self.pace.concurrent:
            return float("inf")
        return max(self.next_start, self.waiting[0][0])


class HostQueue(Generic[Item]):
    """Items by host, handed to threads when their host may be asked. `clock` is in seconds."""

    def __init__(self, pace: Callable[[str], Pace], clock: Callable[[], float] = time.monotonic):
        self._pace, self._clock = pace, clock
        self._hosts: dict[str, _Host[Item]] = {}
        self._changed = threading.Condition()
        self._order = 0
        self._closed = False

    def put(self, host: str, item: Item, delay_seconds: float = 0.0) -> None:
        """Add an item that may start after the delay."""
        with self._changed:
            if host not in self._hosts:
                self._hosts[host] = _Host(self._pace(host))
            self._order += 1
            heapq.heappush(self._hosts[host].waiting, (self._clock() + delay_seconds, self._order, item))
            self._changed.notify_all()

    def hold(self, host: str, seconds: float) -> None:
        """Start nothing at the host before so many seconds from now."""
        with self._changed:
            self._hosts[host].next_start = max(self._hosts[host].next_start, self._clock() + seconds)

    def poll(self) -> tuple[str, Item] | float | None:
        """The next item that may start now; else for how many seconds there is none (inf: until one ends); None: no more."""
        with self._changed:
            now = self._clock()
            if self._closed or not any(host.waiting or host.running for host in self._hosts.values()):
                return None
            name, host = min(self._hosts.items(), key=lambda pair: (pair[1].ready_at(), pair[1].running))
            at = host.ready_at()
            if at > now:
                return at - now
            host.running += 1
            host.next_start = now + host.pace.interval_seconds
            return name, heapq.heappop(host.waiting)[2]

    def take(self) -> tuple[str, Item] | None:
        """Wait for the next item; None when all have ended, or the queue is closed."""
        with self._changed:
            while True:
                found = self.poll()
                if not isinstance(found, float):
                    return found
                self._changed.wait(min(found, 3600.0))

    def done(self, host: str) -> None:
        """An item of the host has ended."""
        with self._changed:
            self._hosts[host].running -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Hand out nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def run_paced(
    items: Sequence[Item],
    host_of: Callable[[Item], str],
    work: Callable[[Item, int], Result | Again],
    pace: Callable[[str], Pace],
    concurrency: int,
) -> Iterator[Result]:
    """Results as items end. `work(item, number of the try)` runs in up to `concurrency` threads; its error ends all.

    An item that is to be tried again occupies no thread meanwhile.
    """
    waiting: HostQueue[tuple[Item, int]] = HostQueue(pace)
    for item in items:
        waiting.put(host_of(item), (item, 1))
    results: queue.SimpleQueue[Result | BaseException | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            while (taken := waiting.take()) is not None:
                _one(waiting, *taken, work, results)
        except BaseException as error:
            waiting.close()
            results.put(error)
        finally:
            results.put(None)

    threads = [
        threading.Thread(target=run, daemon=True, name=f"fetch-{n}") for n in range(min(concurrency, len(items)))
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in threads:
            while (result := results.get()) is not None:
                if isinstance(result, BaseException):
                    raise result
                yield result
    finally:
        waiting.close()


def _one(
    waiting: HostQueue[tuple[Item, int]],
    host: str,
    taken: tuple[Item, int],
    work: Callable[[Item, int], Result | Again],
    results: queue.SimpleQueue[Result | BaseException | None],
) -> None:
    """Work on one item; its result, or the item again."""
    item, number = taken
    try:
        result = work(item, number)
        if isinstance(result, Again):
            if result.hold_host:
                waiting.hold(host, result.seconds)
            waiting.put(host, (item, number + 1), result.seconds)
        else:
            results.put(result)
    finally:
        waiting.done(host)


def paces(per_host: int, per_second: float, by_host: Mapping[str, float]) -> Callable[[str], Pace]:
    """The pace of each host: `per_host` items at once, and `by_host` or else `per_second` starts a second (0: any)."""

    def pace(host: str) -> Pace:
        rate = by_host.get(host, per_second)
        return Pace(per_host, 1 / rate if rate else 0.0)

    return pace
