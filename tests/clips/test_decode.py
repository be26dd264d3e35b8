"""Every frame is seen once, at its exact time, whatever the codec and container; what is no video has its reason."""

from __future__ import annotations

import io
import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from internvid_assets.clips import ScanError, ScanOptions, VideoScan, scan_video
from internvid_assets.clips.decode import DecodeOptions, VideoReader
from tests.media import (
    ENCODINGS,
    REAL_VIDEOS,
    Encoding,
    Probed,
    ffmpeg,
    ffprobe,
    moving_pictures,
    write_shots,
    write_video,
)  # fmt: skip

ALL = ScanOptions(min_clip_seconds=0)


def probed(scan: VideoScan) -> Probed:
    """The same facts from a scan."""
    return Probed(scan.num_frames, scan.clips[0].start_pts, scan.clips[-1].end_pts, scan.time_base)


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda e: e.id)
def test_an_independent_decoder_counts_the_same_frames(encoding: Encoding, tmp_path: Path) -> None:
    pictures = moving_pictures(30, encoding.size) + moving_pictures(30, encoding.size, seed=1)
    video = write_video(tmp_path / f"video{encoding.suffix}", pictures, encoding)
    scan = scan_video(video, ALL)
    wanted = ffprobe(video)
    assert probed(scan) == wanted or (wanted.start_pts is None and scan.num_frames == wanted.num_frames)
    assert scan.num_frames == 60 and scan.cut_frames == [30]
    first = Image.open(io.BytesIO(scan.frames[0].jpeg)).convert("RGB")
    assert np.abs(np.asarray(first, float).mean((0, 1)) - pictures[0].mean((0, 1))).max() < 12  # right colours


@pytest.mark.skipif(not REAL_VIDEOS.is_dir(), reason="runs where a folder of real videos lies beside the repository")
def test_real_files_of_every_kind_agree_or_have_a_reason() -> None:
    reasons = {}
    for path in sorted((REAL_VIDEOS / "codec-zoo").iterdir()):
        try:
            scan = scan_video(path, ALL)
        except ScanError as error:
            reasons[path.name] = error.reason
            assert ffprobe(path).num_frames == 1
        else:
            assert probed(scan) == ffprobe(path), path.name
    assert set(reasons.values()) <= {"single_frame"}


