"""The videos of a public benchmark: what a source of each would go by, and its files where they are there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from training.benchmarks import STANDARDS
from training.benchmarks.folder import VIDEO_SUFFIXES, DataFolder
from training.benchmarks.registry import read_annotations

_SPLITS = ("test", "train")
_YOUTUBE_NAME = re.compile(r"(?:v_)?([\w-]{11})(?:_\d+(?:\.\d+)?_\d+(?:\.\d+)?)?")
"""Kinetics, MSVD and ActivityNet name their clips `[v_]ID[_START_END]`."""
_YOUTUBE_ADDRESS = re.compile(r"(?:[?&]v=|youtu\.be/|/shorts/|/embed/)([\w-]{11})")
_MSRVTT_LISTS = ("MSRVTT_data.json", "*videodatainfo*.json")
_MIN_NAME = 8
"""Shorter names, and bare numbers, are nobody's own."""


@dataclass(frozen=True)
class BenchmarkVideos:
    """Names of videos as annotated, and the files of those that are there."""

    name: str
    items: tuple[str, ...]
    files: dict[str, Path]
    addresses: dict[str, str]
    """Item to the address that the annotations give."""

    def keys(self) -> Iterator[tuple[str, str]]:
        """(item, what a source of it would go by), each once."""
        for item in self.items:
            for key in sorted(video_keys(item) | video_keys(self.addresses.get(item, ""))):
                yield item, key


def video_keys(item: str) -> set[str]:
    """The YouTube id in a name or address, and the name itself where no other video is likely to have it.

    Worked example: `val/abseiling/abcdefghijk_000001_000011.mp4` gives `abcdefghijk` and `abcdefghijk_000001_000011`.
    """
    if address := _YOUTUBE_ADDRESS.search(item):
        return {address[1]}
    name = PurePosixPath(item).name
    suffix = PurePosixPath(name).suffix
    name = name.removesuffix(suffix) if suffix.lower() in VIDEO_SUFFIXES else name
    keys = {name} if len(name) >= _MIN_NAME and not name.isdigit() else set()
    match = _YOUTUBE_NAME.fullmatch(name)
    return keys | ({match[1]} if match else set())


def read_benchmark(name: str, where: Path) -> BenchmarkVideos:
    """A benchmark from a file of ids, names or addresses, one a line, or from a folder of videos.

    The folder of a set that `python -m training.evaluate --list` names is read by its annotations, of all splits that
    are there; of another every video file counts. Videos may be missing.

    Raises: ValueError for what is neither, is empty, or has annotations that cannot be read.
    """
    if where.is_file():
        lines = [line.strip() for line in where.read_text().splitlines()]
        found = BenchmarkVideos(name, tuple(dict.fromkeys(x for x in lines if x and not x.startswith("#"))), {}, {})
    elif not where.is_dir():
        raise ValueError(f"benchmark {name}: {where} does not exist: give a folder, or a file of ids")
    elif name in STANDARDS:
        found = _annotated(name, where)
    else:
        paths = sorted(path for path in where.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
        files = {str(path.relative_to(where)): path for path in paths}
        found = BenchmarkVideos(name, tuple(files), files, {})
    if not found.items:
        raise ValueError(f"benchmark {name}: {where} names no videos")
    return found


def _annotated(name: str, folder: Path) -> BenchmarkVideos:
    items: dict[str, None] = {}
    faults = []
    for split in _SPLITS:
        try:
            items |= dict.fromkeys(read_annotations(name, folder, split)[2].videos)
        except ValueError as error:
            faults.append(str(error))
    if not items:
        raise ValueError(faults[0])
    data = DataFolder(folder)
    files = {item: path for item in items if (path := data.video(item)) is not None}
    addresses = _msrvtt_addresses(data) if name == "msrvtt" else {}
    by_item = {item: addresses[stem] for item in items if (stem := PurePosixPath(item).stem) in addresses}
    return BenchmarkVideos(name, tuple(items), files, by_item)


def _msrvtt_addresses(data: DataFolder) -> dict[str, str]:
    """`video7020` to its address, where the set's own JSON files are there."""
    found: dict[str, str] = {}
    for path in data.annotations(_MSRVTT_LISTS):
        values: Any = json.loads(path.read_text())
        videos = values.get("videos", []) if isinstance(values, dict) else []
        found |= {video["video_id"]: video["url"] for video in videos if "url" in video and "video_id" in video}
    return found
