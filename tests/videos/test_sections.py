"""Arithmetic of sections: half-open, in order, nothing lost."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from internvid_assets.videos.sections import disjoint, format_seconds, in_order, parse_seconds, parse_sections

MILLISECONDS = st.integers(0, 99_999_000)
SECTIONS = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(1, 500)).map(lambda pair: (pair[0] / 10, (pair[0] + pair[1]) / 10)),
    max_size=12,
)


@given(MILLISECONDS)
def test_times_survive_being_written(milliseconds: int) -> None:
    assert round(parse_seconds(format_seconds(milliseconds / 1000)) * 1000) == milliseconds


@given(SECTIONS)
def test_disjoint_sections_cover_the_same_seconds_once(sections: list[tuple[float, float]]) -> None:
    found = disjoint(sections)
    assert all(start < end for start, end in found)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(found))
    tenths = {tenth for start, end in sections for tenth in range(round(start * 10), round(end * 10))}
    covered = [tenth for start, end in found for tenth in range(round(start * 10), round(end * 10))]
    assert sorted(tenths) == covered


@given(SECTIONS)
def test_sections_written_as_text_are_the_same(sections: list[tuple[float, float]]) -> None:
    text = ", ".join(f"{format_seconds(start)}-{format_seconds(end)}" for start, end in sections)
    assert parse_sections(text) == sections
    assert parse_sections([list(section) for section in sections]) == sections
    assert [section for section, _ in in_order(sections)] == sorted(set(sections))


def test_each_way_of_writing_sections() -> None:
    assert parse_sections("0:10-0:20, 65-1:10.5") == [(10.0, 20.0), (65.0, 70.5)]
    assert parse_sections("*10:15-20:30") == [(615.0, 1230.0)]
    assert parse_sections('["00:01:00-00:01:30", [5, 7.5]]') == [(60.0, 90.0), (5.0, 7.5)]
    assert parse_sections([3, 4]) == [(3.0, 4.0)]
    assert parse_sections(None) == parse_sections("") == []
    assert in_order([(5, 6), (1, 2), (5, 6)], [None, "b", "c"]) == [((1, 2), "b"), ((5, 6), "c")]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("10", "must be START-END"),
        ("20-10", "end after it starts"),
        ([[1, 2, 3]], r"must be \[start, end\]"),
        ([[1, -2]], "at least 0"),
        ([["a", "b"]], "HH:MM:SS"),
        ("[1, 2", "not JSON"),
        (5, "must be a list"),
        ([[0, float("nan")]], "at least 0"),
    ],
)
def test_wrong_sections_are_told(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_sections(value)