def test_variable_frame_rate_keeps_exact_times(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pts = np.cumsum(rng.integers(5, 90, 50)).tolist()
    video = write_video(tmp_path / "vfr.mkv", moving_pictures(50), pts=pts, time_base=Fraction(1, 1000), bf="2")
    times = [frame.time for frame in VideoReader(video)]
    assert [t.pts for t in times] == pts
    assert all(a.end_pts == b.pts for a, b in itertools.pairwise(times))
    scan = scan_video(video, ALL)
    assert scan.clips[0].start_seconds == 0 and scan.duration_seconds == (times[-1].end_pts - pts[0]) / 1000


@pytest.mark.parametrize(
    "arguments",
    [["-ss", "0.5", "-c", "copy"], ["-c", "copy", "-output_ts_offset", "7"], ["-c", "copy", "-f", "mpegts"]],
    ids=["edit-list", "non-zero-start", "transport-stream"],
)
def test_edit_lists_and_late_starts(arguments: list[str], tmp_path: Path) -> None:
    source = write_shots(tmp_path / "source.mp4", [40, 40])
    before = [arguments[0], arguments[1]] if arguments[0] == "-ss" else []
    ffmpeg(*before, "-i", source, *arguments[len(before) :], tmp_path / "out.mp4")
    scan = scan_video(tmp_path / "out.mp4", ALL)
    assert probed(scan) == ffprobe(tmp_path / "out.mp4")
    assert scan.clips[0].start_seconds == 0
    assert scan.cut_frames == [scan.num_frames - 40]


def test_pictures_are_upright(tmp_path: Path) -> None:
    pictures = moving_pictures(20)
    for picture in pictures:
        picture[:, :48] = (230, 30, 30)  # red on the left: a quarter turn brings it to an end
    source = write_video(tmp_path / "source.mp4", pictures)
    ffmpeg("-i", source, "-c", "copy", "-metadata:s:v:0", "rotate=90", tmp_path / "turned.mp4")
    upright = np.asarray(Image.open(io.BytesIO(scan_video(tmp_path / "turned.mp4", ALL).frames[0].jpeg)), float)
    assert upright.shape[:2] == (96, 64)
    ffmpeg("-i", tmp_path / "turned.mp4", "-frames:v", "1", tmp_path / "wanted.png")
    wanted = np.asarray(Image.open(tmp_path / "wanted.png").convert("RGB"), float)
    assert np.abs(upright - wanted).mean() < 6


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_nothing(threads: int, tmp_path: Path) -> None:
    video = write_shots(tmp_path / "video.mp4", [30, 30, 30])
    scan = scan_video(video, ScanOptions(min_clip_seconds=0, threads=threads))
    assert scan == scan_video(video, ALL)


def test_decord_reads_the_same_shots(tmp_path: Path) -> None:
    video = write_shots(tmp_path / "video.mp4", [30, 30, 30])
    scan = scan_video(video, ScanOptions(min_clip_seconds=0, decoder="decord"))
    assert (scan.num_frames, scan.cut_frames) == (90, [30, 60])
    assert scan.duration_seconds == pytest.approx(3.6, abs=1e-3)
    (tmp_path / "notes.mp4").write_text("notes")
    with pytest.raises(ScanError, match="unreadable"):
        scan_video(tmp_path / "notes.mp4", ScanOptions(decoder="decord"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU: `make test-gpu` there")
def test_nvdec_reads_the_same_shots(tmp_path: Path) -> None:
    video = write_shots(tmp_path / "video.mp4", [30, 30, 30], size=(640, 360))
    scan = scan_video(video, ScanOptions(decoder="nvdec"))
    assert (scan.num_frames, scan.cut_frames) == (90, [30, 60])


def bad_file(kind: str, folder: Path) -> Path:
    """A file of each kind that is no usable video."""
    video, path = folder / "good.mp4", folder / "bad.mp4"
    if kind == "single_frame":
        return write_shots(path, [1])
    if kind == "endless":
        pts = [0, 1, 2, 60 * 60 * 24 * 1000]
        return write_video(path, moving_pictures(4), pts=pts, time_base=Fraction(1, 1000))
    if kind == "no_frame_rate":  # VP9 itself has no times; the container's are made zero
        data = bytearray(write_shots(path, [20, 20], encoding=Encoding("libvpx-vp9", ".mp4")).read_bytes())
        for box, place in ((b"stts", 16), (b"mdhd", 20), (b"mvhd", 20), (b"tkhd", 24)):
            start = data.index(box) + place
            data[start : start + 4] = bytes(4)
        path.write_bytes(data)
        return path
    if kind == "no_video_stream":
        ffmpeg("-f", "lavfi", "-i", "sine=d=1", path)
        return path
    write_shots(video, [60], fast_start=True)
    data = video.read_bytes()
    if kind == "no_frames":
        start = data.index(b"mdat") + 4
        path.write_bytes(data[:start] + bytes(len(data) - start))
        return path
    cut = {"truncated": 40, "headless": data.index(b"mdat") + 9, "empty": 0, "absurd_dimensions": len(data)}
    path.write_bytes(data[: cut[kind]] if kind in cut else b"These are notes, not a video. " * 9)
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("truncated", "truncated"), ("headless", "truncated"), ("no_frames", "no_frames"), ("single_frame", "single_frame"), ("endless", "endless"), ("no_frame_rate", "no_frame_rate"),
     ("absurd_dimensions", "absurd_dimensions"), ("no_video_stream", "no_video_stream"), ("notes", "unreadable"),
     ("empty", "unreadable")],
)  # fmt: skip
def test_what_is_no_video_has_its_reason(kind: str, reason: str, tmp_path: Path) -> None:
    options = ScanOptions(max_pixels=64 * 64) if kind == "absurd_dimensions" else ScanOptions()
    with pytest.raises(ScanError) as caught:
        scan_video(bad_file(kind, tmp_path), options)
    assert caught.value.reason == reason and caught.value.detail


def test_a_video_cut_short_gives_what_is_there(tmp_path: Path) -> None:
    video = write_shots(tmp_path / "video.mp4", [40, 40, 40], fast_start=True)
    data = video.read_bytes()
    video.write_bytes(data[: data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2])
    scan = scan_video(video, ALL)
    assert 0 < scan.num_frames < 120 and scan.clips
    assert "truncated" in dict(scan.damage)


def test_wrong_options_are_refused() -> None:
    for options in ({"detector": "best"}, {"decoder": "vlc"}, {"threshold": 0}, {"trim_end_frames": -1}, {"threads": -1},
                    {"max_clip_seconds": 0.2}):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(options)).split("_")[-1]):
            ScanOptions(**options)
    with pytest.raises(ValueError, match="NVIDIA"):
        DecodeOptions(decoder="nvdec").require()
