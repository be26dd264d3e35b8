"""The rendered corpus: repeatable, split without leaks, unreadable from one frame, and honestly compared."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from internvid_assets.demo.accuracy import compare
from internvid_assets.demo.render import combinations, is_held_out, render_corpus
from internvid_assets.demo.shapes import MOTIONS
from training.video import read_frames


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    render_corpus(folder, seed=1, scale=0.06)
    return folder


def hashes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 2), ("b", 2), ("c", 3)):
        render_corpus(tmp_path / name, seed=seed, scale=0.03)
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    assert hashes(tmp_path / "a")["rendered_000.mp4"] != hashes(tmp_path / "c")["rendered_000.mp4"]


def test_held_out_combinations_are_never_trained_on(corpus: Path) -> None:
    assert {motion for _, motion in combinations(True)} == set(MOTIONS) == {motion for _, motion in combinations(False)}
    assert not set(combinations(True)) & set(combinations(False))
    truth = json.loads((corpus / "truth.json").read_text())["videos"]
    trained = {
        shot["caption"] for video in truth.values() for shot in video.get("shots", []) if shot["kind"] == "motion"
    }
    held_out = {pair["caption"] for pair in json.loads((corpus / "heldout" / "retrieval.json").read_text())}
    assert held_out and not trained & held_out
    assert not any(is_held_out(*pair) for pair in combinations(False))


def test_the_class_cannot_be_read_from_one_frame(corpus: Path) -> None:
    """A classifier on one frame's pixels (nearest class mean, the item itself left out) stays near chance."""
    with (corpus / "heldout" / "actions.csv").open() as file:
        rows = list(csv.DictReader(file))
    labels = np.array([MOTIONS.index(row["label"]) for row in rows])
    middle = np.stack([read_frames(corpus / "heldout" / row["path"], 1)[0][::12, ::12].ravel() for row in rows]).astype(
        float
    )
    distance = np.linalg.norm(middle[:, None] - middle[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (labels[distance.argmin(axis=1)] == labels).mean() < 0.4


def truth() -> dict:
    shots = [
        {"start_frame": 0, "end_frame": 50, "kind": "motion", "motion_class": "moving left", "subject": "red circle"},
        {"start_frame": 50, "end_frame": 110, "kind": "still", "motion_class": None, "subject": "blue star"},
    ]
    return {
        "a.mp4": {"cut_frames": [50], "shots": shots, "expected_reason": None, "duplicate_of": None},
        "bad.mp4": {"cut_frames": [], "shots": [], "expected_reason": "empty_file", "duplicate_of": None},
    }


def found(second_start: int) -> list[dict]:
    spans = [(0, second_start, 0.1), (second_start, 110, 1.0)]
    return [
        {"clip_id": f"c{i}", "video_id": "a", "source_uri": "/in/a.mp4", "start_frame": start, "end_frame": end,
         "still_share": still, "num_static_runs": 1, "motion_mean": 0.1, "motion_peak": 0.1}
        for i, (start, end, still) in enumerate(spans)
    ]  # fmt: skip


def measures(clips: list[dict], label: str, reason: str) -> dict[str, float]:
    quarantine = [{"source_uri": "/in/bad.mp4", "stage": "videos", "reason": reason, "item_id": "/in/bad.mp4"}]
    texts = {"c0": "a red circle moving left", "c1": "a blue star"}
    return {m.name: m.value for m in compare(truth(), clips, quarantine, {"c0": label, "c1": ""}, texts, {})}


def test_a_planted_mistake_shows_in_its_own_figure() -> None:
    right = measures(found(50), "moving left", "empty_file")
    assert (right["cuts F1"], right["motion class"], right["bad files refused for their reason"]) == (1.0, 1.0, 1.0)
    assert measures(found(70), "moving left", "empty_file")["cuts F1"] == 0.0
    assert measures(found(50), "moving right", "empty_file")["motion class"] == 0.0
    assert measures(found(50), "moving left", "not_a_video")["bad files refused for their reason"] == 0.0
