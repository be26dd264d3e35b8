"""One object into one local file: resumed by byte ranges, given up beyond limits, checked by length.

Beside the partial file lies what it is a part of (address and validator), so that the next try, of this process or of
one after a crash, asks only for the rest, and only if the object is still the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from internvid_assets.videos.fetch.failures import FetchFailure

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Opened:
    """A response: the object's bytes from `start` on. `total` is the whole object's length where the server says it.

    `validator` names this state of the object (a strong ETag, or its time); None: the rest cannot be asked for later.
    """

    chunks: Iterator[bytes]
    start: int
    total: int | None
    validator: str | None


class Remote(Protocol):
    """Something that has an object's bytes."""

    def open(self, start: int, validator: str | None) -> Opened:
        """The bytes from `start` on, if the object is still as the validator says; else all of it, from 0.

        Raises: FetchFailure.
        """
        ...


@dataclass(frozen=True)
class Limits:
    """What one try may use, and what the manifest promised."""

    max_bytes: int
    seconds: float
    expected_bytes: int | None = None
    expected_sha256: str | None = None
    expected_md5: str | None = None


@dataclass(frozen=True)
class Downloaded:
    """A whole file, its hash, and how many of its bytes came over the wire this time."""

    path: Path
    sha256: str
    num_bytes: int


def download(remote: Remote, address: str, folder: Path, limits: Limits) -> Downloaded:
    """The whole object as a file in `folder`, which belongs to this address and to one process at a time.

    Raises: FetchFailure (the partial file stays for the next try, unless it is wrong); OSError of this machine.
    """
    partial = _Partial(folder, address)
    if partial.sha256 is not None:
        return Downloaded(partial.body, partial.sha256, 0)
    hashes, start, received = _Hashes(limits.expected_md5 is not None), partial.resumable_bytes(), 0
    if start and start == partial.total:  # killed between the last byte and the note of it
        hashes.add_file(partial.body, start)
    else:
        opened = _open(remote, start, partial)
        _check_size(opened.total, limits)
        start = opened.start
        partial.begin(opened.validator, opened.total, start)
        hashes.add_file(partial.body, start)
        received = _receive(opened, partial.body, start, hashes, limits)
    _check_whole(start + received, partial, hashes, limits, received)
    partial.complete(hashes.sha256)
    return Downloaded(partial.body, hashes.sha256, received)


def _open(remote: Remote, start: int, partial: _Partial) -> Opened:
    """The rest of the object, or all of it where the rest cannot be had."""
    try:
        opened = remote.open(start, partial.validator if start else None)
        if opened.start not in (0, start) or (opened.start and opened.validator not in (None, partial.validator)):
            raise FetchFailure("changed", "the server sent a part of something else than was asked for")
        return opened
    except FetchFailure as failure:
        if failure.name in ("changed", "bad_address"):
            partial.forget()
        raise


def _check_size(total: int | None, limits: Limits) -> None:
    if total is not None and total > limits.max_bytes:
        raise FetchFailure("too_big", f"{total} bytes, fetch.max_bytes is {limits.max_bytes}")
    if total is not None and limits.expected_bytes not in (None, total):
        raise FetchFailure("wrong_length", f"the server has {total} bytes, the manifest says {limits.expected_bytes}")


def _receive(opened: Opened, body: Path, start: int, hashes: _Hashes, limits: Limits) -> int:
    """Append what comes; how many bytes that were."""
    ends_at, received = time.monotonic() + limits.seconds, 0
    with body.open("r+b", buffering=0) as file:
        file.seek(start)
        file.truncate()
        try:
            for chunk in opened.chunks:
                file.write(chunk)
                hashes.add(chunk)
                received += len(chunk)
                if start + received > limits.max_bytes:
                    raise FetchFailure("too_big", f"more than fetch.max_bytes = {limits.max_bytes}")
                if time.monotonic() > ends_at:
                    raise FetchFailure("timeout", f"not done after fetch.seconds_limit = {limits.seconds:g} s")
        except FetchFailure as failure:
            failure.num_bytes = received
            raise
    return received


def _check_whole(num_bytes: int, partial: _Partial, hashes: _Hashes, limits: Limits, received: int) -> None:
    total = partial.total
    if total is not None and num_bytes != total:
        if num_bytes > total or not received:  # the server will not give the rest
            partial.forget()
        raise FetchFailure("wrong_length", f"{num_bytes} of {total} bytes came", num_bytes=received)
    wanted = {
        "wrong_length": (limits.expected_bytes, num_bytes),
        "wrong_hash": (limits.expected_sha256, hashes.sha256),
    }
    if limits.expected_md5 is not None:
        wanted |= {"wrong_hash": wanted["wrong_hash"] if limits.expected_sha256 else (limits.expected_md5, hashes.md5)}
    for name, (expected, found) in wanted.items():
        if expected is not None and expected != found:
            partial.forget()
            raise FetchFailure(name, f"the manifest says {expected}, the file has {found}", num_bytes=received)


class _Hashes:
    """SHA-256, and MD5 when it is wanted, of what went by."""

    def __init__(self, with_md5: bool):
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False) if with_md5 else None

    def add(self, data: bytes) -> None:
        self._sha256.update(data)
        if self._md5 is not None:
            self._md5.update(data)

    def add_file(self, path: Path, num_bytes: int) -> None:
        """The first bytes of a file."""
        if num_bytes:
            with path.open("rb") as file:
                for offset in range(0, num_bytes, _CHUNK_BYTES):
                    self.add(file.read(min(_CHUNK_BYTES, num_bytes - offset)))

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def md5(self) -> str | None:
        return None if self._md5 is None else self._md5.hexdigest()


class _Partial:
    """The partial file of one address, and the note of what it is a part of."""

    def __init__(self, folder: Path, address: str):
        folder.mkdir(parents=True, exist_ok=True)
        self.body, self._note, self._address = folder / "body", folder / "body.json", address
        note = self._read()
        if note.get("address") != address or not self.body.is_file():
            note = {}
        self.validator: str | None = note.get("validator")
        self.total: int | None = note.get("total")
        self.sha256: str | None = note.get("sha256")

    def _read(self) -> dict[str, Any]:
        try:
            return json.loads(self._note.read_text())
        except (FileNotFoundError, ValueError):
            return {}

    def resumable_bytes(self) -> int:
        """How many bytes are there, of an object that can be told from another."""
        return self.body.stat().st_size if self.validator is not None else 0

    def begin(self, validator: str | None, total: int | None, start: int) -> None:
        """Note what is coming, before any of its bytes; with a `start` it goes on with what is there."""
        if start:
            return
        self.forget()
        self.body.write_bytes(b"")
        self.validator, self.total = validator, total
        self._write()

    def complete(self, sha256: str) -> None:
        """Note that nothing is missing."""
        self.sha256 = sha256
        self._write()

    def forget(self) -> None:
        """Begin anew next time."""
        self._note.unlink(missing_ok=True)
        self.body.unlink(missing_ok=True)
        self.validator = self.total = self.sha256 = None

    def _write(self) -> None:
        note = {"address": self._address, "validator": self.validator, "total": self.total, "sha256": self.sha256}
        temporary = self._note.with_suffix(".new")
        temporary.write_text(json.dumps(note))
        os.replace(temporary, self._note)
