"""What a benchmark is, whatever its files looked like."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from training.data import ShardManifest


@dataclass(frozen=True)
class Benchmark:
    """What to evaluate on. `labels` (action) or `captions` (retrieval) go with `videos`, one entry each."""

    name: str
    task: str  # action or retrieval
    videos: tuple[Path, ...]
    classes: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    captions: tuple[tuple[str, ...], ...] = ()
    note: str = ""
    shards: ShardManifest | None = None  # pairs come from these training shards instead of `videos`
    max_seconds: float | None = None  # only the beginning of each video is looked at
    files: tuple[Path, ...] = ()  # the annotation files that were read

    def __len__(self) -> int:
        return len(self.captions or self.labels)
