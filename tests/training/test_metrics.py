"""Metrics on matrices made by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, rankdata
from scipy.stats import bootstrap as scipys_bootstrap

from training.metrics import (
    _chance,
    action_figures,
    bootstrap,
    class_ranks,
    confusion,
    dual_softmax,
    ranks,
    recall_at_k,
    retrieval_figures,
    top_k,
    wilson,
)


@given(st.integers(0, 40), st.integers(1, 40))
def test_wilson_is_scipys(successes: int, total: int) -> None:
    successes = min(successes, total)
    theirs = binomtest(successes, total).proportion_ci(method="wilson")
    low, high = wilson(successes, total)
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert 0 <= low <= successes / total <= high <= 1


def test_a_tie_counts_against_the_right_answer() -> None:
    scores = np.array([[0.5, 0.9, 0.5], [0.1, 0.2, 0.3], [0.7, 0.7, 0.7]])
    right = np.eye(3, dtype=bool)
    assert ranks(scores, right).tolist() == [2, 1, 2]
    assert ranks(scores, right | (np.arange(3) == 1)).tolist() == [0, 1, 1]


def test_accuracy_and_recall_by_hand() -> None:
    scores = np.array([[0.9, 0.1, 0.0], [0.2, 0.1, 0.3], [0.1, 0.2, 0.9], [0.8, 0.1, 0.3]])
    labels = np.array([0, 1, 2, 2])
    assert (top_k(scores, labels, 1).value, top_k(scores, labels, 2).value) == (0.5, 0.75)
    assert top_k(scores, labels, 1).chance == pytest.approx(1 / 3)
    assert confusion(scores, labels).tolist() == [[1, 0, 0], [0, 0, 1], [1, 0, 1]]
    right = labels[:, None] == np.arange(3)
    figure = recall_at_k(scores, right, 2, "t2v")
    assert (figure.metric, figure.value, figure.num_items) == ("t2v_R@2", 0.75, 4)
    assert figure.low <= figure.value <= figure.high


@pytest.mark.parametrize(("candidates", "right", "k"), [(5, 1, 1), (5, 2, 2), (6, 3, 4), (3, 1, 10)])
def test_chance_is_counted(candidates: int, right: int, k: int) -> None:
    draws = list(itertools.combinations(range(candidates), min(k, candidates)))
    assert _chance(candidates, right, k) == pytest.approx(sum(min(draw) < right for draw in draws) / len(draws))


def test_dual_softmax_lowers_what_every_query_likes() -> None:
    scores = np.array([[9.0, 8.9], [9.0, 1.0]])
    weighed = dual_softmax(scores)
    assert weighed[0] == pytest.approx([9.0 * 0.5, 8.9 / (1 + np.exp(1.0 - 8.9))])
    assert scores.argmax(1).tolist() == [0, 0] and weighed.argmax(1).tolist() == [1, 0]
    assert not np.allclose(dual_softmax(scores.T), weighed.T)  # each direction has its own


def test_a_row_without_a_right_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="row 1 has no right answer"):
        ranks(np.zeros((2, 2)), np.array([[True, False], [False, False]]))


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(2, 9))
def test_ranks_are_scipys(seed: int, num_rows: int, num_columns: int) -> None:
    """`max` gives equal values the worst of their places, as a tie must count against the right answer."""
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, 4, (num_rows, num_columns)).astype(float), rng.integers(0, num_columns, num_rows)
    theirs = rankdata(-scores, method="max", axis=1)[np.arange(num_rows), labels] - 1
    assert class_ranks(scores, labels).tolist() == theirs.tolist()


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_top_k_without_ties_is_torchs(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    scores, labels = rng.permuted(np.tile(np.arange(7.0), (20, 1)), axis=1), rng.integers(0, 7, 20)
    theirs = (torch.from_numpy(scores).topk(k).indices == torch.from_numpy(labels)[:, None]).any(1).double().mean()
    assert top_k(scores, labels, k).value == pytest.approx(float(theirs))


def test_action_figures_by_hand() -> None:
    """Class 0 has three items, two of them right; class 1 has one, wrong but among the five best."""
    figures = {f.metric: f for f in action_figures(np.array([0, 0, 7, 3]), np.array([0, 0, 0, 1]), 10)}
    assert {name: f.value for name, f in figures.items()} == pytest.approx(
        {"top1": 0.5, "top5": 0.75, "top1_top5_mean": 0.625, "mean_per_class": 1 / 3}
    )
    assert {name: f.chance for name, f in figures.items()} == pytest.approx(
        {"top1": 0.1, "top5": 0.5, "top1_top5_mean": 0.3, "mean_per_class": 0.1}
    )
    assert all(0 <= f.low <= f.value <= f.high <= 1 for f in figures.values())


def test_retrieval_figures_by_hand_with_several_captions_of_a_video() -> None:
    """Videos 0 and 1 with captions a, b and c; c ties with the wrong video, which counts against it."""
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    owners = np.array([0, 0, 1])
    right = owners[:, None] == np.arange(2)
    t2v = ranks(scores, right)
    assert t2v.tolist() == [0, 1, 1]
    figures = {f.metric: f for f in retrieval_figures(t2v, right.sum(1), 2, "t2v", owners)}
    assert figures["t2v_R@1"].value == pytest.approx(1 / 3) and figures["t2v_R@5"].value == 1.0
    assert (figures["t2v_median_rank"].value, figures["t2v_mean_rank"].value) == (2.0, pytest.approx(5 / 3))
    assert figures["t2v_mean_rank"].chance == 1.5 and figures["t2v_R@1"].interval == "bootstrap over videos"
    v2t = ranks(scores.T, right.T)  # video 0 finds caption a first; of video 1, b comes before c
    assert v2t.tolist() == [0, 1]
    figures = {f.metric: f for f in retrieval_figures(v2t, right.T.sum(1), 3, "v2t")}
    assert figures["v2t_R@1"].value == 0.5 and figures["v2t_R@1"].interval == "Wilson"
    assert figures["v2t_R@1"].chance == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert figures["v2t_mean_rank"].chance == pytest.approx((4 / 3 + 2) / 2)


def test_the_bootstrap_is_scipys() -> None:
    values = np.random.default_rng(1).exponential(size=200)
    theirs = scipys_bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=0).confidence_interval
    assert bootstrap(values) == pytest.approx((theirs.low, theirs.high), abs=0.02)
    assert bootstrap(values) == bootstrap(values)


def test_items_of_a_group_are_drawn_together() -> None:
    """Ten groups of twenty equal values know no more than ten values."""
    groups = np.repeat(np.arange(10), 20)
    low, high = bootstrap((groups % 2).astype(float), groups_N=groups)
    narrow_low, narrow_high = bootstrap((groups % 2).astype(float))
    assert high - low > 3 * (narrow_high - narrow_low)


def test_dual_softmax_at_a_low_temperature_gives_a_candidate_to_one_query() -> None:
    scores = np.array([[0.40, 0.29], [0.41, 0.10]])
    assert dual_softmax(scores).argmax(1).tolist() == [0, 0]
    assert dual_softmax(scores, 0.01).argmax(1).tolist() == [1, 0]


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="row 1 has a score that is not a number"):
        ranks(np.array([[1.0, 0.0], [np.nan, 0.0]]), np.eye(2, dtype=bool))
