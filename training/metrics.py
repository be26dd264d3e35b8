"""Accuracy and recall with their 95 % confidence intervals: pure functions.

N items, K classes, V videos, C captions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import softmax
from scipy.stats import norm


@dataclass(frozen=True)
class Figure:
    """One metric: `value` of `num_items`, in [low, high] with 95 % confidence, and what guessing would give."""

    metric: str
    value: float
    low: float
    high: float
    chance: float
    num_items: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def wilson(successes: float, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a share. Worked example: 5 of 10 gives (0.237, 0.763).

    Source: Wilson, Probable inference, JASA 22 (1927).
    """
    if total < 1:
        raise ValueError("an interval needs at least one item")
    z = norm.ppf(0.5 + confidence / 2)
    share = successes / total
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    # Rounding may push an end past the share itself, at 0 and at 1.
    return float(max(0.0, min(share, centre - half))), float(min(1.0, max(share, centre + half)))


def ranks(scores_NK: np.ndarray, right_NK: np.ndarray) -> np.ndarray:
    """Place, from 0, of the best right answer of each row; a tie counts against it.

    Worked example: scores [[0.5, 0.9, 0.5]] with column 0 right gives 2: one is better and one is equal.

    Raises: ValueError when a row has no right answer or the shapes differ.
    """
    if scores_NK.shape != right_NK.shape:
        raise ValueError(f"scores have shape {scores_NK.shape}, right answers {right_NK.shape}")
    if not right_NK.any(axis=1).all():
        raise ValueError(f"row {int(np.argmin(right_NK.any(axis=1)))} has no right answer")
    best_N1 = np.where(right_NK, scores_NK, -np.inf).max(axis=1, keepdims=True)
    return ((scores_NK >= best_N1) & ~right_NK).sum(axis=1)


def top_k(scores_NK: np.ndarray, labels_N: np.ndarray, k: int) -> Figure:
    """Share of items whose class is among the k best."""
    num_classes = scores_NK.shape[1]
    right_NK = labels_N[:, None] == np.arange(num_classes)
    return _share(f"top{k}", ranks(scores_NK, right_NK) < k, min(1.0, k / num_classes))


def recall_at_k(scores_NK: np.ndarray, right_NK: np.ndarray, k: int, direction: str) -> Figure:
    """Share of queries with a right answer among the k best. `direction` is t2v or v2t."""
    num_candidates = scores_NK.shape[1]
    num_right_N = right_NK.sum(axis=1)
    chance = float(np.mean([_chance(num_candidates, int(n), k) for n in num_right_N]))
    return _share(f"{direction}_R@{k}", ranks(scores_NK, right_NK) < k, chance)


def _chance(num_candidates: int, num_right: int, k: int) -> float:
    """Probability that k random candidates hold at least one of the right ones."""
    misses = np.arange(min(k, num_candidates))
    return float(1 - np.prod(np.maximum(0, num_candidates - num_right - misses) / (num_candidates - misses)))


def _share(metric: str, hits_N: np.ndarray, chance: float) -> Figure:
    low, high = wilson(hits_N.sum(), len(hits_N))
    return Figure(metric, float(hits_N.mean()), low, high, chance, len(hits_N))


def dual_softmax(scores_NK: np.ndarray) -> np.ndarray:
    """Scores times their softmax over the queries (temperature 1): a candidate that every query likes counts less.

    Apply it to each direction's own [queries, candidates] matrix. Source: CAMoE, arXiv 2109.04290; R:V/ evaluation code.
    """
    return scores_NK * softmax(scores_NK, axis=0)


def confusion(scores_NK: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """Counts [K, K]: rows are the truth, columns the best class."""
    num_classes = scores_NK.shape[1]
    counts = np.zeros((num_classes, num_classes), dtype=int)
    np.add.at(counts, (labels_N, scores_NK.argmax(axis=1)), 1)
    return counts
