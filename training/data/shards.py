"""Shard folders: their manifest, and any sample of them by number."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from dataclasses import dataclass
from functools import lru_cache
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = "internvid-shards/1"


@dataclass(frozen=True)
class ShardManifest:
    """`manifest.json` of a shard folder: what to train on, by hash."""

    folder: Path
    shards_id: str
    subset: str
    snapshot_id: int
    num_frames: int
    names: tuple[str, ...]
    num_samples: tuple[int, ...]
    sha256: str  # of the manifest file

    @classmethod
    def read(cls, folder: str | Path) -> ShardManifest:
        """Read and check the manifest. Raises: ValueError naming what is missing or torn."""
        path = Path(folder) / "manifest.json"
        if not path.exists():
            raise ValueError(f"no shards in {folder}: it lacks manifest.json; make them with the asset training_shards")
        text = path.read_bytes()
        values = json.loads(text)
        if values.get("format") != FORMAT:
            raise ValueError(f"{path} has format {values.get('format')!r}; this code reads {FORMAT!r}")
        for shard in values["shards"]:
            size = (path.parent / shard["name"]).stat().st_size if (path.parent / shard["name"]).exists() else None
            if size != shard["num_bytes"]:
                raise ValueError(
                    f"shard {path.parent / shard['name']} has {size} bytes, the manifest says {shard['num_bytes']}: copy it again"
                )
        return cls(
            folder=path.parent,
            shards_id=values["shards_id"],
            subset=values["subset"],
            snapshot_id=values["snapshot_id"],
            num_frames=values["frames"]["num_frames"],
            names=tuple(shard["name"] for shard in values["shards"]),
            num_samples=tuple(shard["num_samples"] for shard in values["shards"]),
            sha256=hashlib.sha256(text).hexdigest(),
        )

    @property
    def total(self) -> int:
        """Samples in all shards."""
        return sum(self.num_samples)


class BrokenSample(ValueError):
    """A sample that cannot be used: data, to be counted and left out together with its caption."""

    def __init__(self, clip_id: str, reason: str):
        super().__init__(f"clip {clip_id} is broken: {reason}")
        self.clip_id, self.reason = clip_id, reason


@dataclass(frozen=True)
class Sample:
    """One stored clip: `frames` are JPEGs, uniform over its length."""

    clip_id: str
    video_id: str
    caption: str
    frames: tuple[bytes | memoryview, ...]


class ShardReader:
    """Any sample of a shard folder by number. A shard's tar is indexed when first touched."""

    def __init__(self, manifest: ShardManifest):
        self.manifest = manifest
        self._ends = np.cumsum(manifest.num_samples)
        self._index = lru_cache(maxsize=256)(self._read_index)

    def __len__(self) -> int:
        return self.manifest.total

    def __getitem__(self, number: int) -> Sample:
        """Raises: BrokenSample."""
        shard = int(np.searchsorted(self._ends, number, side="right"))
        file, samples = self._index(shard)
        key, members = samples[number - int(self._ends[shard] - self.manifest.num_samples[shard])]
        parts = _parts(file, members)
        frames = tuple(parts[suffix] for suffix in sorted(parts) if suffix.endswith(".jpg"))
        try:
            return Sample(key, json.loads(bytes(parts["json"]))["video_id"], str(parts["txt"], "utf-8"), frames)
        except (KeyError, ValueError) as error:
            raise BrokenSample(key, f"its {self.manifest.names[shard]} lacks or garbles {error}") from error

    @property
    def is_image(self) -> bool:
        """Whether every sample is a single picture."""
        return self.manifest.num_frames == 1

    def _read_index(self, shard: int) -> tuple[FileIO, list[tuple[str, dict[str, tuple[int, int]]]]]:
        """The open shard, and per sample its key and, by suffix, offset and length of each member."""
        samples: dict[str, dict[str, tuple[int, int]]] = {}
        path = self.manifest.folder / self.manifest.names[shard]
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                samples.setdefault(key, {})[suffix] = (member.offset_data, member.size)
        return FileIO(path), list(samples.items())

    def __getstate__(self) -> dict[str, Any]:
        return {"manifest": self.manifest}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["manifest"])  # type: ignore[misc]


def _parts(file: FileIO, members: dict[str, tuple[int, int]]) -> dict[str, memoryview]:
    """The members of one sample, which follow each other in the tar, by one read and without copies."""
    begin = min(offset for offset, _ in members.values())
    end = max(offset + length for offset, length in members.values())
    data = memoryview(os.pread(file.fileno(), end - begin, begin))
    return {suffix: data[offset - begin : offset - begin + length] for suffix, (offset, length) in members.items()}
