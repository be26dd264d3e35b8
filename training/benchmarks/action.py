"""Readers of the standard annotation files of action recognition. Each gives `Items`, or a ValueError for a bad file.

`files` holds the files of each role that the registry names; `split` is "test" or "train".
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from training.benchmarks.items import Items

Files = Mapping[str, Sequence[Path]]


def kinetics_by_number(files: Files, split: str) -> Items:
    """Lines "path label" or "path,label" with numbers as labels (as UMT, VideoMAE and mmaction), and a list of classes."""
    path, classes = files["list"][0], class_names(files["classes"][0])
    videos, labels = [], []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        match = re.fullmatch(r"(.+?)[,\s]+(\d+)", line.strip())
        if match is None or int(match[2]) >= len(classes):
            raise ValueError(f"{path} line {number}: {line!r} is not a path and a label below {len(classes)}")
        videos.append(match[1].strip('"'))
        labels.append(int(match[2]))
    return Items(tuple(videos), tuple(classes), tuple(labels))


def kinetics_official(files: Files, split: str) -> Items:
    """The official csv: label, youtube_id, time_start, time_end; files are named {id}_{start:06d}_{end:06d}."""
    path = files["list"][0]
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"label", "youtube_id", "time_start", "time_end"} <= rows[0].keys():
        raise ValueError(f"{path} lacks the columns label, youtube_id, time_start and time_end")
    pairs = [(_clip_name(row), _readable(row["label"])) for row in rows]
    return Items.labelled(pairs, sorted({label for _, label in pairs}))


def _clip_name(row: Mapping[str, str]) -> str:
    start, end = (int(float(row[name])) for name in ("time_start", "time_end"))
    return f"{row['label']}/{row['youtube_id']}_{start:06d}_{end:06d}"


def something_something(files: Files, split: str) -> Items:
    """SSv2's JSON: `labels` maps a template to its number, the list holds ids with templates in brackets."""
    numbers = json.loads(files["classes"][0].read_text())
    classes = sorted(numbers, key=lambda name: int(numbers[name]))
    entries = json.loads(files["list"][0].read_text())
    try:
        pairs = [(str(e["id"]), e["template"].replace("[", "").replace("]", "")) for e in entries]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{files['list'][0]}: every entry needs id and template; {error!r} is wrong") from error
    return Items.labelled(pairs, classes)


def ucf101(files: Files, split: str) -> Items:
    """`testlist01.txt` or `trainlist01.txt` with lines Class/video.avi, and `classInd.txt`."""
    named = dict(line.split()[::-1] for line in files["classes"][0].read_text().splitlines() if line.strip())
    readable = {name: _words(name) for name in named}
    lines = [line.split()[0] for line in files["list"][0].read_text().splitlines() if line.strip()]
    pairs = [(line, readable.get(line.partition("/")[0], line)) for line in lines]
    return Items.labelled(pairs, (readable[name] for name in sorted(named, key=lambda name: int(named[name]))))


def hmdb51(files: Files, split: str) -> Items:
    """One `{class}_test_split1.txt` a class with lines "video.avi flag": 1 is for training, 2 for testing, 0 unused."""
    wanted = {"train": "1", "test": "2"}[split]
    pairs = []
    for path in sorted(files["list"]):
        name = path.name.partition("_test_split")[0]
        for line in path.read_text().splitlines():
            video, _, flag = line.strip().rpartition(" ")
            if flag == wanted:
                pairs.append((f"{name}/{video.strip()}", _readable(name)))
    return Items.labelled(pairs, sorted({_readable(path.name.partition("_test_split")[0]) for path in files["list"]}))


def class_names(path: Path) -> list[str]:
    """Classes in order, from JSON (a list, or name to number), or lines "name", "number name" or "number,name"."""
    if path.suffix == ".json":
        values = json.loads(path.read_text())
        names = sorted(values, key=lambda name: int(values[name])) if isinstance(values, dict) else values
        return [_readable(name) for name in names]
    lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    if lines and lines[0].lower().replace(" ", "") in ("id,name", "id,label", "name,id"):
        lines = lines[1:]
    numbered = [re.fullmatch(r"(\d+)[,\s]+(.+)", line) for line in lines]
    if all(numbered):
        lines = [match[2] for match in sorted((m for m in numbered if m), key=lambda match: int(match[1]))]
    return [_readable(line) for line in lines]


def _readable(name: str) -> str:
    return name.strip().strip('"').replace("_", " ")


def _words(name: str) -> str:
    """Worked example: "ApplyEyeMakeup" gives "apply eye makeup"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
