"""A folder of a public benchmark as people have it on disk: annotation files and videos in any subfolders."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path, PurePath

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".flv")


class DataFolder:
    """The files below a folder, listed once."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_dir():
            raise ValueError(f"{self.path} is not a folder")
        self._videos: dict[str, list[PurePath]] = defaultdict(list)
        self._others: list[PurePath] = []
        for folder, _, names in os.walk(self.path, followlinks=True):
            for name in names:
                file = PurePath(folder, name).relative_to(self.path)
                if name.lower().endswith(VIDEO_SUFFIXES):
                    self._videos[_stem(name)].append(file)
                else:
                    self._others.append(file)

    def annotations(self, patterns: Iterable[str]) -> list[Path]:
        """Files whose name matches the first pattern that any matches, those nearest to the top first."""
        for pattern in patterns:
            found = [file for file in self._others if fnmatch(file.name, pattern)]
            if found:
                return [self.path / file for file in sorted(found, key=lambda file: (len(file.parts), str(file)))]
        return []

    def video(self, name: str) -> Path | None:
        """The file of a video that annotations name by path, by file name or by name without suffix; None: missing.

        Of several files of that name it is the one that shares most folders with the annotation's path.
        """
        if PurePath(name).is_absolute() and Path(name).exists():
            return Path(name)
        wanted = PurePath(name)
        found = self._videos.get(_stem(wanted.name), [])
        if not found:
            return None
        return self.path / min(found, key=lambda file: (-_num_shared(file, wanted), str(file)))

    @property
    def num_videos(self) -> int:
        """Video files below the folder."""
        return sum(len(files) for files in self._videos.values())


def _stem(name: str) -> str:
    """Without the suffix of a video; other dots belong to the name, as in LSMDC's times."""
    suffix = PurePath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in VIDEO_SUFFIXES else name


def _num_shared(file: PurePath, wanted: PurePath) -> int:
    """How many folders above the file agree, from the file upwards."""
    count = 0
    for ours, theirs in zip(reversed(file.parts[:-1]), reversed(wanted.parts[:-1]), strict=False):
        if ours != theirs:
            break
        count += 1
    return count
