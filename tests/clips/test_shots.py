"""Cuts are those of the tools that the detectors stand for, and the cascade asks its network little."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenedetect import AdaptiveDetector as TheirAdaptive
from scenedetect import ContentDetector as TheirContent
from scenedetect import FrameTimecode, detect
from scenedetect.detector import FlashFilter

from bench.clips import matched
from bench.composed import Truth, compose, real_shots
from internvid_assets.clips import ScanOptions, scan_video
from internvid_assets.clips.decode import DecodedFrame, VideoReader
from internvid_assets.clips.measure import FrameMeter
from internvid_assets.clips.neural_shots import CascadeDetector, TransNetDetector, transnet
from internvid_assets.clips.shots import Boundary, CutFilter
from internvid_assets.demo.footage import copy_footage
from internvid_assets.demo.render import render_corpus
from tests.media import REAL_VIDEOS, moving_pictures, write_shots, write_video

ALL = ScanOptions(min_clip_seconds=0)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("shots")
    render_corpus(folder, seed=5, scale=0.04)
    real = sorted(REAL_VIDEOS.glob("*.mp4")) if REAL_VIDEOS.is_dir() else []
    return [*sorted((folder / "videos").glob("rendered_*.mp4")), *copy_footage(folder / "footage"), *real]


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    """Twenty seconds of cuts, a dissolve, a fade, flashes and camera motion over real footage."""
    path = tmp_path_factory.mktemp("composed") / "composed.mp4"
    return path, compose(path, 30, (480, 270), 3, real_shots())


def starts(path: Path, detector: object) -> list[int]:
    """PySceneDetect's cuts."""
    return [scene[0].frame_num for scene in detect(str(path), detector)][1:]  # type: ignore[arg-type]


def test_content_cuts_are_those_of_pyscenedetect(videos: list[Path]) -> None:
    num_cuts = 0
    for path in videos:
        wanted = starts(path, TheirContent())
        found = scan_video(path, ALL).cut_frames
        assert len(found) == len(wanted), (path.name, found, wanted)
        assert all(abs(a - b) <= 1 for a, b in zip(found, wanted, strict=True)), (path.name, found, wanted)
        assert scan_video(path, ScanOptions(min_clip_seconds=0, exact=True)).cut_frames == wanted, path.name
        num_cuts += len(wanted)
    assert num_cuts >= 20


def test_exact_scores_are_pyscenedetects(videos: list[Path]) -> None:
    from scenedetect import SceneManager, StatsManager, open_video

    for path in videos[-3:]:
        manager = SceneManager(StatsManager())
        manager.add_detector(TheirContent())
        manager.detect_scenes(open_video(str(path)))
        meter = FrameMeter(27.0, 0.0, exact=True)
        for measured, _ in meter.measure(VideoReader(path)):
            wanted = manager.stats_manager.get_metrics(measured.time.index, ["content_val"])[0]  # type: ignore[union-attr]
            assert measured.score == pytest.approx(wanted or 0.0, abs=1e-9), (path.name, measured.time.index)


def test_adaptive_cuts_are_those_of_pyscenedetect(videos: list[Path]) -> None:
    for path in videos:
        wanted = starts(path, TheirAdaptive())
        assert scan_video(path, ScanOptions(min_clip_seconds=0, detector="adaptive", exact=True)).cut_frames == wanted


def test_fast_keeps_the_cuts(videos: list[Path], composed: tuple[Path, Truth]) -> None:
    agreed = num_full = num_fast = 0
    for path in [*videos, composed[0]]:
        full, fast = (scan_video(path, ScanOptions(min_clip_seconds=0, fast=flag)) for flag in (False, True))
        assert fast.num_frames == full.num_frames and fast.duration_seconds == full.duration_seconds
        agreed += sum(any(abs(a - b) <= 1 for b in fast.cut_frames) for a in full.cut_frames)
        num_full, num_fast = num_full + len(full.cut_frames), num_fast + len(fast.cut_frames)
    assert num_full > 15 and 2 * agreed / (num_full + num_fast) >= 0.95


@pytest.mark.parametrize("detector", ["transnetv2", "cascade"])
def test_neural_detectors_count_frames_that_fast_skips(detector: str, composed: tuple[Path, Truth]) -> None:
    options = {"min_clip_seconds": 0.0, "detector": detector}
    full, fast = (scan_video(composed[0], ScanOptions(**options, fast=flag)) for flag in (False, True))  # type: ignore[arg-type]
    assert fast.num_frames == full.num_frames
    hits = matched(Truth(full.transitions), fast.transitions)
    assert sum(hits) >= 0.8 * len(hits) > 5


@given(st.lists(st.booleans(), max_size=200), st.integers(1, 20))
def test_cut_filter_equals_pyscenedetects(above: list[bool], min_frames: int) -> None:
    theirs = FlashFilter(FlashFilter.Mode.MERGE, min_frames)
    ours, wanted, found = CutFilter(min_frames), [], []
    for frame, flag in enumerate(above):
        wanted += [cut.frame_num for cut in theirs.filter(FrameTimecode(frame, 25.0), flag)]
        cut = ours.cut(frame, flag)
        found += [] if cut is None else [cut]
    assert found == wanted


@given(st.lists(st.booleans(), max_size=200), st.integers(1, 20))
def test_no_cut_comes_before_what_was_called_decided(above: list[bool], min_frames: int) -> None:
    ours, decided = CutFilter(min_frames), 0
    for frame, flag in enumerate(above):
        cut = ours.cut(frame, flag)
        assert cut is None or cut >= decided
        decided = ours.undecided_from(frame)


def frames(path: Path) -> Iterator:
    return FrameMeter(27.0, -1.0).measure(VideoReader(path))


