"""A folder for what one process keeps on disk only while it runs, such as what does not fit into memory."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_LOCK = "lock"


class Scratch:
    """A new folder under `parent`, nobody else's; gone when it is closed, or with the process.

    Whoever makes one also removes the folders of processes that were killed: an open folder's lock is held, and the system
    gives up those of the dead.
    """

    def __init__(self, parent: Path):
        parent.mkdir(parents=True, exist_ok=True)
        with _locked(parent):
            for folder in parent.iterdir():
                if folder.is_dir():
                    _remove_if_dead(folder)
            self.folder = Path(tempfile.mkdtemp(dir=parent))
            lock = (self.folder / _LOCK).open("w")
            fcntl.flock(lock, fcntl.LOCK_EX)
        self.close = weakref.finalize(self, _remove, self.folder, lock, os.getpid())


@contextmanager
def _locked(parent: Path) -> Iterator[None]:
    """So that nobody sees a folder before its lock is held."""
    with (parent / _LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove_if_dead(folder: Path) -> None:
    with suppress(FileNotFoundError), (folder / _LOCK).open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        shutil.rmtree(folder, ignore_errors=True)


def _remove(folder: Path, lock: IO[str], owner: int) -> None:
    if os.getpid() == owner:  # and no fork of it
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()
