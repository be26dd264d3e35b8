"""Spans are exact, samples even, packs round-trip."""

from __future__ import annotations

import io
import itertools
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from internvid_assets.clips import ScanOptions, scan_video
from internvid_assets.clips.packs import FramePackWriter, read_frame_pack
from internvid_assets.clips.sampling import StreamSampler
from internvid_assets.clips.spans import clip_id, parse_clip_id
from internvid_assets.demo.footage import copy_footage
from internvid_assets.demo.render import render_corpus


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("scan")
    render_corpus(folder, seed=5, scale=0.04)
    return [*sorted((folder / "videos").glob("rendered_*.mp4")), *copy_footage(folder / "footage")]


def test_clips_cover_the_video_without_overlap(videos: list[Path]) -> None:
    for path in videos:
        scan = scan_video(path, ScanOptions(min_clip_seconds=0))
        edges = [0, *scan.cut_frames, scan.num_frames]
        assert [(c.start_frame, c.end_frame) for c in scan.clips] == list(itertools.pairwise(edges))
        assert scan.clips[0].start_seconds == 0
        assert scan.clips[-1].end_seconds == pytest.approx(scan.duration_seconds)
        for clip in scan.clips:
            uniform = [f.frame for f in clip.frames if f.role == "uniform"]
            assert uniform == sorted(set(uniform)) and len(uniform) == min(8, clip.end_frame - clip.start_frame)
            assert all(clip.start_frame <= f.frame < clip.end_frame for f in clip.frames)


def test_packs_round_trip_and_are_deterministic(videos: list[Path], tmp_path: Path) -> None:
    scan = scan_video(videos[0])
    packs = []
    for _ in range(2):
        file = io.BytesIO()
        writer = FramePackWriter(file)
        for clip in scan.clips:
            writer.add(clip_id("v", clip.start_seconds, clip.end_seconds), clip.duration_seconds, clip.frames)
        writer.close()
        packs.append(file.getvalue())
    assert packs[0] == packs[1]
    (tmp_path / "pack.tar").write_bytes(packs[0])
    read = list(read_frame_pack(tmp_path / "pack.tar"))
    assert [len(f.uniform) + len(f.seconds) for f in read] == [len(c.frames) for c in scan.clips]
    assert read[0].middle.rgb().shape == (224, 298, 3)


@given(st.integers(0, 10**8 - 2), st.integers(1, 10**6))
def test_clip_ids_round_trip(start_ms: int, length_ms: int) -> None:
    end_ms = min(start_ms + length_ms, 10**8 - 1)
    identity = clip_id("some_video-id", start_ms / 1000, end_ms / 1000)
    assert parse_clip_id(identity) == ("some_video-id", start_ms / 1000, end_ms / 1000)


def test_a_scan_keeps_its_pictures_out_of_memory_and_can_be_pickled(videos: list[Path]) -> None:
    scan = scan_video(videos[0])
    again = pickle.loads(pickle.dumps(scan))
    assert again == scan and [f.jpeg for f in again.frames] == [f.jpeg for f in scan.frames]
    assert not any(isinstance(frame.picture, bytes) for frame in scan.frames)
    assert all(frame.jpeg.startswith(b"\xff\xd8") for frame in scan.frames)


@given(st.integers(1, 5000), st.integers(2, 64))
def test_streaming_samples_are_bounded_and_even(length: int, limit: int) -> None:
    sampler: StreamSampler[int] = StreamSampler(limit, 1)
    for frame in range(length):
        sampler.offer(frame, frame)
        assert len(sampler.items) <= limit
    gaps = {b - a for a, b in itertools.pairwise(sampler.items)}
    assert len(gaps) <= 1 and sampler.items[0] == 0
    assert length - sampler.items[-1] <= max(gaps, default=length)


@given(st.integers(1, 5000), st.integers(1, 16))
def test_uniform_samples_are_a_third_of_a_spacing_off_at_most(length: int, count: int) -> None:
    sampler: StreamSampler[int] = StreamSampler(3 * count, 1)
    for frame in range(length):
        sampler.offer(frame, frame)
    chosen = [sampler.items[number] for number in sampler.uniform(0, length, count)]
    assert len(chosen) == min(count, length)
    spacing = length / count
    for number, frame in enumerate(chosen if length >= count else []):
        assert abs(frame + 0.5 - (number + 0.5) * spacing) <= max(0.5, spacing / 3) + 1e-9
