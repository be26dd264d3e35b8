"""Exported clips hold exactly their frames, at their times, with their sound."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from internvid_assets.clips import ScanOptions, scan_video
from internvid_assets.clips import export as export_module
from internvid_assets.clips.decode import DecodeError, VideoReader
from internvid_assets.clips.export import Cut, ExportOptions, cut_clips
from tests.media import ffmpeg, moving_pictures, write_shots, write_video


def decoded(path: Path) -> list[tuple[Fraction, np.ndarray]]:
    """Time in seconds and RGB of every frame."""
    with av.open(str(path)) as container:
        return [(f.pts * Fraction(f.time_base), f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]


def cuts_of(path: Path, spans: list[tuple[int, int]]) -> list[Cut]:
    """Cuts of frame spans."""
    times = [frame.time for frame in VideoReader(path)]
    return [Cut(f"clip{i}", a, b, times[a].pts, times[b - 1].end_pts) for i, (a, b) in enumerate(spans)]


def test_encoded_clips_are_frame_exact_whatever_the_spans(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    pts = np.cumsum(rng.integers(10, 80, 120)).tolist()
    pictures = [p for seed in range(4) for p in moving_pictures(30, (128, 96), seed)]
    video = write_video(tmp_path / "video.mkv", pictures, pts=pts, time_base=Fraction(1, 1000), bf="2", g="48")
    spans = [(0, 30), (30, 60), (31, 33), (45, 90), (59, 60), (90, 120)]  # adjacent, overlapping, one frame, to the end
    files = cut_clips(video, cuts_of(video, spans), tmp_path / "clips", ExportOptions(short_side=None, crf=12))
    source = decoded(video)
    assert [file.name for file in files] == [f"clip{i}" for i in range(len(spans))]
    for (start, end), file in zip(spans, files, strict=True):
        frames = decoded(file.path)
        assert len(frames) == end - start and not file.copied
        for (time, picture), (wanted_time, wanted) in zip(frames, source[start:end], strict=True):
            assert abs((time - frames[0][0]) - (wanted_time - source[start][0])) < Fraction(1, 900)
            assert np.abs(picture.astype(int) - wanted).mean() < 4


def test_clips_are_small_and_seekable(tmp_path: Path) -> None:
    video = write_shots(tmp_path / "video.mp4", [75, 50], size=(320, 180))
    [file] = cut_clips(video, cuts_of(video, [(5, 75)]), tmp_path, ExportOptions(short_side=90, keyframe_seconds=0.4))
    with av.open(str(file.path)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.codec_context.name) == (160, 90, "h264")
        keys = [number for number, p in enumerate(sorted((p for p in container.demux(stream) if p.size), key=lambda p: p.pts))
                if p.is_keyframe]  # fmt: skip
    assert keys == [0, 10, 20, 30, 40, 50, 60]


def test_where_a_key_frame_allows_it_clips_are_copied_without_loss(tmp_path: Path) -> None:
    video = write_shots(tmp_path / "video.mp4", [40, 40, 40], g="40", keyint_min="40", sc_threshold="0", bf="2")
    spans = [(0, 40), (40, 80), (41, 80), (80, 120), (40, 57)]
    files = cut_clips(video, cuts_of(video, spans), tmp_path / "clips", ExportOptions(short_side=None, copy=True))
    assert [f.copied for f in files][:4] == [True, True, False, True]
    source = decoded(video)
    for (start, end), file in zip(spans, files, strict=True):
        frames = decoded(file.path)
        assert len(frames) == end - start and frames[0][0] == 0
        if file.copied:
            assert all((a == b).all() for (_, a), (_, b) in zip(frames, source[start:end], strict=True))


def test_sound_is_cut_to_the_sample(tmp_path: Path) -> None:
    picture = write_shots(tmp_path / "picture.mp4", [50, 50])
    # silence for the first two seconds, a tone afterwards: the second clip's sound begins with the tone
    ffmpeg("-i", picture, "-f", "lavfi", "-i", "sine=f=440:r=48000:d=4", "-af", "volume=0:enable='lt(t,2)'", "-c:v", "copy",
           "-shortest", tmp_path / "video.mp4")  # fmt: skip
    files = cut_clips(tmp_path / "video.mp4", cuts_of(tmp_path / "video.mp4", [(0, 50), (50, 100), (40, 60)]),
                      tmp_path / "clips", ExportOptions(audio=True))  # fmt: skip
    quiet, loud, both = (sound(file.path) for file in files)
    for samples, seconds in ((quiet, 2.0), (loud, 2.0), (both, 0.8)):
        assert abs(len(samples) / 48000 - seconds) < 1024 / 48000  # AAC's frames are 1024 samples
    assert np.abs(quiet[: 48000 * 19 // 10]).max() < 0.02 < np.abs(loud[2048:10000]).max()
    begins = int(np.argmax(np.abs(both) > 0.02)) / 48000
    assert begins == pytest.approx(0.4, abs=0.03)


def sound(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


def test_hundreds_of_clips_need_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = write_shots(tmp_path / "video.mp4", [300])
    cuts = cuts_of(video, list(itertools.pairwise(range(0, 301))))
    opened = []

    def reader(path: Path) -> VideoReader:
        opened.append(path)
        return VideoReader(path)

    monkeypatch.setattr(export_module, "VideoReader", reader)
    files = cut_clips(video, cuts, tmp_path / "clips", ExportOptions(short_side=32, preset="ultrafast"))
    assert len(opened) == 1 and len(files) == 300
    assert {len(decoded(file.path)) for file in files[::37]} == {1}


def test_spans_of_a_scan_can_be_cut(tmp_path: Path) -> None:
    video = write_shots(tmp_path / "video.mp4", [30, 40, 50])
    clips = scan_video(video, ScanOptions(min_clip_seconds=0)).clips
    cuts = [Cut(str(c.clip_index), c.start_frame, c.end_frame, c.start_pts, c.end_pts) for c in clips]
    assert [len(decoded(f.path)) for f in cut_clips(video, cuts, tmp_path / "clips")] == [30, 40, 50]


def test_a_broken_video_leaves_nothing_half(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("notes")
    with pytest.raises(DecodeError, match="unreadable"):
        cut_clips(tmp_path / "notes.mp4", [Cut("a", 0, 5, 0, 5)], tmp_path / "clips")
    with pytest.raises(ValueError, match="clip a is empty"):
        cut_clips(tmp_path / "notes.mp4", [Cut("a", 5, 5, 0, 5)], tmp_path / "clips")
    video = write_shots(tmp_path / "video.mp4", [30])
    with pytest.raises(ValueError, match="clip late: the video ends at frame 30"):
        cut_clips(video, [Cut("whole", 0, 30, 0, 30), Cut("late", 20, 40, 20, 40)], tmp_path / "clips")
    assert list((tmp_path / "clips").iterdir()) == []
