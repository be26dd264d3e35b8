"""No host is asked by too many at once, too often, or before it wants to be."""

from __future__ import annotations

import itertools
import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from internvid_assets.videos.fetch.schedule import Again, HostQueue, Pace, paces, run_paced


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 5)), min_size=1, max_size=40),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.5, 2.0]),
    st.randoms(use_true_random=False),
)
def test_every_item_starts_once_within_its_hosts_pace(
    items: list[tuple[str, float]], concurrent: int, interval: float, chance: random.Random
) -> None:
    clock = Clock()
    queue: HostQueue[int] = HostQueue(lambda host: Pace(concurrent, interval), clock)
    for number, (host, delay) in enumerate(items):
        queue.put(host, number, delay)
    running: list[str] = []
    started: list[int] = []
    starts: dict[str, list[float]] = {}
    while (found := queue.poll()) is not None:
        if isinstance(found, tuple):
            host, number = found
            assert clock.now >= items[number][1]
            starts.setdefault(host, []).append(clock.now)
            running.append(host)
            started.append(number)
            assert running.count(host) <= concurrent
        elif running and (found == float("inf") or chance.random() < 0.5):
            queue.done(running.pop(chance.randrange(len(running))))
        else:
            clock.now += found
    assert sorted(started) == list(range(len(items)))
    for times in starts.values():
        assert all(later - earlier >= interval - 1e-9 for earlier, later in itertools.pairwise(times))


def test_a_host_on_hold_gets_nothing_while_others_go_on() -> None:
    clock = Clock()
    queue: HostQueue[str] = HostQueue(lambda host: Pace(2), clock)
    for host, item in (("a", "a1"), ("a", "a2"), ("b", "b1")):
        queue.put(host, item)
    assert queue.poll() == ("a", "a1")
    queue.hold("a", 30.0)
    assert queue.poll() == ("b", "b1")
    assert queue.poll() == 30.0
    clock.now = 30.0
    assert queue.poll() == ("a", "a2")


def test_items_come_again_and_results_once() -> None:
    tries: dict[int, int] = {}

    def work(item: int, number: int) -> int | Again:
        tries[item] = number
        return Again(0.0) if number <= item % 3 else item

    results = list(run_paced(range(50), lambda item: f"host{item % 4}", work, paces(2, 0.0, {}), 8))
    assert sorted(results) == list(range(50))
    assert tries == {item: 1 + item % 3 for item in range(50)}


def test_an_error_ends_all() -> None:
    begun = threading.Event()

    def work(item: int, number: int) -> int:
        begun.set()
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        list(run_paced(range(1000), lambda item: "host", work, paces(4, 0.0, {}), 4))
    assert begun.is_set()
    assert list(run_paced([], lambda item: "host", work, paces(4, 0.0, {}), 4)) == []


def test_hosts_of_their_own_have_their_own_rate() -> None:
    pace = paces(4, 2.0, {"slow": 0.1, "free": 0.0})
    assert [pace(host).interval_seconds for host in ("any", "slow", "free")] == [0.5, 10.0, 0.0]
