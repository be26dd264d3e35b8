"""K710: the training sets of Kinetics-400, -600 and -700 as one set with the union of their classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath

from training.benchmarks import Benchmark, load_standard
from training.benchmarks.registry import read_annotations
from training.heads import class_key

PARTS = ("k400", "k600", "k700")
_ID_LENGTH = 11  # of a YouTube id


def merge_classes(lists: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """The union of label sets by name, each new class after those before: 710 from those of K400, K600 and K700.

    Worked example: ["eat", "Run fast"], ["run_fast", "sit"] gives eat, Run fast, sit.

    Source: UniFormerV2 (arXiv 2211.09552) section 4.1; K400's classes come first, as in UMT's K710.
    """
    merged: dict[str, str] = {}
    for names in lists:
        for name in names:
            merged.setdefault(class_key(name), name)
    return tuple(merged.values())


def merge_training(training: Sequence[Benchmark], tested: Iterable[str]) -> Benchmark:
    """One training set: every YouTube video once, and none that any of the sets tests on.

    Args:
        tested: names of the test videos of all sets.

    Source: UniFormerV2 (arXiv 2211.09552) section 4.1 removes repeated videos by YouTube id, and test videos.
    """
    classes = merge_classes(part.classes for part in training)
    numbers = {class_key(name): number for number, name in enumerate(classes)}
    seen = {youtube_id(name) for name in tested}
    videos, labels = [], []
    for part in training:
        for video, label in zip(part.videos, part.labels, strict=True):
            if youtube_id(video.name) not in seen:
                seen.add(youtube_id(video.name))
                videos.append(video)
                labels.append(numbers[class_key(part.classes[label])])
    return Benchmark(
        "k710", "action", tuple(videos), classes, tuple(labels), files=sum((p.files for p in training), ())
    )


def youtube_id(name: str) -> str:
    """Worked example: "val/-abcdefghij_000001_000011.mp4" gives "-abcdefghij"."""
    return PurePath(name).stem[:_ID_LENGTH]


def load_k710(folders: Mapping[str, str | Path], allow_missing: bool = False) -> Benchmark:
    """From the folders of K400, K600 and K700. Raises: ValueError naming the one that is not given, or what is missing."""
    if missing := [name for name in PARTS if name not in folders]:
        raise ValueError(f"k710 needs --data of {', '.join(PARTS)}; {', '.join(missing)} is not given")
    training = [load_standard(name, folders[name], "train", allow_missing) for name in PARTS]
    tested = [video for name in PARTS for video in read_annotations(name, folders[name], "test")[2].videos]
    return merge_training(training, tested)
