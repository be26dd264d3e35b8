"""Sources in a WebDataset shard: one video a sample, with its json, txt and subtitles."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from internvid_assets.videos.addresses import MEDIA_SUFFIXES
from internvid_assets.videos.sidecars import split_sidecars, subtitles_of, what_they_say
from internvid_assets.videos.source import Source, SourceError

_CHUNK_BYTES = 1 << 20


def tar_sources(path: Path) -> Iterator[Source]:
    """The videos of a shard, in its order; `source_uri` is `/path/shard.tar#member`. Samples without a video are skipped.

    Raises: SourceError when it is no tar or has no video.
    """
    is_empty = True
    try:
        with tarfile.open(path) as tar:
            for _, members in groupby((m for m in tar if m.isfile()), lambda m: _key(m.name)):
                for source in _sample(path, tar, list(members)):
                    is_empty = False
                    yield source
    except (tarfile.TarError, EOFError) as error:
        raise SourceError(f"shard {path} cannot be read ({_line(error)}): give a WebDataset tar") from error
    if is_empty:
        raise SourceError(f"shard {path} holds no videos: its samples need a member such as NAME.mp4")


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _key(name: str) -> str:
    """WebDataset's key: the name up to the first dot of its last part."""
    path = PurePosixPath(name)
    return f"{path.parent}/{path.name.partition('.')[0]}"


def _sample(path: Path, tar: tarfile.TarFile, members: list[tarfile.TarInfo]) -> Iterator[Source]:
    by_name = {member.name: member for member in members}

    def read(name: str) -> bytes:
        file = tar.extractfile(by_name[name])
        return b"" if file is None else file.read()

    for name, sidecars in split_sidecars(by_name):
        if PurePosixPath(name).suffix.lower() in MEDIA_SUFFIXES:
            try:
                said: dict[str, Any] = what_they_say(name, sidecars, read)
            except SourceError as error:
                raise SourceError(f"shard {path}, {error}") from error
            subtitles = tuple(f"{path}#{found}" for found in subtitles_of(sidecars))
            yield Source(f"{path}#{name}", subtitles=subtitles, expected_bytes=by_name[name].size, **said)


def extract_member(path: Path, name: str, target: Path) -> None:
    """Copy a member to a file. Raises: FileNotFoundError when the shard or the member is gone."""
    stat = path.stat()
    places = _places(path, stat.st_mtime_ns, stat.st_size)
    if name not in places:
        raise FileNotFoundError(2, "the shard has no such member", f"{path}#{name}")
    offset, left = places[name]
    with path.open("rb") as shard, target.open("wb") as out:
        shard.seek(offset)
        while left and (chunk := shard.read(min(_CHUNK_BYTES, left))):
            out.write(chunk)
            left -= len(chunk)


@lru_cache(maxsize=64)
def _places(path: Path, changed_ns: int, num_bytes: int) -> dict[str, tuple[int, int]]:
    """Offset and size of each member, of the shard in this state."""
    with tarfile.open(path) as tar:
        return {member.name: (member.offset_data, member.size) for member in tar if member.isfile()}
