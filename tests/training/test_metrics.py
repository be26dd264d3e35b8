"""Metrics on matrices made by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from training.metrics import _chance, confusion, dual_softmax, ranks, recall_at_k, top_k, wilson


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
