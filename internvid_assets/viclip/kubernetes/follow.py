"""The log of a training's first node as one stream of lines, over cut connections and pods that follow each other."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

import urllib3
from kubernetes.client import ApiException

from internvid_assets.viclip.kubernetes.failures import has_started

_SLACK_SECONDS = 5
OpenLog = Callable[[str, int | None], Iterator[str]]
"""Lines of a pod's log with their times, all of them or those of the last so many seconds."""


class LogFollower:
    """Follows pods in threads until it is closed; the lines are taken by the thread that asks."""

    def __init__(self, open_log: OpenLog, retry_seconds: float = 1.0):
        self._open_log, self._retry_seconds = open_log, retry_seconds
        self._closed = threading.Event()
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._threads: dict[str, threading.Thread] = {}
        self._over: set[str] = set()

    def follow(self, pods: Iterable[dict[str, Any]], over: Callable[[dict[str, Any]], bool]) -> None:
        """Begin with those that have started, one after the other, and note which will write no more."""
        for pod in pods:
            name = pod["metadata"]["name"]
            if over(pod):
                self._over.add(name)
            if name not in self._threads and has_started(pod) and not self._is_busy():
                self._threads[name] = threading.Thread(target=self._read, args=(name,), daemon=True)
                self._threads[name].start()

    def lines(self) -> Iterator[str]:
        """Those that came since."""
        while not self._lines.empty():
            yield self._lines.get()

    def finish(self, pods: Iterable[dict[str, Any]], seconds: float) -> None:
        """Read what is left of pods that will write no more, at most so long."""
        deadline = time.monotonic() + seconds
        for pod in pods:
            self.follow([pod], lambda ended: True)
            if thread := self._threads.get(pod["metadata"]["name"]):
                thread.join(max(0.0, deadline - time.monotonic()))

    def close(self) -> None:
        """Let go of pods that still write: a thread ends with the piece of the log that it is reading."""
        self._closed.set()

    def _is_busy(self) -> bool:
        return any(thread.is_alive() for thread in self._threads.values())

    def _read(self, pod: str) -> None:
        """A whole log, each line once. A cut is mended by asking again for a little more than what is missing."""
        last, at_last = "", Counter[str]()
        while not self._closed.is_set():
            was_over = pod in self._over
            try:
                skip = Counter(at_last)
                for time_, text in map(_parted, self._open_log(pod, _seconds_since(last))):
                    if time_ < last or (time_ == last and _taken(skip, text)):
                        continue
                    if time_ != last:
                        last, at_last = time_, Counter()
                    at_last[text] += 1
                    self._lines.put(text)
                if was_over:
                    return
            except ApiException as error:
                if error.status in (400, 404) and was_over:
                    return
            except (urllib3.exceptions.HTTPError, OSError):
                pass
            self._closed.wait(self._retry_seconds)


def _taken(lines: Counter[str], text: str) -> bool:
    """Take a line out of those that were seen before; False when it is not among them."""
    if not lines[text]:
        return False
    lines[text] -= 1
    return True


def _parted(line: str) -> tuple[str, str]:
    time_, _, text = line.partition(" ")
    return time_, text


def _seconds_since(time_: str) -> int | None:
    """To ask for the log from a line on; None: all of it."""
    if not time_:
        return None
    seen = datetime.fromisoformat(time_[:19] + "+00:00")
    return int(max(0.0, time.time() - seen.timestamp())) + _SLACK_SECONDS
