"""Which of two ways to train is better? Paired differences over seeds and items, with intervals: pure functions.

S seeds, N items, G groups of items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

NUM_RESAMPLES = 4000
_CUTS = {"action": (1, 5), "t2v": (1, 5, 10), "v2t": (1, 5, 10)}


@dataclass(frozen=True)
class Difference:
    """B less A in one metric, in [low, high] with 95 % confidence. `per_seed`: the difference of each seed."""

    benchmark: str
    metric: str
    value_a: float
    value_b: float
    difference: float
    low: float
    high: float
    per_seed: tuple[float, ...]
    num_items: int

    @property
    def verdict(self) -> str:
        """Whose shares are higher beyond doubt; ranks are better when lower."""
        if self.low <= 0 <= self.high:
            return "not told apart"
        higher_is_better = not self.metric.endswith("_rank")
        return "B is better" if (self.difference > 0) == higher_is_better else "A is better"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "verdict": self.verdict}


def outcomes(kind: str, ranks_SN: np.ndarray) -> dict[str, np.ndarray]:
    """Metric to what each item contributes to it [S, N]; its mean is the metric.

    Args:
        kind: action, t2v or v2t, as in `ranks.json`.
        ranks_SN: places from 0 of the right answers.
    """
    prefix = "top" if kind == "action" else f"{kind}_R@"
    hits = {f"{prefix}{k}": (ranks_SN < k).astype(float) for k in _CUTS[kind]}
    return hits if kind == "action" else {**hits, f"{kind}_mean_rank": ranks_SN + 1.0}


def paired_interval(
    difference_SN: np.ndarray, groups_N: np.ndarray | None = None, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the mean difference when both seeds and items are drawn anew.

    Seeds are drawn whole and items (or groups of them, as captions of one video) are drawn whole, each on its own, since
    every seed is tested on the same items. With one seed the interval says nothing of other seeds.

    Worked example: a difference of 1 for every item and seed gives (1, 1).

    Source: the pigeonhole bootstrap (Owen, 2007, arXiv 0711.1163), percentiles.
    """
    num_seeds, num_items = difference_SN.shape
    groups_N = np.arange(num_items) if groups_N is None else np.unique(groups_N, return_inverse=True)[1]
    num_groups = int(groups_N.max()) + 1
    sizes_G = np.bincount(groups_N, minlength=num_groups)
    sums_SG = np.stack([np.bincount(groups_N, row, num_groups) for row in difference_SN])
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(NUM_RESAMPLES):
        seeds_S = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds))
        drawn_G = np.bincount(rng.integers(num_groups, size=num_groups), minlength=num_groups)
        means.append(seeds_S @ sums_SG @ drawn_G / (num_seeds * (sizes_G @ drawn_G)))
    low, high = np.quantile(means, [0.025, 0.975])
    mean = float(difference_SN.mean())
    return float(min(low, mean)), float(max(high, mean))


def paired_differences(
    benchmark: str,
    kind: str,
    ranks_a_SN: Sequence[Sequence[int]],
    ranks_b_SN: Sequence[Sequence[int]],
    groups_N: Sequence[int] | None = None,
) -> list[Difference]:
    """Every metric of one kind of question; row s of both is of the same seed, column n of the same item.

    Raises: ValueError when the two sides were not tested on the same items with as many seeds.
    """
    a_SN, b_SN = np.array(ranks_a_SN), np.array(ranks_b_SN)
    if a_SN.shape != b_SN.shape or a_SN.ndim != 2:
        raise ValueError(f"{benchmark} {kind}: ranks of shapes {a_SN.shape} and {b_SN.shape} cannot be paired")
    groups = None if groups_N is None else np.array(groups_N)
    found = []
    of_a, of_b = outcomes(kind, a_SN), outcomes(kind, b_SN)
    for metric, ours_SN in of_a.items():
        theirs_SN = of_b[metric]
        per_seed = (theirs_SN - ours_SN).mean(axis=1)
        low, high = paired_interval(theirs_SN - ours_SN, groups)
        found.append(
            Difference(
                benchmark, metric, float(ours_SN.mean()), float(theirs_SN.mean()), float(per_seed.mean()), low, high,
                tuple(float(d) for d in per_seed), a_SN.shape[1],
            )
        )  # fmt: skip
    return found


Ranks = Mapping[str, Mapping[str, Sequence[int]]]
"""Of one model: benchmark to kind of question to ranks, as in `ranks.json`."""


def compare_ranks(
    of_a: Sequence[Ranks], of_b: Sequence[Ranks], groups: Mapping[str, Sequence[int]] | None = None
) -> list[Difference]:
    """All benchmarks, kinds and metrics; entry s of both sides is the model of the same seed.

    Args:
        groups: benchmark to the number of the video of each caption, where videos have several.
    """
    found = []
    for benchmark, kinds in of_a[0].items():
        for kind in kinds:
            a, b = ([model[benchmark][kind] for model in side] for side in (of_a, of_b))
            owners = (groups or {}).get(benchmark) if kind == "t2v" else None
            found += paired_differences(benchmark, kind, a, b, owners)
    return found
