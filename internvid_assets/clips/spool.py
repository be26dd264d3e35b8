"""Bytes kept in an unnamed temporary file instead of memory."""

from __future__ import annotations

import tempfile
from threading import Lock
from typing import Any


class Spool:
    """A temporary file that goes away with the last piece of it."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="internvid-")
        self._lock = Lock()

    def put(self, data: bytes) -> SpooledBytes:
        """Store some bytes."""
        with self._lock:
            place = self._file.seek(0, 2)
            self._file.write(data)
        return SpooledBytes(self, place, len(data))

    def read(self, place: int, length: int) -> bytes:
        """Read some bytes back."""
        with self._lock:
            self._file.seek(place)
            return self._file.read(length)


class SpooledBytes:
    """A piece of a spool. It equals, and pickles as, its bytes."""

    __slots__ = ("_length", "_place", "_spool")

    def __init__(self, spool: Spool, place: int, length: int):
        self._spool, self._place, self._length = spool, place, length

    def __bytes__(self) -> bytes:
        return self._spool.read(self._place, self._length)

    def __eq__(self, other: object) -> bool:
        return bytes(self) == bytes(other) if isinstance(other, bytes | SpooledBytes) else NotImplemented

    def __hash__(self) -> int:
        return hash(bytes(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return bytes, (bytes(self),)
