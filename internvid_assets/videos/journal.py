"""Outcomes of a batch on their way into the lake: on disk as soon as they are known, so that a killed run asks for nothing
again that it had."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from internvid_assets.videos.ledger import Outcome, dumped


class Journal:
    """A file of outcomes, a line each; a line that was cut short by a crash does not count. Threads may share it."""

    def __init__(self, path: Path, gate_version: str):
        self._path, self._gate_version = path, gate_version
        self._lock = threading.Lock()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While no other process of this machine works on the batch."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read(self) -> dict[str, Outcome]:
        """The outcomes by address, as this gate judged them; of one address the last."""
        found = {}
        for line in self._path.read_text().splitlines() if self._path.is_file() else ():
            try:
                entry = json.loads(line)
            except ValueError:  # cut short
                continue
            if entry["gate_version"] == self._gate_version:
                found[entry["outcome"]["source_uri"]] = Outcome(**entry["outcome"])
        return found

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome; it survives a crash when this returns."""
        line = json.dumps({"gate_version": self._gate_version, "outcome": dumped(outcome)})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, self._path.open("a+b") as file:
            if file.tell() and _last_byte(file.fileno()) != b"\n":
                file.write(b"\n")  # what a crash cut short stays a line of its own
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def clear(self) -> None:
        """The outcomes are in the lake."""
        self._path.unlink(missing_ok=True)


def _last_byte(descriptor: int) -> bytes:
    return os.pread(descriptor, 1, os.fstat(descriptor).st_size - 1)
