"""Frames of a benchmark video, and crops of them.

T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np

from training.data.frames import choose_frames

Sampling = Literal["middle", "endpoints"]
Positions = Callable[[int], list[int]]
"""From the number of frames that a video has to the positions of those wanted, in order."""


def positions(num_frames: int, sampling: Sampling = "middle") -> Positions:
    """The middle frame of each of T equal spans (the paper), or T frames evenly from the first to the last.

    Worked example: 4 of 100 frames are 12, 37, 62, 87 by `middle`, and 0, 33, 66, 99 by `endpoints`.
    """
    if sampling == "middle":
        return lambda count: choose_frames(count, num_frames, None)
    return lambda count: [round(x) for x in np.linspace(0, count - 1, num_frames)]


def read_frames(path: Path, wanted_of: int | Positions, max_seconds: float | None = None) -> list[np.ndarray]:
    """uint8 RGB pictures [H, W, 3]: those at the wanted positions, or the middles of so many spans.

    A video that ends before the length its container gives repeats its last frame. It is decoded twice when its container
    does not say how many frames it has, and never held in memory.

    Args:
        max_seconds: only this much of the beginning counts as the video.

    Raises: ValueError naming the file that has no frames.
    """
    try:
        count = _num_frames(path) if max_seconds is None else _num_frames_until(path, max_seconds)
        choose = positions(wanted_of) if isinstance(wanted_of, int) else wanted_of
        wanted = choose(count) if count else []
        found: dict[int, np.ndarray] = {}
        with av.open(str(path)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number in wanted:
                    found[number] = frame.to_ndarray(format="rgb24")
                if wanted and number >= max(wanted):
                    break
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"benchmark video {path} cannot be read: {error}") from error
    if not found:
        raise ValueError(f"benchmark video {path} holds no frames")
    return [found[number] if number in found else found[max(found)] for number in wanted]


def _num_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return container.streams.video[0].frames or sum(1 for _ in container.decode(video=0))


def _num_frames_until(path: Path, seconds: float) -> int:
    """Frames shown before so many seconds after the first; read off the packets, without decoding."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
        times = [float((packet.pts or 0) * packet.time_base) for packet in packets]
    return sum(time < min(times) + seconds for time in times)


def centre_crops(pictures: list[np.ndarray], size: int, num_crops: int) -> list[list[np.ndarray]]:
    """Squares of `size` after the short side became `size`: the centre, or three along the long side, ends included."""
    height, width = pictures[0].shape[:2]
    scale = size / min(height, width)
    wide, high = max(size, round(width * scale)), max(size, round(height * scale))
    method = cv2.INTER_AREA if scale <= 0.5 else cv2.INTER_CUBIC
    small = [cv2.resize(picture, (wide, high), interpolation=method) for picture in pictures]
    shares = (0.5,) if num_crops == 1 else tuple(np.linspace(0.0, 1.0, num_crops))
    places = [(round((high - size) * share), round((wide - size) * share)) for share in shares]
    return [[picture[top : top + size, left : left + size] for picture in small] for top, left in places]
