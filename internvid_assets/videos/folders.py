"""Sources in a folder: every file, in path order, folder by folder, with what lies beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from internvid_assets.videos.sidecars import split_sidecars, what_they_say
from internvid_assets.videos.source import Source, SourceError


def folder_files(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every file below the folder that is no sidecar, and the names of its sidecars. Hidden ones are left out.

    Raises: SourceError when it cannot be read or holds no files.
    """
    try:
        is_empty = True
        for found in _below(folder):
            is_empty = False
            yield found
    except PermissionError as error:
        raise SourceError(f"source {error.filename} cannot be read: {error.strerror}; mend its permissions") from error
    if is_empty:
        raise SourceError(f"source {folder} holds no files: give a folder of videos or video files")


def _below(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    entries = {path.name: path for path in folder.iterdir() if not path.name.startswith(".")}
    beside = dict(split_sidecars(name for name, path in entries.items() if path.is_file()))
    for name, path in sorted(entries.items()):
        if name in beside:
            yield path, beside[name]
        elif path.is_dir() and not path.is_symlink():
            yield from _below(path)


def file_source(path: Path, sidecars: list[str] | None = None) -> Source:
    """A file with what lies beside it. Raises: SourceError for a sidecar that is broken."""
    if sidecars is None:
        names = [p.name for p in path.parent.glob(f"{_literal(path.stem)}.*") if p.is_file()]
        sidecars = dict(split_sidecars(names)).get(path.name, [])
    said: dict[str, Any] = what_they_say(path.name, sidecars, lambda name: (path.parent / name).read_bytes())
    return Source(str(path), **said)


def _literal(text: str) -> str:
    """The text with characters that mean something in a glob made literal."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)
