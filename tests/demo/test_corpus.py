"""The rendered corpus: repeatable, split without leaks, unreadable from one frame, and honestly compared."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import numpy as np
import pytest

from internvid_assets.demo.accuracy import compare
from internvid_assets.demo.render import Film, _held_out_films, _pictures, combinations, is_held_out, render_corpus
from internvid_assets.demo.shapes import MOTIONS


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


def test_the_class_cannot_be_read_from_one_frame_but_from_several(tmp_path: Path) -> None:
    """A linear classifier on the middle frame stays near chance; the same on the object's path does not."""
    films = _held_out_films(tmp_path, random.Random(0), 200)
    labels = np.array([MOTIONS.index(film.shots[0].motion) for film in films])
    clips = np.stack([_object_states(film, 5) for film in films])
    scores = {
        name: _linear_accuracy(x.reshape(len(x), -1), labels) for name, x in (("one", clips[:, 2:3]), ("all", clips))
    }
    assert scores["one"] < 0.3, scores
    assert scores["all"] > 0.5, scores


def _object_states(film: Film, count: int) -> np.ndarray:
    """[T, 10]: coarse brightness moments of the difference to the backdrop, of `count` frames spread over a shot."""
    pictures = list(_pictures(film, []))
    states = []
    for number in np.linspace(0, len(pictures) - 1, count).round().astype(int):
        grey = pictures[number].astype(float)
        strength = np.abs(grey - np.median(grey, axis=(0, 1))).sum(axis=2) > 120
        ys, xs = np.nonzero(strength)
        size = max(1, len(xs))
        mean = (xs.sum() / size / 320, ys.sum() / size / 240, len(xs) / strength.size * 10)
        spread = (xs.std() / 320, ys.std() / 240) if len(xs) else (0.0, 0.0)
        states.append((*mean, *spread))
    return np.array(states)


def _linear_accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """Ridge regression onto classes, five folds."""
    inputs = np.hstack([(features - features.mean(0)) / (features.std(0) + 1e-9), np.ones((len(features), 1))])
    hits = 0
    for fold in range(5):
        test = np.arange(len(inputs)) % 50 // 10 == fold
        x, y = inputs[~test], np.eye(len(MOTIONS))[labels[~test]]
        weights = np.linalg.solve(x.T @ x + 1.0 * np.eye(x.shape[1]), x.T @ y)
        hits += ((inputs[test] @ weights).argmax(1) == labels[test]).sum()
    return hits / len(inputs)


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
