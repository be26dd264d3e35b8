"""Frames of a benchmark video: the middle one of each of T equal spans."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from training.data import choose_frames


def read_frames(path: Path, num_frames: int) -> list[np.ndarray]:
    """uint8 RGB pictures [H, W, 3], `num_frames` of them.

    A video that ends before the length its container gives repeats its last frame. It is decoded twice when its container does not say how many frames it has, and never held in memory.

    Raises: ValueError naming the file that has no frames.
    """
    try:
        count = _num_frames(path)
        wanted = choose_frames(count, num_frames, None) if count else []
        found: dict[int, np.ndarray] = {}
        with av.open(str(path)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number in wanted:
                    found[number] = frame.to_ndarray(format="rgb24")
                if wanted and number >= wanted[-1]:
                    break
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"benchmark video {path} cannot be read: {error}") from error
    if not found:
        raise ValueError(f"benchmark video {path} holds no frames")
    return [found[number] if number in found else found[max(found)] for number in wanted]


def _num_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return container.streams.video[0].frames or sum(1 for _ in container.decode(video=0))
