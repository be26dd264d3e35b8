"""Shards: order, bytes, going on after a break, missing frames."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from internvid_assets.clips.packs import ClipFrames, PackedFrame
from internvid_assets.release.shards import ShardOptions, shard_order, write_shards

PAIRS = shard_order(
    [{"clip_id": f"v{v}_{c}", "video_id": f"v{v}", "caption": f"{v} {c}"} for v in range(5) for c in range(4)]
)


def frames_of(clip_ids: Sequence[str]) -> Iterator[ClipFrames]:
    picture = np.full((96, 128, 3), 90, np.uint8)
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    for clip_id in reversed(clip_ids):
        yield ClipFrames(clip_id, tuple(PackedFrame(i / 4, jpeg) for i in range(3)), (), 0.75)


def test_clips_of_a_video_lie_together() -> None:
    videos = [pair["video_id"] for pair in PAIRS]
    assert sum(a != b for a, b in pairwise(videos)) == 4
    assert shard_order(list(reversed(PAIRS))) == PAIRS


def test_the_same_pairs_give_the_same_shards_and_a_broken_write_goes_on(tmp_path: Path) -> None:
    options = ShardOptions(6, 4, 48)
    whole, shards = write_shards(tmp_path / "a", PAIRS, frames_of, options, "s", 1)
    assert [shard.num_samples for shard in shards] == [6, 6, 6, 2]

    def dying(clip_ids: Sequence[str]) -> Iterator[ClipFrames]:
        if PAIRS[8]["clip_id"] in clip_ids:
            raise OSError("disk gone")
        return frames_of(clip_ids)

    with pytest.raises(OSError, match="disk gone"):
        write_shards(tmp_path / "b", PAIRS, dying, options, "s", 1)
    assert not (tmp_path / "b" / "manifest.json").exists()
    first = (tmp_path / "b" / "train-000000.tar").stat().st_mtime_ns
    assert write_shards(tmp_path / "b", PAIRS, frames_of, options, "s", 1)[0] == whole
    assert (tmp_path / "b" / "train-000000.tar").stat().st_mtime_ns == first
    assert write_shards(tmp_path / "c", PAIRS, frames_of, options, "s", 2)[0] != whole


def test_frames_are_evenly_chosen_and_made_small(tmp_path: Path) -> None:
    write_shards(tmp_path, PAIRS[:1], frames_of, ShardOptions(6, 4, 48), "s", 1)
    with tarfile.open(tmp_path / "train-000000.tar") as tar:
        names = tar.getnames()
        data = tar.extractfile(names[2]).read()  # type: ignore[union-attr]
    key = PAIRS[0]["clip_id"]
    assert names == [f"{key}.json", f"{key}.txt", *(f"{key}.f{i:02d}.jpg" for i in range(4))]
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (48, 64, 3)


def test_missing_frames_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"frames of 6 clips are gone, e\.g\. v"):
        write_shards(tmp_path, PAIRS, lambda _: iter(()), ShardOptions(6, 4, 48), "s", 1)