def test_transnet_in_windows_equals_the_authors_padding_and_windows(composed: tuple[Path, Truth]) -> None:
    """Its authors' own inference (TransNetV2 README): first and last frames repeated, 100 frames, the middle 50 count."""
    path, _ = composed
    network, asked = transnet(), []

    def recorded(window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        asked.append(window)
        return network(window)

    detector = TransNetDetector(0.5, recorded)
    found: list[Boundary] = []
    for measured, image in frames(path):
        found += detector.push(measured, image)
    found += detector.finish()
    pictures = np.concatenate([w[25:75] for w in asked])
    num_frames = detector._thumbnails.end
    padded = np.concatenate(
        [pictures[:1].repeat(25, 0), pictures[:num_frames], pictures[num_frames - 1 :][:1].repeat(100, 0)]
    )
    wanted = np.concatenate([network(padded[s : s + 100])[0][25:75] for s in range(0, num_frames, 50)])[:num_frames]
    above = np.flatnonzero(np.diff(np.r_[0, wanted > 0.5, 0]) == 1)
    assert len(found) == len(above) >= 5
    assert scan_video(path, ScanOptions(min_clip_seconds=0, detector="transnetv2")).cut_frames == [
        b.start_frame for b in found
    ]


def test_the_cascade_finds_what_transnet_finds_and_shows_it_little(composed: tuple[Path, Truth]) -> None:
    path, truth = composed
    detector, num_frames = CascadeDetector(0.5), 0
    found: list[Boundary] = []
    for measured, image in frames(path):
        found += detector.push(measured, image)
        num_frames += 1
    found += detector.finish()
    hits = matched(truth, [(b.end_frame, b.start_frame) for b in found])
    assert len(hits) >= 8 and sum(hits) >= len(hits) - 1 and len(found) - sum(hits) <= 1
    assert detector.num_verified < 0.4 * num_frames
    assert found == sorted(found) and all(a.start_frame <= b.end_frame for a, b in itertools.pairwise(found))


def blended(path: Path, blend: Callable[[np.ndarray, np.ndarray, float], np.ndarray], length: int = 20) -> Path:
    """Two still-standing shots of 60 frames and a gradual transition of `length` frames from frame 60 on."""
    one, other = moving_pictures(1, (320, 180), 0)[0], moving_pictures(1, (320, 180), 5)[0]
    between = [
        blend(one.astype(float), other.astype(float), (i + 1) / (length + 1)).astype(np.uint8) for i in range(length)
    ]
    return write_video(path, [*[one] * 60, *between, *[other] * 60])


@pytest.mark.parametrize("kind", ["dissolve", "fade"])
def test_clips_hold_no_frame_of_a_gradual_transition(kind: str, tmp_path: Path) -> None:
    def blend(old: np.ndarray, new: np.ndarray, share: float) -> np.ndarray:
        return (
            old * (1 - share) + new * share
            if kind == "dissolve"
            else max(old * (1 - 2 * share), new * (2 * share - 1), key=np.sum)
        )

    scan = scan_video(blended(tmp_path / "video.mp4", blend), ScanOptions(detector="cascade", min_clip_seconds=0))
    assert len(scan.clips) == 2
    assert 55 <= scan.clips[0].end_frame <= 63 and 77 <= scan.clips[1].start_frame <= 85
    assert scan.transitions == [(scan.clips[0].end_frame, scan.clips[1].start_frame)]


def test_a_flash_is_no_cut_for_the_cascade(tmp_path: Path) -> None:
    pictures = moving_pictures(120, (320, 180))
    pictures[60] = pictures[61] = np.full_like(pictures[0], 235)
    video = write_video(tmp_path / "flash.mp4", pictures)
    assert scan_video(video, ScanOptions(detector="cascade")).cut_frames == []


def test_clips_are_trimmed_next_to_cuts_and_long_shots_split(tmp_path: Path) -> None:
    video = write_shots(tmp_path / "video.mp4", [50, 8, 100, 40])
    options = {"min_clip_seconds": 0.0, "min_shot_frames": 5}
    scan = scan_video(video, ScanOptions(**options, trim_start_frames=3, trim_end_frames=2))  # type: ignore[arg-type]
    assert [(c.start_frame, c.end_frame) for c in scan.clips] == [(0, 48), (53, 56), (61, 156), (161, 198)]
    gone = scan_video(video, ScanOptions(**options, trim_start_frames=5, trim_end_frames=5))  # type: ignore[arg-type]
    assert [(c.start_frame, c.end_frame) for c in gone.clips] == [(0, 45), (63, 153), (163, 198)]
    assert gone.too_short == [(50, 58)]
    split = scan_video(video, ScanOptions(**options, max_clip_seconds=1.0))  # type: ignore[arg-type]
    assert max(c.end_pts - c.start_pts for c in split.clips) * split.time_base <= Fraction(1)
    assert [(c.start_frame, c.end_frame) for c in split.clips][-4:] == [(108, 133), (133, 158), (158, 183), (183, 198)]


def test_the_meter_needs_no_neighbours_beyond_its_batch(tmp_path: Path) -> None:
    """Batches are an economy: frames measured one by one give the same numbers."""
    video = write_shots(tmp_path / "video.mp4", [20, 15])
    whole = [m for m, _ in FrameMeter(27.0, -1.0).measure(VideoReader(video))]
    meter = FrameMeter(27.0, -1.0)
    single: list = []
    for time, image in VideoReader(video):
        single += [m for m, _ in meter.measure([DecodedFrame(time, image)])]
    assert [(m.score, m.motion, m.block_motion, m.brightness) for m in whole] == [
        (m.score, m.motion, m.block_motion, m.brightness) for m in single
    ]
