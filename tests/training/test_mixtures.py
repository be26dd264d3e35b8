"""Broken samples, mixtures of shard folders, and pictures among videos."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from internvid_assets.release.shards import ShardOptions, shard_order, write_shards
from tests.training.conftest import clip_frames, frames_of, pairs, train
from training.data import (
    BrokenSample,
    EpochOrder,
    MixedOrder,
    ShardManifest,
    ShardReader,
    Source,
    TrainingClips,
    batches,
)
from training.data.order import _quotas
from training.phases import Shards
from training.recipe import DataConfig
from training.run_log import read_metrics


def spoil(folder: Path, number: int) -> str:
    """Overwrite every frame of one sample in place; its clip id."""
    reader = ShardReader(ShardManifest.read(folder))
    shard = int(np.searchsorted(reader._ends, number, side="right"))
    _, samples = reader._index(shard)
    key, members = samples[number - int(reader._ends[shard] - reader.manifest.num_samples[shard])]
    with (folder / reader.manifest.names[shard]).open("r+b") as file:
        for suffix, (offset, length) in members.items():
            if suffix.endswith(".jpg"):
                file.seek(offset)
                file.write(b"\0" * length)
    return key


@pytest.fixture
def broken_shards(shards: Path, tmp_path: Path) -> tuple[Path, set[str]]:
    folder = shutil.copytree(shards, tmp_path / "shards")
    return folder, {spoil(folder, number) for number in (3, 4, 17)}


def read(
    folder: Path, world_size: int, workers: int = 0, start: int = 0
) -> list[tuple[list[str], list[str], torch.Tensor]]:
    """Captions, broken clips and pixels of each step of two epochs, put together from all processes."""
    manifest = ShardManifest.read(folder)
    order = EpochOrder(manifest.num_samples, 6, 1, 2)
    steps = range(start, 2 * order.steps_per_epoch)
    clips = TrainingClips(ShardReader(manifest), DataConfig(), 4, 32, seed=1)
    shares = [
        [(batch, batch.video()) for batch in batches(clips, order, steps, rank, world_size, workers)]
        for rank in range(world_size)
    ]
    return [
        (
            [caption for part, _ in parts for caption in part.captions],
            [clip for part, _ in parts for clip, _ in part.broken],
            torch.cat([video for _, video in parts]),
        )
        for parts in zip(*shares, strict=True)
    ]


def test_a_broken_sample_leaves_with_its_caption_and_the_batch_keeps_its_size(
    broken_shards: tuple[Path, set[str]],
) -> None:
    folder, ids = broken_shards
    reader = ShardReader(ShardManifest.read(folder))
    captions = {sample.clip_id: sample.caption for sample in (reader[number] for number in range(30))}
    seen = read(folder, 1)
    assert {clip for _, broken, _ in seen for clip in broken} == ids
    for texts, _, _ in seen:
        assert len(set(texts)) == 6 and not set(texts) & {captions[clip] for clip in ids}


@pytest.mark.parametrize(("world_size", "workers", "start"), [(2, 0, 0), (3, 1, 0), (1, 0, 4)])
def test_what_takes_its_place_depends_on_the_step_alone(
    broken_shards: tuple[Path, set[str]], world_size: int, workers: int, start: int
) -> None:
    folder, _ = broken_shards
    for (texts, broken, video), (ours, own, other) in zip(
        read(folder, 1)[start:], read(folder, world_size, workers, start), strict=True
    ):
        assert (texts, sorted(broken)) == (ours, sorted(own)) and torch.equal(video, other)


def test_shards_that_are_broken_as_a_whole_are_refused(shards: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(shards, tmp_path / "shards")
    for number in range(30):
        spoil(folder, number)
    with pytest.raises(ValueError, match="too many broken samples"):
        read(folder, 1)
    clips = TrainingClips(ShardReader(ShardManifest.read(folder)), DataConfig(cache_frames=True), 4, 32, seed=1)
    with pytest.raises(BrokenSample, match="is not a whole JPEG"):
        clips[0, 3]


def test_a_run_counts_what_was_broken(broken_shards: tuple[Path, set[str]], tmp_path: Path) -> None:
    folder, ids = broken_shards
    result = train(folder, tmp_path / "run", "--set", "stages.0.steps=8")
    assert result.returncode == 0, result.stderr
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "run" / "broken.jsonl").read_text().splitlines()]
    assert {line["clip_id"] for line in lines} <= ids and run["num_broken_samples"] == len(
        {x["clip_id"] for x in lines}
    ) > 0
    assert sum(row["num_broken"] for row in read_metrics(tmp_path / "run")) == len(lines)


sources = st.lists(
    st.builds(Source, st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple), st.floats(0.5, 4.0)),
    min_size=2, max_size=4,
)  # fmt: skip


@given(sources, st.integers(0, 5))
def test_a_mixture_keeps_its_proportions_and_misses_no_sample(mixture: list[Source], seed: int) -> None:
    order, again = (MixedOrder(mixture, 40, seed, 2) for _ in range(2))
    ends = np.cumsum([sum(source.num_samples) for source in mixture])
    wanted = _quotas(np.array([source.weight for source in mixture]), 40)
    seen: Counter[tuple[int, int]] = Counter()
    for step in range(8):
        keys = order.batch(step)
        assert keys == again.batch(step)
        places = np.searchsorted(ends, [number for _, number in keys], side="right")
        assert np.bincount(places, minlength=len(mixture)).tolist() == wanted
        seen.update(keys)
    assert max(seen.values()) == 1  # no sample comes twice in an epoch of its source
    total, taken = sum(mixture[0].num_samples), 8 * wanted[0]
    assert sum(1 for epoch, number in seen if number < ends[0] and epoch < taken // total) == taken // total * total


def test_quotas_by_hand() -> None:
    assert _quotas(np.array([2.0, 1.0, 0.0]), 4) == [3, 1, 0]
    with pytest.raises(ValueError, match="too small for the weights"):
        _quotas(np.array([1000.0, 1.0]), 4)


def test_steps_of_pictures_are_spread_evenly() -> None:
    order = MixedOrder([Source((50,), 3.0), Source((50,), 1.0, is_image=True)], 4, 0, 2)
    is_image = [{number >= 50 for _, number in order.batch(step)} for step in range(16)]
    assert all(len(kinds) == 1 for kinds in is_image)
    assert [kinds == {True} for kinds in is_image] == [False, False, False, True] * 4


def image_shards(folder: Path) -> Path:
    def pictures(clip_ids):
        return (clip_frames(clip_id, 1) for clip_id in clip_ids)

    write_shards(folder, shard_order(pairs(5, 2)), pictures, ShardOptions(8, 1, 48), "subsets.pictures", 8)
    return folder


def test_pictures_are_videos_of_one_frame(shards: Path, tmp_path: Path) -> None:
    readers = [ShardReader(ShardManifest.read(f)) for f in (shards, image_shards(tmp_path / "pictures"))]
    clips = TrainingClips(readers, DataConfig(), 4, 32, seed=1, takes_images=True)
    assert len(clips[0, 0]["crop"].frames_THWC) == 4 and len(clips[0, 30]["crop"].frames_THWC) == 1
    assert clips[0, 39]["caption"] == readers[1][9].caption


def test_a_mixture_of_videos_and_pictures_trains(shards: Path, tmp_path: Path) -> None:
    pictures = image_shards(tmp_path / "pictures")
    result = train(
        f"{shards}=2", tmp_path / "run", "--shards", f"{pictures}=1", "--set", "model.vision.tubelet_frames=1",
        "--set", "stages.0.mask_ratio=0", "--set", "stages.1.mask_ratio=0", processes=2,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert len(run["shards_id"]) == 2 and run["shards_weight"] == [2.0, 1.0]


def test_weights_are_all_or_none(shards: Path, tmp_path: Path) -> None:
    other = write_other(tmp_path / "other")
    result = train(f"{shards}=2", tmp_path / "run", "--shards", str(other))
    assert result.returncode == 2 and "give a weight to every --shards folder" in result.stderr
    with pytest.raises(ValueError, match="is not a number"):
        Shards.read(f"{shards}=many")


def write_other(folder: Path) -> Path:
    write_shards(folder, shard_order(pairs(4, 2)), frames_of, ShardOptions(8, 8, 48), "subsets.other", 9)
    return folder
