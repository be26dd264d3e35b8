"""Benchmarks in our own annotation files: `.csv` for action recognition, `.json` for retrieval; and training pairs.

An action file has the columns path and label; `classes.txt` beside it fixes the classes (else: those that occur).
A retrieval file is a list of {"video": path, "caption": text or list of texts}. Paths are relative to the file.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

from training.benchmarks.benchmark import Benchmark
from training.data import ShardManifest, ShardReader


def load_benchmark(name: str, path: str | Path) -> Benchmark:
    """Read an annotation file. Raises: ValueError naming the file, the line and the fault."""
    path = Path(path)
    if not path.exists():
        raise ValueError(f"benchmark {name}: no file {path}")
    if path.suffix == ".csv":
        return _action(name, path)
    if path.suffix == ".json":
        return _retrieval(name, path)
    raise ValueError(f"benchmark {name}: {path} is neither .csv (action recognition) nor .json (retrieval)")


def training_pairs(shards: str | Path, limit: int = 200, name: str = "training_pairs") -> Benchmark:
    """Retrieval on pairs the model was trained on: shows that it learned, not that it generalises."""
    manifest = ShardManifest.read(shards)
    reader = ShardReader(manifest)
    captions = tuple((reader[number].caption,) for number in range(min(limit, len(reader))))
    note = f"{name}: pairs the model was trained on, since no benchmark is configured: not a measure of generalisation"
    return Benchmark(name, "retrieval", (), captions=captions, note=note, shards=manifest)


def _action(name: str, path: Path) -> Benchmark:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"path", "label"} <= rows[0].keys():
        raise ValueError(f"benchmark {name}: {path} needs the columns path and label and at least one row")
    listed = path.with_name("classes.txt")
    classes = listed.read_text().splitlines() if listed.exists() else sorted({row["label"] for row in rows})
    for line, row in enumerate(rows, 2):
        if row["label"] not in classes:
            raise ValueError(f"benchmark {name}: {path} line {line}: label {row['label']!r} is not in classes.txt")
    videos = tuple(path.parent / row["path"] for row in rows)
    labels = tuple(classes.index(row["label"]) for row in rows)
    return Benchmark(name, "action", videos, tuple(classes), labels, files=(path,))


def _retrieval(name: str, path: Path) -> Benchmark:
    entries = json.loads(path.read_text())
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"benchmark {name}: {path} must hold a list of videos with captions")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or "video" not in entry or not entry.get("caption"):
            raise ValueError(f"benchmark {name}: {path} entry {number} needs video and caption")
    texts = [entry["caption"] if isinstance(entry["caption"], list) else [entry["caption"]] for entry in entries]
    videos = tuple(path.parent / entry["video"] for entry in entries)
    return Benchmark(name, "retrieval", videos, captions=tuple(tuple(t) for t in texts), files=(path,))
