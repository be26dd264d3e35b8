"""Files that a pipeline meets in the wild: broken, empty, foreign, too short, and copies."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


def write_faults(folder: Path, original: Path, second: Path, known: dict[str, Any]) -> dict[str, Any]:
    """Write one file of each kind beside the good ones.

    Args:
        original: a good video, for the exact and the near duplicate.
        second: a good video, for the truncated one.
        known: truth entries of the good videos.

    Returns: truth entries of the new files.
    """
    shutil.copy(original, folder / "zz_exact_copy.mp4")
    _reencoded(original, folder / "zz_near_duplicate.mp4")
    data = second.read_bytes()
    (folder / "zz_truncated.mp4").write_bytes(data[: len(data) * 2 // 5])
    (folder / "zz_empty.mp4").write_bytes(b"")
    (folder / "zz_notes.mp4").write_text("These are notes, not a video.\n" * 50)
    _audio_only(folder / "zz_audio_only.mp4")
    _too_short(original, folder / "zz_too_short.mp4")
    return {
        "zz_exact_copy.mp4": _entry("exact_duplicate", original.name),
        "zz_near_duplicate.mp4": {**known[original.name], "duplicate_of": original.name},
        "zz_truncated.mp4": _entry("truncated"),
        "zz_empty.mp4": _entry("empty_file"),
        "zz_notes.mp4": _entry("not_a_video"),
        "zz_audio_only.mp4": _entry("no_video_stream"),
        "zz_too_short.mp4": _entry("too_short"),
    }


def _entry(reason: str, duplicate_of: str | None = None) -> dict[str, Any]:
    return {"cut_frames": [], "shots": [], "expected_reason": reason, "duplicate_of": duplicate_of}


def _reencoded(source: Path, target: Path, width: int = 256, height: int = 192) -> None:
    """The same pictures, smaller and coarser."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        video = reader.streams.video[0]
        rate = video.average_rate or Fraction(25)
        stream = writer.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "30"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number, frame in enumerate(reader.decode(video)):
            small = frame.reformat(width, height)
            small.pts, small.time_base = number, 1 / rate
            writer.mux(stream.encode(small))
        writer.mux(stream.encode())


def _too_short(source: Path, target: Path, num_frames: int = 20) -> None:
    """The first frames of a video."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        video = reader.streams.video[0]
        rate = video.average_rate or Fraction(25)
        stream = writer.add_stream("libx264", rate=rate, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"
        for number, frame in enumerate(reader.decode(video)):
            if number == num_frames:
                break
            frame.pts, frame.time_base = number, 1 / rate
            writer.mux(stream.encode(frame))
        writer.mux(stream.encode())


def _audio_only(target: Path, seconds: float = 3.0, rate: int = 16000) -> None:
    """A sine tone in an MP4."""
    with av.open(str(target), "w") as writer:
        stream = writer.add_stream("aac", rate=rate, layout="mono")
        tone = (0.2 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        writer.mux(stream.encode(frame))
        writer.mux(stream.encode())
