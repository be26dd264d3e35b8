"""Scanning in worker processes, so that a video that crashes, hangs or swells costs that video only."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2

from internvid_assets.clips.packs import FramePackWriter
from internvid_assets.clips.scan import ScanError, ScanOptions, VideoScan, scan_clips
from internvid_assets.clips.spans import clip_id

_CONTEXT = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class ScanLimits:
    """What one video may use."""

    seconds: float = 1800.0
    memory_mib: int = 4096


@dataclass(frozen=True)
class Scanned:
    """The outcome of one video: clip rows and a frame pack, or the reason why there are none."""

    video_id: str
    clips: list[dict[str, Any]] = field(default_factory=list)
    too_short: list[tuple[int, int]] = field(default_factory=list)
    pack: Path | None = None
    num_decode_errors: int = 0
    reason: str | None = None
    detail: str = ""


def scan_videos(
    videos: Sequence[tuple[str, Path]], options: ScanOptions, limits: ScanLimits, workers: int, folder: Path
) -> Iterator[Scanned]:
    """Scan (video id, path) pairs, `workers` at a time; outcomes come in the order given. Packs are put in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    _CONTEXT.set_forkserver_preload(["internvid_assets.clips.workers"])
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(lambda video: _scan_guarded(video[0], video[1], options, limits, folder), videos)


def _scan_guarded(video_id: str, path: Path, options: ScanOptions, limits: ScanLimits, folder: Path) -> Scanned:
    """Run one scan in a process of its own and wait for it, for as long as the limit allows."""
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(
        target=_scan_process, args=(sender, video_id, path, options, limits, folder), daemon=True
    )
    process.start()
    sender.close()
    try:
        if not receiver.poll(limits.seconds):
            return Scanned(video_id, reason="timeout", detail=f"the scan took more than {limits.seconds:g} s")
        outcome = receiver.recv()
        if isinstance(outcome, OSError):
            raise outcome
        return outcome
    except EOFError:
        process.join()
        return Scanned(video_id, reason="decoder_crashed", detail=f"the scanning process ended with {process.exitcode}")
    finally:
        process.kill()
        process.join()
        receiver.close()


def _scan_process(
    sender: Connection, video_id: str, path: Path, options: ScanOptions, limits: ScanLimits, folder: Path
) -> None:
    limit = limits.memory_mib * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    outcome: Scanned | OSError
    try:
        outcome = _scan_to_pack(video_id, path, options, folder)
    except ScanError as error:
        outcome = Scanned(video_id, reason=error.reason, detail=error.detail)
    except (MemoryError, cv2.error) as error:
        if isinstance(error, cv2.error) and error.code != cv2.Error.StsNoMem:
            raise
        outcome = Scanned(video_id, reason="out_of_memory", detail=f"the scan needs more than {limits.memory_mib} MiB")
    except OSError as error:  # of this machine, such as a full disk: no verdict on the video
        outcome = error
    sender.send(outcome)


def _scan_to_pack(video_id: str, path: Path, options: ScanOptions, folder: Path) -> Scanned:
    scan, rows = VideoScan(), []
    with tempfile.NamedTemporaryFile(dir=folder, prefix=f"{video_id}-", suffix=".tar", delete=False) as file:
        writer = FramePackWriter(file.file)  # type: ignore[arg-type]
        for clip in scan_clips(path, options, scan):
            identity = clip_id(video_id, clip.start_seconds, clip.end_seconds)
            writer.add(identity, clip.duration_seconds, clip.frames)
            rows.append(
                {
                    "clip_id": identity,
                    "video_id": video_id,
                    "clip_index": clip.clip_index,
                    "start_frame": clip.start_frame,
                    "end_frame": clip.end_frame,
                    "start_seconds": clip.start_seconds,
                    "end_seconds": clip.end_seconds,
                    "start_pts": clip.start_pts,
                    "end_pts": clip.end_pts,
                    **clip.statistics,
                    "cut_score_end": clip.cut_score_end,
                    "perceptual_hash": clip.perceptual_hash,
                }
            )
        writer.close()
    for row in rows:
        row |= {"time_base_numerator": scan.time_base.numerator, "time_base_denominator": scan.time_base.denominator}
    return Scanned(video_id, rows, scan.too_short, Path(file.name), scan.num_decode_errors)
