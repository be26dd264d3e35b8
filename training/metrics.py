"""Accuracy, recall and ranks with their 95 % confidence intervals: pure functions.

N items, K classes, V videos, C captions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import softmax
from scipy.stats import norm

NUM_RESAMPLES = 1000


@dataclass(frozen=True)
class Figure:
    """One metric: `value` of `num_items`, in [low, high] with 95 % confidence, and what guessing would give."""

    metric: str
    value: float
    low: float
    high: float
    chance: float
    num_items: int
    interval: str = "Wilson"  # or bootstrap, and of what

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


def bootstrap(
    values_N: np.ndarray,
    statistic: Callable[[np.ndarray], float] = np.mean,
    groups_N: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval, 95 %, of a statistic of items; the same seed gives the same interval.

    Args:
        groups_N: items of one group (captions of one video) are drawn together, since they are not independent.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    rng = np.random.default_rng(seed)
    groups = None if groups_N is None else [np.flatnonzero(groups_N == group) for group in np.unique(groups_N)]
    drawn = [statistic(values_N[_drawn_items(rng, len(values_N), groups)]) for _ in range(NUM_RESAMPLES)]
    value = statistic(values_N)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(min(low, value)), float(max(high, value))


def _drawn_items(rng: np.random.Generator, num_items: int, groups: list[np.ndarray] | None) -> np.ndarray:
    """As many items, or groups of items, as there are, with replacement."""
    if groups is None:
        return rng.integers(num_items, size=num_items)
    return np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))])


def ranks(scores_NK: np.ndarray, right_NK: np.ndarray) -> np.ndarray:
    """Place, from 0, of the best right answer of each row; a tie counts against it.

    Worked example: scores [[0.5, 0.9, 0.5]] with column 0 right gives 2: one is better and one is equal.

    Raises: ValueError when a row has no right answer, a score is not a number, or the shapes differ.
    """
    if scores_NK.shape != right_NK.shape:
        raise ValueError(f"scores have shape {scores_NK.shape}, right answers {right_NK.shape}")
    if not right_NK.any(axis=1).all():
        raise ValueError(f"row {int(np.argmin(right_NK.any(axis=1)))} has no right answer")
    if np.isnan(scores_NK).any():
        raise ValueError(f"row {int(np.argmax(np.isnan(scores_NK).any(axis=1)))} has a score that is not a number")
    best_N1 = np.where(right_NK, scores_NK, -np.inf).max(axis=1, keepdims=True)
    return ((scores_NK >= best_N1) & ~right_NK).sum(axis=1)


def class_ranks(scores_NK: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """Place, from 0, of the true class of each item."""
    return ranks(scores_NK, labels_N[:, None] == np.arange(scores_NK.shape[1]))


def top_k(scores_NK: np.ndarray, labels_N: np.ndarray, k: int) -> Figure:
    """Share of items whose class is among the k best."""
    return _share(f"top{k}", class_ranks(scores_NK, labels_N) < k, min(1.0, k / scores_NK.shape[1]))


def action_figures(ranks_N: np.ndarray, labels_N: np.ndarray, num_classes: int) -> list[Figure]:
    """top-1, top-5, their mean (the paper's AVG) and the mean over classes of top-1.

    Source: InternVid (arXiv 2307.06942) section 4.1: AVG is the mean of top-1 and top-5.
    """
    chances = [min(1.0, k / num_classes) for k in (1, 5)]
    top1, top5 = (_share(f"top{k}", ranks_N < k, chance) for k, chance in zip((1, 5), chances, strict=True))
    both_N = ((ranks_N < 1).astype(float) + (ranks_N < 5)) / 2
    average = Figure("top1_top5_mean", float(both_N.mean()), *bootstrap(both_N), sum(chances) / 2, len(both_N), "bootstrap over videos")  # fmt: skip
    return [top1, top5, average, _mean_per_class(ranks_N < 1, labels_N, chances[0])]


def _mean_per_class(hits_N: np.ndarray, labels_N: np.ndarray, chance: float) -> Figure:
    """Every class that occurs counts the same; items are drawn anew within each class for the interval."""
    classes = [hits_N[labels_N == label] for label in np.unique(labels_N)]
    value = float(np.mean([hits.mean() for hits in classes]))
    rng = np.random.default_rng(0)
    drawn = np.mean([rng.binomial(len(h), h.mean(), NUM_RESAMPLES) / len(h) for h in classes], axis=0)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Figure("mean_per_class", value, float(min(low, value)), float(max(high, value)), chance, len(hits_N), "bootstrap within classes")  # fmt: skip


def retrieval_figures(
    ranks_N: np.ndarray,
    num_right_N: np.ndarray,
    num_candidates: int,
    direction: str,
    groups_N: np.ndarray | None = None,
) -> list[Figure]:
    """R@1, R@5, R@10, median and mean rank (from 1) of one direction, t2v or v2t.

    Args:
        num_right_N: right answers of each query, for the chance of guessing.
        groups_N: queries of one group (captions of one video) are drawn together for the intervals.
    """
    return [
        *(_recall(ranks_N, num_right_N, num_candidates, k, direction, groups_N) for k in (1, 5, 10)),
        *(_rank(ranks_N, num_right_N, num_candidates, name, direction, groups_N) for name in ("median", "mean")),
    ]


def recall_at_k(scores_NK: np.ndarray, right_NK: np.ndarray, k: int, direction: str) -> Figure:
    """Share of queries with a right answer among the k best. `direction` is t2v or v2t."""
    return _recall(ranks(scores_NK, right_NK), right_NK.sum(axis=1), scores_NK.shape[1], k, direction, None)


def _recall(
    ranks_N: np.ndarray, num_right_N: np.ndarray, num_candidates: int, k: int, direction: str, groups: np.ndarray | None
) -> Figure:
    counts = {int(n): _chance(num_candidates, int(n), k) for n in np.unique(num_right_N)}
    figure = _share(f"{direction}_R@{k}", ranks_N < k, float(np.mean([counts[int(n)] for n in num_right_N])))
    if groups is None:
        return figure
    low, high = bootstrap(ranks_N < k, groups_N=groups)
    return Figure(figure.metric, figure.value, low, high, figure.chance, len(ranks_N), "bootstrap over videos")


def _rank(
    ranks_N: np.ndarray,
    num_right_N: np.ndarray,
    num_candidates: int,
    name: str,
    direction: str,
    groups: np.ndarray | None,
) -> Figure:
    statistic = np.median if name == "median" else np.mean
    low, high = bootstrap(ranks_N + 1, statistic, groups)
    # The best of r random places among n is on average (n + 1) / (r + 1).
    chance = float(np.mean((num_candidates + 1) / (num_right_N + 1)))
    kind = "bootstrap over queries" if groups is None else "bootstrap over videos"
    return Figure(f"{direction}_{name}_rank", float(statistic(ranks_N + 1)), low, high, chance, len(ranks_N), kind)


def _chance(num_candidates: int, num_right: int, k: int) -> float:
    """Probability that k random candidates hold at least one of the right ones."""
    misses = np.arange(min(k, num_candidates))
    return float(1 - np.prod(np.maximum(0, num_candidates - num_right - misses) / (num_candidates - misses)))


def _share(metric: str, hits_N: np.ndarray, chance: float) -> Figure:
    low, high = wilson(hits_N.sum(), len(hits_N))
    return Figure(metric, float(hits_N.mean()), low, high, chance, len(hits_N))


def dual_softmax(scores_NK: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Scores times their softmax over the queries: a candidate that every query likes counts less.

    Apply it to each direction's own [queries, candidates] matrix. At temperature 1, as released, cosines hardly change
    (38.9 against 39.0 in InternVideo's issue 139); CLIP's 0.01 changes much, and uses the other queries of the test set.

    Source: CAMoE, arXiv 2109.04290; R:V/ evaluation code.
    """
    return scores_NK * softmax(scores_NK / temperature, axis=0)


def confusion(scores_NK: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """Counts [K, K]: rows are the truth, columns the best class."""
    num_classes = scores_NK.shape[1]
    counts = np.zeros((num_classes, num_classes), dtype=int)
    np.add.at(counts, (labels_N, scores_NK.argmax(axis=1)), 1)
    return counts
