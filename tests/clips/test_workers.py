"""A video that hangs, crashes, swells or floods costs that video only, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from pathlib import Path

import psutil
import pytest

from bench.fuzz import fuzz
from internvid_assets.clips import ScanOptions
from internvid_assets.clips.workers import ScanLimits, Scanned, scan_videos
from tests.media import Encoding, write_shots


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write_shots(tmp_path / "good.mp4", [30, 30])


def scan(videos: list[tuple[str, Path]], folder: Path, workers: int = 2, **limits) -> dict[str, Scanned]:
    outcomes = list(scan_videos(videos, ScanOptions(min_clip_seconds=0), ScanLimits(**limits), workers, folder))
    assert len(outcomes) == len(videos)
    return {outcome.video_id: outcome for outcome in outcomes}


def hanging(path: Path) -> Path:
    """A pipe that nobody writes into: opening it waits for ever."""
    os.mkfifo(path)
    return path


def test_a_hanging_video_times_out_and_the_others_go_on(good: Path, tmp_path: Path) -> None:
    outcomes = scan([("hangs", hanging(tmp_path / "pipe")), ("good", good)], tmp_path / "packs", seconds=3.0)
    assert (outcomes["hangs"].reason, outcomes["good"].reason) == ("timeout", None)
    assert len(outcomes["good"].clips) == 2
    assert [p.name for p in (tmp_path / "packs").iterdir()] == ["good.tar"]


def kill_reader(pipe: Path) -> None:
    """Wait until another process reads from a pipe, and crash that process."""
    with pipe.open("wb"):
        readers = [p for p in psutil.Process().children(recursive=True) if str(pipe) in open_paths(p.pid)]
        assert len(readers) == 1
        readers[0].send_signal(signal.SIGSEGV)
        psutil.wait_procs(readers, timeout=30)


def open_paths(pid: int) -> set[str]:
    paths = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            paths.add(os.readlink(link))
    return paths


def test_a_crashing_decoder_costs_its_video_only(good: Path, tmp_path: Path) -> None:
    pipe = hanging(tmp_path / "pipe")
    killer = threading.Thread(target=kill_reader, args=(pipe,))
    killer.start()
    outcomes = scan([("crashes", pipe), ("good", good)], tmp_path / "packs", seconds=60.0)
    killer.join()
    assert (outcomes["crashes"].reason, outcomes["good"].reason) == ("decoder_crashed", None)
    assert "signal 11" in outcomes["crashes"].detail


def test_memory_and_output_have_limits(good: Path, tmp_path: Path) -> None:
    assert scan([("a", good)], tmp_path / "small", memory_mib=64)["a"].reason in ("out_of_memory", "decoder_crashed")
    assert scan([("a", good)], tmp_path / "flood", output_mib=0)["a"].reason == "too_much_output"
    assert list((tmp_path / "small").iterdir()) == list((tmp_path / "flood").iterdir()) == []


def test_damage_is_told_beside_the_clips(tmp_path: Path) -> None:
    video = write_shots(tmp_path / "video.mp4", [40, 40, 40], fast_start=True)
    data = video.read_bytes()
    video.write_bytes(data[: (data.index(b"mdat") + len(data)) // 2])
    outcome = scan([("a", video)], tmp_path / "packs")["a"]
    assert outcome.clips and "truncated" in dict(outcome.damage)


def test_one_video_gets_all_workers_as_threads(good: Path, tmp_path: Path) -> None:
    alone, among = scan([("a", good)], tmp_path / "one", workers=4), scan([("a", good)], tmp_path / "many", workers=1)
    assert alone["a"].clips == among["a"].clips
    assert (tmp_path / "one" / "a.tar").read_bytes() == (tmp_path / "many" / "a.tar").read_bytes()


def test_neural_detectors_run_in_workers(good: Path, tmp_path: Path) -> None:
    options = ScanOptions(min_clip_seconds=0, detector="transnetv2")
    [outcome] = scan_videos([("a", good)], options, ScanLimits(), 1, tmp_path / "packs")
    assert (outcome.reason, [clip["start_frame"] for clip in outcome.clips]) == (None, [0, 30])


def test_mutated_files_each_have_an_outcome_and_leave_nothing(tmp_path: Path) -> None:
    """The short form of `python -m bench.fuzz`, which scans 2,000."""
    kinds = (
        Encoding("libx264", ".mp4"),
        Encoding("libvpx-vp9", ".webm"),
        Encoding("mpeg2video", ".ts"),
        Encoding("mpeg4", ".avi"),
    )
    sources = [
        write_shots(tmp_path / f"source{i}{kind.suffix}", [20, 20], encoding=kind) for i, kind in enumerate(kinds)
    ]
    outcomes = fuzz(sources, 150, seed=7, limits=ScanLimits(seconds=30))
    assert sum(outcomes.values()) == 150
    assert outcomes["clips"] and len(outcomes) >= 4
    assert not {"timeout", "decoder_crashed", "scan_failed"} & set(outcomes)
