"""A log that is cut is taken up where it was, to the line; pods that follow each other are read one after the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import urllib3

from internvid_assets.viclip.kubernetes.failures import is_over
from internvid_assets.viclip.kubernetes.follow import LogFollower


def pod(name: str, phase: str) -> dict[str, Any]:
    state = {"running": {}} if phase == "Running" else {"terminated": {"exitCode": 0}}
    waiting = {"waiting": {"reason": "ContainerCreating"}}
    return {"metadata": {"name": name}, "status": {"phase": phase, "containerStatuses": [
        {"state": waiting if phase == "Pending" else state}]}}  # fmt: skip


def stamped(second: int, text: str) -> str:
    return f"2026-01-01T00:00:{second:02d}.000000000Z {text}"


def read(opens: list[list[str | Exception]]) -> tuple[list[str], list[int | None]]:
    """The lines of a pod whose log gives these on each opening, and how many seconds were asked for."""
    asked: list[int | None] = []

    def open_log(name: str, since: int | None) -> Iterator[str]:
        asked.append(since)
        for line in opens[len(asked) - 1]:
            if isinstance(line, Exception):
                raise line
            yield line

    follower = LogFollower(open_log, retry_seconds=0.0)
    follower.finish([pod("a", "Succeeded")], 30)
    return list(follower.lines()), asked


def test_a_cut_log_is_taken_up_where_it_was() -> None:
    cut = urllib3.exceptions.ProtocolError("cut")
    first = [stamped(1, "a"), stamped(2, "b"), stamped(2, "b"), cut]
    again = [stamped(1, "a"), stamped(2, "b"), stamped(2, "b"), stamped(2, "b"), stamped(2, "c"), cut]
    lines, asked = read([first, again, [stamped(2, "c"), stamped(3, "d")]])
    assert lines == ["a", "b", "b", "b", "c", "d"]
    assert asked[0] is None and asked[1] is not None and asked[1] > time.time() - 1767225602


def test_pods_are_read_one_after_the_other() -> None:
    logs = {"a": ["1", "2"], "b": ["3"]}
    follower = LogFollower(lambda name, since: (stamped(1, text) for text in logs[name]), retry_seconds=0.0)
    follower.follow([pod("b", "Pending")], is_over)
    assert list(follower.lines()) == [] and not follower._threads
    follower.follow([pod("a", "Failed"), pod("b", "Pending")], is_over)
    follower.finish([pod("a", "Failed"), pod("b", "Succeeded")], 30)
    assert list(follower.lines()) == ["1", "2", "3"]


def test_a_closed_follower_asks_no_more() -> None:
    asked = []

    def open_log(name: str, since: int | None) -> Iterator[str]:
        asked.append(name)
        raise ConnectionError("the server is gone")

    follower = LogFollower(open_log, retry_seconds=0.0)
    follower.follow([pod("a", "Running")], is_over)
    while not asked:
        time.sleep(0.001)
    follower.close()
    [thread] = follower._threads.values()
    thread.join(30)
    assert not thread.is_alive()
