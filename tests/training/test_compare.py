"""Paired differences on outcomes made by hand, and the bootstrap's promise on drawn ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap, ttest_rel

from training.compare import compare_ranks, outcomes, paired_differences, paired_interval


def test_differences_by_hand() -> None:
    """Two seeds, four items; B finds one more item first with each seed."""
    a, b = [[0, 1, 9, 2], [0, 0, 9, 2]], [[0, 0, 9, 2], [0, 0, 0, 2]]
    found = {d.metric: d for d in paired_differences("k400", "action", a, b)}
    top1, top5 = found["top1"], found["top5"]
    assert (top1.value_a, top1.value_b, top1.difference) == (0.375, 0.625, 0.25)
    assert top1.per_seed == (0.25, 0.25) and top1.num_items == 4
    assert (top5.value_a, top5.value_b) == (0.75, 0.875) and top5.low <= 0.125 <= top5.high


def test_outcomes_of_retrieval() -> None:
    found = outcomes("t2v", np.array([[0, 4, 12]]))
    assert {name: values.mean() for name, values in found.items()} == pytest.approx(
        {"t2v_R@1": 1 / 3, "t2v_R@5": 2 / 3, "t2v_R@10": 2 / 3, "t2v_mean_rank": 19 / 3}
    )


def test_the_same_is_not_told_apart_and_a_clear_difference_is() -> None:
    ranks = np.random.default_rng(0).integers(0, 40, (3, 50)).tolist()
    same = paired_differences("b", "v2t", ranks, ranks)
    assert all((d.low, d.high, d.verdict) == (0.0, 0.0, "not told apart") for d in same)
    better = np.zeros((3, 50), dtype=int).tolist()
    assert {d.verdict for d in paired_differences("b", "v2t", ranks, better)} == {"B is better"}  # also by mean rank
    assert {d.verdict for d in paired_differences("b", "v2t", better, ranks)} == {"A is better"}


def test_with_one_seed_the_interval_is_scipys() -> None:
    difference = np.random.default_rng(2).normal(0.1, 1.0, 300)
    theirs = bootstrap((difference,), np.mean, n_resamples=9000, method="percentile", rng=1).confidence_interval
    assert paired_interval(difference[None]) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_pairing_sees_what_two_separate_intervals_do_not() -> None:
    """Hard items are hard for both: the difference is far narrower than either accuracy."""
    rng = np.random.default_rng(3)
    hard = rng.random(400) < 0.5
    a = np.where(hard, 5, 0)[None]
    b = np.where(hard & (rng.random(400) < 0.85), 5, 0)[None]
    top1 = paired_differences("b", "action", a.tolist(), b.tolist())[0]
    assert top1.verdict == "B is better" and top1.high - top1.low < 0.06
    assert ttest_rel((b[0] == 0).astype(float), (a[0] == 0).astype(float)).pvalue < 1e-6


def test_seeds_that_disagree_widen_the_interval() -> None:
    """Every item agrees within a seed, so only the seeds carry doubt."""
    difference = np.array([[0.3], [-0.1], [0.2], [0.0]]).repeat(500, axis=1)
    low, high = paired_interval(difference)
    assert low < 0.0 < 0.2 < high
    assert paired_interval(difference.mean(axis=0, keepdims=True)) == pytest.approx((0.1, 0.1))


def test_items_of_a_video_are_drawn_together() -> None:
    difference = np.repeat(np.random.default_rng(4).normal(size=20), 10)[None]
    alone, grouped = paired_interval(difference), paired_interval(difference, np.repeat(np.arange(20), 10))
    assert grouped[1] - grouped[0] > 2.5 * (alone[1] - alone[0])


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(60):
        seeds, items = rng.normal(0, 0.5, (8, 1)), rng.normal(0, 1.0, (1, 60))
        low, high = paired_interval(seeds + items + rng.normal(0, 1.0, (8, 60)))
        held += low <= 0.0 <= high
    assert held >= 50  # of 57 expected


def test_all_benchmarks_are_compared_and_sides_must_match() -> None:
    side = [{"k400": {"action": [0, 1]}, "msvd": {"t2v": [0, 1, 2], "v2t": [0, 0]}}]
    metrics = [(d.benchmark, d.metric) for d in compare_ranks(side, side, {"msvd": [0, 0, 1]})]
    assert metrics == [
        ("k400", "top1"), ("k400", "top5"),
        *(("msvd", f"{way}_{name}") for way in ("t2v", "v2t") for name in ("R@1", "R@5", "R@10", "mean_rank")),
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"ranks of shapes \(1, 2\) and \(1, 3\) cannot be paired"):
        paired_differences("k400", "action", [[0, 1]], [[0, 1, 2]])
