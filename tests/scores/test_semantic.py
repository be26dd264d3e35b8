"""Clips that mean the same are found within clusters, and dropped only where the settings ask for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from internvid_assets.clips.cut import cut_batch
from internvid_assets.lake import Append, Lake, Write
from internvid_assets.scores.clusters import nearest, repeats, spherical_kmeans
from internvid_assets.scores.semantic import find_semantic_duplicates, load_embedder
from internvid_assets.settings import ClipSettings, DuplicateSettings, Settings
from internvid_assets.store import open_store
from tests.media import moving_pictures, write_video


def units(rng: np.random.Generator, count: int, width: int = 16) -> np.ndarray:
    vectors = rng.normal(size=(count, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
def test_kmeans_finds_planted_clusters(seed: int) -> None:
    rng = np.random.default_rng(seed)
    centres = units(rng, 5)
    truth = np.repeat(np.arange(5), 40)
    vectors = centres[truth] + rng.normal(0, 0.05, (200, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = spherical_kmeans(vectors, 8, seed)
    assert np.array_equal(found, spherical_kmeans(vectors, 8, seed)) and np.allclose(
        np.linalg.norm(found, axis=1), 1, atol=1e-5
    )
    labels = nearest(vectors, found)
    assert len(set(labels)) == 8 and all(len(set(truth[labels == n])) == 1 for n in range(8))
    assert len(spherical_kmeans(vectors[:3], 10)) == 3 and len(spherical_kmeans(vectors[[0, 0, 0]], 2)) == 2


@pytest.mark.parametrize("seed", range(5))
def test_what_stays_is_unlike_and_what_goes_is_like_one_that_stays(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = np.concatenate([base := units(rng, 30, 4), units(rng, 30, 4), base[:5]])
    centre = vectors.mean(axis=0) / np.linalg.norm(vectors.mean(axis=0))
    found = repeats(vectors, centre, 0.95)
    gone = {member for member, _, _ in found}
    stays = sorted(set(range(len(vectors))) - gone)
    cosines = vectors[stays] @ vectors[stays].T - np.eye(len(stays))
    assert cosines.max() < 0.95 and len(gone) >= 5
    for member, like, cosine in found:
        assert (
            like in stays
            and cosine == pytest.approx(float(vectors[member] @ vectors[like]), abs=1e-6)
            and cosine >= 0.95
        )
        assert vectors[like] @ centre <= vectors[member] @ centre


def quiet(items, *_, **__):
    return items


def test_equal_pictures_repeat_each_other_and_none_is_the_default(embedded_settings: Settings, tmp_path: Path) -> None:
    lake, store = Lake(embedded_settings), open_store(embedded_settings)
    rows = []
    for name, seed in (("a", 1), ("b", 1), ("c", 9)):
        path = write_video(tmp_path / f"{name}.mp4", moving_pictures(30, (128, 96), seed))
        store.put_file(f"videos/{name}.mp4", path)
        rows.append({"batch": "b", "video_id": name, "media_key": f"videos/{name}.mp4", "source_uri": str(path)})
    lake.commit(Write("x", "x"), [Append("videos.raw_videos", lake.to_arrow("videos.raw_videos", rows), ("video_id",))])
    lake.commit(Write("x", "x"), cut_batch(lake, store, ClipSettings(num_frames=4), 1, "b", quiet).changes)

    def found(**settings) -> list[tuple[str, str]]:
        for part in find_semantic_duplicates(lake, store, DuplicateSettings(**settings), quiet):
            lake.commit(Write("scores.semantic_duplicates", "x"), part.changes)
        rows = lake.rows("select video_id, like_video_id from scores.semantic_duplicates")
        return [(row["video_id"], row["like_video_id"]) for row in rows]

    assert found() == [] and lake.value("select count(*) from scores.clip_embeddings") == 0
    for _ in range(2):
        assert [set(pair) for pair in found(semantic="embedded", semantic_min_cosine=0.999)] == [{"a", "b"}]
        assert lake.value("select count(*) from scores.clip_embeddings") == 3
    assert found() == []
    lake.close()


@pytest.mark.parametrize(("backend", "options"), [("clip", {}), ("embedded", {"model": "x"}), ("hf", {"width": "3"})])
def test_wrong_settings_are_named(backend: str, options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        load_embedder(backend, options)
