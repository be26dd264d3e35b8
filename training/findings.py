"""What to look at in a result: confusions, worst classes and videos, best and worst retrievals, with pictures.

N captions, B videos, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from training.metrics import Figure, class_ranks, confusion, top_k
from training.protocol import Protocol
from training.scoring import Scores, read_benchmark

_NUM_SHOWN = 4
_NUM_LISTED = 20
_MAX_MATRIX = 60
"""Classes of the largest confusion matrix that can still be read."""


def per_class(scores: Scores) -> list[Figure]:
    """top-1 of each class that occurs."""
    labels_B, figures = np.array(scores.benchmark.labels), []
    for number, name in enumerate(scores.benchmark.classes):
        if (labels_B == number).any():
            figure = top_k(scores.matrix[labels_B == number], labels_B[labels_B == number], 1)
            figures.append(Figure(name, figure.value, figure.low, figure.high, figure.chance, figure.num_items))
    return figures


def confusion_table(scores: Scores) -> dict[str, Any] | None:
    """The whole matrix; None when there are too many classes to read it."""
    classes = scores.benchmark.classes
    if len(classes) > _MAX_MATRIX:
        return None
    counts = confusion(scores.matrix, np.array(scores.benchmark.labels))
    return {"classes": list(classes), "counts": counts.tolist()}


def mistakes(scores: Scores, output: Path) -> dict[str, list[dict[str, Any]]]:
    """Worst classes with what they are taken for, most frequent confusions, and the videos that are most wrong."""
    classes, labels_B = scores.benchmark.classes, np.array(scores.benchmark.labels)
    counts = confusion(scores.matrix, labels_B)
    totals, hits = counts.sum(axis=1), np.diag(counts).copy()
    np.fill_diagonal(counts, 0)
    occurring = np.flatnonzero(totals)
    worst = occurring[np.argsort(hits[occurring] / totals[occurring], kind="stable")][:_NUM_LISTED]
    pairs = [divmod(int(place), len(classes)) for place in np.argsort(-counts, axis=None, kind="stable")[:_NUM_LISTED]]
    return {
        "classes": [
            {"name": classes[k], "accuracy": hits[k] / totals[k], "num_items": int(totals[k]), "taken_for": classes[counts[k].argmax()] if counts[k].any() else ""}
            for k in worst
        ],
        "confusions": [
            {"truth": classes[truth], "answer": classes[answer], "count": int(counts[truth, answer])}
            for truth, answer in pairs
            if counts[truth, answer]
        ],
        "videos": _worst_videos(scores, labels_B, output),
    }  # fmt: skip


def _worst_videos(scores: Scores, labels_B: np.ndarray, output: Path) -> list[dict[str, Any]]:
    """Those whose best wrong class lies farthest above the true one."""
    rows = np.arange(len(labels_B))
    others_BK = scores.matrix.copy()
    others_BK[rows, labels_B] = -np.inf
    margin_B = scores.matrix[rows, labels_B] - others_BK.max(axis=1)
    worst = [int(n) for n in np.argsort(margin_B, kind="stable")[:_NUM_SHOWN] if margin_B[n] <= 0]
    strips, ranks_B = _strips(scores, worst, output), class_ranks(scores.matrix, labels_B)
    classes = scores.benchmark.classes
    return [
        {
            "video": str(scores.benchmark.videos[n].name) if scores.benchmark.videos else str(n),
            "picture": strips[n],
            "truth": classes[labels_B[n]],
            "answer": classes[others_BK[n].argmax()],
            "rank": int(ranks_B[n]) + 1,
        }
        for n in worst
    ]


def best_and_worst(scores: Scores, output: Path) -> dict[str, list[dict[str, Any]]]:
    """The captions whose own video stands out most and least, each with pictures of that video and of the one found."""
    benchmark, scores_NB, owners = scores.benchmark, scores.matrix, scores.owners_N
    captions = [caption for texts in benchmark.captions for caption in texts]
    rows = np.arange(len(owners))
    own_N, others_NB = scores_NB[rows, owners], scores_NB.copy()
    others_NB[rows, owners] = -np.inf
    order = np.argsort(own_N - others_NB.max(axis=1), kind="stable") if scores_NB.shape[1] > 1 else rows
    chosen = {"best": order[::-1][:_NUM_SHOWN].tolist(), "worst": order[:_NUM_SHOWN].tolist()}
    found = {n: int(scores_NB[n].argmax()) for ns in chosen.values() for n in ns}
    strips = _strips(scores, {int(owners[n]) for n in found} | set(found.values()), output)
    return {
        kind: [
            {
                "caption": captions[n],
                "rank": int((scores_NB[n] > own_N[n]).sum()) + 1,
                "own": strips[int(owners[n])],
                "found": strips[found[n]],
                "found_caption": benchmark.captions[found[n]][0],
            }
            for n in numbers
        ]
        for kind, numbers in chosen.items()
    }


def _strips(scores: Scores, wanted: Iterable[int], output: Path) -> dict[int, str]:
    """A picture of four frames side by side for each wanted item: number to file name."""
    names, numbers = {}, sorted(set(wanted))
    if not numbers:
        return {}
    for number, pictures in zip(numbers, read_benchmark(scores.benchmark, 4, Protocol(), numbers=numbers), strict=True):
        assert not isinstance(pictures, ValueError)  # it was read for the scores
        names[number] = f"{scores.benchmark.name}_{number:05d}.jpg"
        strip = np.concatenate([cv2.resize(p, (160, 120), interpolation=cv2.INTER_AREA) for p in pictures], axis=1)
        cv2.imwrite(str(output / names[number]), cv2.cvtColor(strip, cv2.COLOR_RGB2BGR))
    return names
