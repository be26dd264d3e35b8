"""Small videos for tests: moving pictures of known content in many codecs and containers, made when wanted."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

REAL_VIDEOS = Path(os.environ.get("INTERNVID_TEST_VIDEOS", Path(__file__).parents[2] / "shared" / "videos"))
"""Real footage, which the repository does not hold; some tests run, and some say more, where it is there."""


def moving_pictures(count: int, size: tuple[int, int] = (96, 64), seed: int = 0) -> list[np.ndarray]:
    """RGB frames of a pattern that slides a pixel a frame; every seed has other colours and another pattern."""
    width, height = size
    rng = np.random.default_rng(seed)
    pattern = np.kron(rng.integers(30, 220, (8, 16, 3)), np.ones((height // 8 + 1, width // 8 + 1, 1))).astype(np.uint8)
    return [np.ascontiguousarray(np.roll(pattern, t, axis=1)[:height, :width]) for t in range(count)]


@dataclass(frozen=True)
class Encoding:
    """A codec, pixel format and container."""

    name: str
    suffix: str
    pixel_format: str = "yuv420p"
    size: tuple[int, int] = (96, 64)

    @property
    def id(self) -> str:
        """For test names."""
        return f"{self.name}-{self.pixel_format}-{self.size[0]}x{self.size[1]}{self.suffix}"


_AOM, _X265 = "libaom-av1", "libx265"
_APART = {
    _AOM: ("-cpu-used", "8", "-crf", "20"),
    _X265: ("-preset", "fast", "-x265-params", "log-level=error:pools=none"),
}
"""Encoded by Debian's ffmpeg, with these options. PyAV's only encoder of AV1, SVT, gives a process of root's the highest
real-time priority, and its x265 has crashed in tests."""

ENCODINGS = (
    Encoding("libx264", ".mp4"), Encoding("libx264", ".mkv", "yuv444p", (95, 63)), Encoding("libx264", ".mov", "yuv422p10le"),
    Encoding("libx264", ".ts"), Encoding("libx264", ".avi"), Encoding("libx264", ".mp4", "yuvj420p"),
    Encoding(_X265, ".mp4", "yuv420p10le"), Encoding(_X265, ".mp4", "yuv420p12le"),
    Encoding(_X265, ".mkv", "yuv444p10le"),
    Encoding("libvpx", ".webm"), Encoding("libvpx-vp9", ".webm", "yuv420p", (97, 65)),
    Encoding(_AOM, ".mp4", "yuv420p10le"), Encoding(_AOM, ".mkv"),
    Encoding("mpeg2video", ".mpg"), Encoding("mpeg4", ".mp4"), Encoding("mpeg4", ".avi"), Encoding("mjpeg", ".avi", "yuvj420p"),
    Encoding("ffv1", ".mkv", "bgr0"), Encoding("png", ".mov", "rgb24"),
)  # fmt: skip


def write_video(
    path: Path,
    pictures: Iterable[np.ndarray],
    encoding: Encoding | None = None,
    fps: int = 25,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    fast_start: bool = False,
    **options: str,
) -> Path:
    """Encode RGB pictures; `pts` counts `time_base` units (default: one a frame of `fps`). Returns the path.

    With `fast_start` an MP4's index comes first; `options` are the encoder's.
    """
    chosen = encoding or Encoding("libx264", path.suffix)
    if chosen.name in _APART:
        whole = write_video(
            path.with_suffix(".whole.mkv"), pictures, Encoding("ffv1", ".mkv", chosen.pixel_format), fps
        )
        ffmpeg("-i", whole, "-c:v", chosen.name, *_APART[chosen.name], path)
        return path
    base = time_base or Fraction(1, fps)
    with av.open(str(path), "w", options={"movflags": "faststart"} if fast_start else {}) as container:
        one_thread = {"threads": "1"}  # so that the same pictures give the same bytes
        stream = container.add_stream(chosen.name, rate=fps, options=one_thread | options)
        stream.pix_fmt = chosen.pixel_format
        stream.codec_context.time_base = base
        for number, picture in enumerate(pictures):
            if number == 0:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=chosen.pixel_format)
            frame.pts, frame.time_base = (number if pts is None else pts[number]), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_shots(path: Path, lengths: Sequence[int], size: tuple[int, int] = (96, 64), **options) -> Path:
    """A video of shots of the given lengths in frames, each of its own colours."""
    pictures = [p for seed, length in enumerate(lengths) for p in moving_pictures(length, size, seed)]
    return write_video(path, pictures, **options)


@dataclass(frozen=True)
class Probed:
    """What an independent FFmpeg says of a video: its frames, and their span in units of the stream's time base.

    The span is None where frames come without times.
    """

    num_frames: int
    start_pts: int | None
    end_pts: int | None
    time_base: Fraction


def ffprobe(path: Path) -> Probed:
    """Count and time the frames with Debian's ffprobe, which decodes with libraries of its own."""
    entries = "frame=best_effort_timestamp,duration,pkt_duration:stream=time_base"
    command = ["ffprobe", "-v", "quiet", "-select_streams", "v:0", "-show_entries", entries, "-of", "json", str(path)]
    answer = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    frames = answer["frames"]
    times, base = [frame.get("best_effort_timestamp") for frame in frames], Fraction(answer["streams"][0]["time_base"])
    if None in times:
        return Probed(len(frames), None, None, base)
    last = frames[-1].get("duration", frames[-1].get("pkt_duration", 0))
    return Probed(len(frames), min(times), times[-1] + last, base)


def ffmpeg(*arguments: str | Path) -> None:
    """Run Debian's ffmpeg."""
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True, stdin=subprocess.DEVNULL)
