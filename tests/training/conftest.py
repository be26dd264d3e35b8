"""Small shard folders with frames of known content."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from internvid_assets.clips.packs import ClipFrames, PackedFrame
from internvid_assets.release.shards import ShardOptions, shard_order, write_shards

ROOT = Path(__file__).parents[2]


def cli_environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def train(shards: Path | str, output: Path, *options: str, processes: int = 1) -> subprocess.CompletedProcess:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [sys.executable, *launcher, "-m", "training.train", "--recipe", "debug_tiny", "--shards", str(shards)]
    return subprocess.run(
        [*command, "--output", str(output), *options], cwd=ROOT, env=cli_environment(), capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip


def clip_frames(clip_id: str, num_frames: int = 8) -> ClipFrames:
    """Noise that differs from clip to clip and frame to frame."""
    rng = np.random.default_rng(list(clip_id.encode()))
    pictures = [rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(num_frames)]
    jpegs = [cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures]
    return ClipFrames(clip_id, tuple(PackedFrame(i * 0.25, jpeg) for i, jpeg in enumerate(jpegs)), (), 2.0)


def frames_of(clip_ids: Sequence[str]) -> Iterator[ClipFrames]:
    return (clip_frames(clip_id) for clip_id in clip_ids)


def pairs(num_videos: int, clips_each: int) -> list[dict]:
    return [
        {"clip_id": f"video{v:02d}_{c:08d}_{c + 1:08d}", "video_id": f"video{v:02d}", "caption": f"thing {v} doing {c}"}
        for v in range(num_videos)
        for c in range(clips_each)
    ]


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 clips of 10 videos in 4 shards."""
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder, shard_order(pairs(10, 3)), frames_of, ShardOptions(8, 8, 48), "subsets.test", 7)
    return folder
