"""Benchmarks in their annotation files: `.csv` for action recognition, `.json` for retrieval.

An action file has the columns path and label; `classes.txt` beside it fixes the classes (else: those that occur).
A retrieval file is a list of {"video": path, "caption": text or list of texts}. Paths are relative to the file.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

from training.data import ShardManifest, ShardReader

ACTIONCLIP = (
    "a photo of action {}", "a picture of action {}", "human action of {}", "{} an action", "{} this is an action",
    "{} a video of action", "playing action of {}", "{}", "playing a kind of action {}", "doing a kind of action {}",
    "look the human is {}", "can you recognize the action of {}", "video classification of {}", "a video of {}",
    "the man is {}", "the woman is {}",
)  # fmt: skip
"""The 16 templates of InternVid's evaluation after its text clean-up (R:V/dataset/text_prompt.py, from ActionCLIP)."""


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

    def __len__(self) -> int:
        return len(self.captions or self.labels)


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


def training_pairs(shards: str | Path, limit: int = 200) -> Benchmark:
    """Retrieval on pairs the model was trained on: shows that it learned, not that it generalises."""
    manifest = ShardManifest.read(shards)
    reader = ShardReader(manifest)
    captions = tuple((reader[number].caption,) for number in range(min(limit, len(reader))))
    note = "pairs the model was trained on, since no benchmark is configured: not a measure of generalisation"
    return Benchmark("training_pairs", "retrieval", (), captions=captions, note=note, shards=manifest)


def load_templates(source: str) -> tuple[str, ...]:
    """`paper` for the 16 of the paper, or a file with one template a line, each with one {}."""
    if source == "paper":
        return ACTIONCLIP
    if not Path(source).exists():
        raise ValueError(f"templates {source!r}: neither 'paper' nor a file")
    lines = tuple(line for line in Path(source).read_text().splitlines() if line.strip())
    wrong = [line for line in lines if line.count("{}") != 1]
    if wrong or not lines:
        raise ValueError(f"templates {source}: every line needs one {{}}; got {wrong[:1] or 'no lines'}")
    return lines


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
    return Benchmark(name, "action", videos, tuple(classes), tuple(classes.index(row["label"]) for row in rows))


def _retrieval(name: str, path: Path) -> Benchmark:
    entries = json.loads(path.read_text())
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"benchmark {name}: {path} must hold a list of videos with captions")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or "video" not in entry or not entry.get("caption"):
            raise ValueError(f"benchmark {name}: {path} entry {number} needs video and caption")
    texts = [entry["caption"] if isinstance(entry["caption"], list) else [entry["caption"]] for entry in entries]
    videos = tuple(path.parent / entry["video"] for entry in entries)
    return Benchmark(name, "retrieval", videos, captions=tuple(tuple(t) for t in texts))
