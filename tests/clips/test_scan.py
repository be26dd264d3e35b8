"""Cuts equal PySceneDetect's; spans are exact; packs round-trip."""

from __future__ import annotations

import io
import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from internvid_assets.clips import ScanError, ScanOptions, scan_video
from internvid_assets.clips.packs import FramePackWriter, read_frame_pack
from internvid_assets.clips.sampling import StreamSampler
from internvid_assets.clips.shots import CutFilter
from internvid_assets.clips.spans import clip_id, parse_clip_id
from internvid_assets.clips.workers import ScanLimits, scan_videos
from internvid_assets.demo.footage import copy_footage
from internvid_assets.demo.render import render_corpus

REAL = Path(os.environ.get("INTERNVID_TEST_VIDEOS", Path(__file__).parents[3] / "shared" / "videos"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("scan")
    render_corpus(folder, seed=5, scale=0.04)
    return [*sorted((folder / "videos").glob("rendered_*.mp4")), *copy_footage(folder / "footage")]


def test_cuts_are_those_of_pyscenedetect(videos: list[Path]) -> None:
    from scenedetect import ContentDetector, detect

    for path in videos:
        wanted = [scene[0].frame_num for scene in detect(str(path), ContentDetector())][1:]
        found = scan_video(path).cut_frames
        assert len(found) == len(wanted), path.name
        assert all(abs(a - b) <= 1 for a, b in zip(found, wanted, strict=True)), (path.name, found, wanted)


def test_clips_cover_the_video_without_overlap(videos: list[Path]) -> None:
    for path in videos:
        scan = scan_video(path, ScanOptions(min_clip_seconds=0))
        edges = [0, *scan.cut_frames, scan.num_frames]
        assert [(c.start_frame, c.end_frame) for c in scan.clips] == list(itertools.pairwise(edges))
        assert scan.clips[0].start_seconds == 0
        assert scan.clips[-1].end_seconds == pytest.approx(scan.duration_seconds)
        for clip in scan.clips:
            uniform = [f.frame for f in clip.frames if f.role == "uniform"]
            assert uniform == sorted(set(uniform)) and len(uniform) == min(16, clip.end_frame - clip.start_frame)
            assert all(clip.start_frame <= f.frame < clip.end_frame for f in clip.frames)


def test_long_shots_are_split(videos: list[Path]) -> None:
    scan = scan_video(videos[0], ScanOptions(max_clip_seconds=1.0, min_clip_seconds=0))
    assert max(clip.duration_seconds for clip in scan.clips) <= 1.05
    assert all(a.end_frame == b.start_frame for a, b in zip(scan.clips, scan.clips[1:], strict=False))


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real test videos beside the checkout")
def test_every_codec_gives_frames_or_a_reason() -> None:
    for path in sorted((REAL / "codec-zoo").iterdir()):
        try:
            scan = scan_video(path, ScanOptions(min_clip_seconds=0))
        except ScanError as error:
            assert error.reason and error.detail
        else:
            assert scan.num_frames == sum(clip.end_frame - clip.start_frame for clip in scan.clips) > 0


@pytest.mark.parametrize(("content", "reason"), [(b"", "unreadable"), (b"notes" * 99, "unreadable")])
def test_bad_files_have_a_reason(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(content)
    with pytest.raises(ScanError, match=reason):
        scan_video(tmp_path / "bad.mp4")


def test_a_hanging_or_swelling_scan_costs_that_video_only(videos: list[Path], tmp_path: Path) -> None:
    pairs = [("one", videos[0]), ("two", videos[1])]
    late = list(scan_videos(pairs, ScanOptions(), ScanLimits(seconds=0.0), 2, tmp_path))
    assert [outcome.reason for outcome in late] == ["timeout", "timeout"]
    small = list(scan_videos(pairs[:1], ScanOptions(), ScanLimits(memory_mib=64), 1, tmp_path))
    assert small[0].reason in ("out_of_memory", "decoder_crashed")
    good = list(scan_videos(pairs, ScanOptions(), ScanLimits(), 2, tmp_path))
    assert [outcome.reason for outcome in good] == [None, None] and all(outcome.clips for outcome in good)


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


@given(st.integers(1, 5000), st.integers(2, 64))
def test_streaming_samples_are_bounded_and_even(length: int, limit: int) -> None:
    sampler: StreamSampler[int] = StreamSampler(limit, 1)
    for frame in range(length):
        sampler.offer(frame, lambda frame=frame: frame)
        assert len(sampler.items) <= limit
    gaps = {b - a for a, b in zip(sampler.items, sampler.items[1:], strict=False)}
    assert len(gaps) <= 1 and sampler.items[0] == 0
    assert length - sampler.items[-1] <= max(gaps, default=length)


@given(st.lists(st.booleans(), max_size=200), st.integers(1, 20))
def test_cut_filter_equals_pyscenedetects(above: list[bool], min_frames: int) -> None:
    from scenedetect import FrameTimecode
    from scenedetect.detector import FlashFilter

    theirs = FlashFilter(FlashFilter.Mode.MERGE, min_frames)
    ours, wanted, found = CutFilter(min_frames), [], []
    for frame, flag in enumerate(above):
        wanted += [cut.frame_num for cut in theirs.filter(FrameTimecode(frame, 25.0), flag)]
        cut = ours.cut(frame, flag)
        found += [] if cut is None else [cut]
    assert found == wanted
