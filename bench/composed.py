"""Test videos of known truth: hard cuts, dissolves, fades, flashes and camera motion over real footage.

python -m bench.composed --seconds 60 --size 1280x720 --seed 0 composed.mp4
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import cv2
import numpy as np

from internvid_assets.clips.decode import VideoReader
from internvid_assets.clips.measure import FrameMeter
from internvid_assets.demo.footage import copy_footage

FPS = 25
_CALM, _SHORTEST = 12.0, 38
"""Real footage is taken where no frame differs more from the one before (content score), for so many frames at least."""
_STEADY = 0.6
"""A run whose darkest frame has less than this share of its brightest one's light may fade on its own: it is left out."""
_TRANSITIONS = {"cut": 0.55, "dissolve": 0.15, "fade": 0.1, "flash": 0.2}


@dataclass
class Truth:
    """Transitions as (last frame of the old shot + 1, first frame of the new shot); a hard cut has both equal."""

    transitions: list[tuple[int, int]] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    flashes: list[int] = field(default_factory=list)


def real_shots(folder: Path | None = None, longest: int = 100) -> list[np.ndarray]:
    """Runs of real frames with no cut inside, uint8 [T, H, W, 3] BGR: from installed footage and a folder of videos."""
    shots = []
    with TemporaryDirectory() as temporary:
        videos = copy_footage(Path(temporary))
        if folder is not None:
            videos += sorted(p for p in folder.glob("*.mp4"))
        for video in videos:
            with av.open(str(video)) as container:
                if (container.streams.video[0].average_rate or 0) < 20:
                    continue
                frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
            measured = [m for m, _ in FrameMeter(_CALM, margin=_CALM, exact=True).measure(VideoReader(video))]
            breaks = [0, *(i for i, m in enumerate(measured) if m.score >= _CALM), len(frames)]
            for start, end in itertools.pairwise(breaks):
                end = min(end, start + longest)
                light = [m.brightness for m in measured[start:end]]
                if end - start >= _SHORTEST and min(light) >= _STEADY * max(light):
                    shots.append(np.stack(frames[start + 2 : end - 2]))
    return shots


def composed_frames(
    shots: list[np.ndarray], seconds: float, size: tuple[int, int], seed: int
) -> tuple[Truth, Iterator]:
    """The truth, filled while the frames (uint8 [H, W, 3] BGR) are taken."""
    truth = Truth()
    return truth, _frames(shots, round(seconds * FPS), size, np.random.default_rng(seed), truth)


def _frames(
    shots: list[np.ndarray], count: int, size: tuple[int, int], rng: np.random.Generator, truth: Truth
) -> Iterator:
    current = _take(shots, size, rng, int(rng.integers(40, 110)))
    made = 0
    while made < count:
        kind = str(rng.choice(list(_TRANSITIONS), p=list(_TRANSITIONS.values())))
        following = _take(shots, size, rng, int(rng.integers(40, 110)))
        overlap = int(rng.integers(8, 26)) if kind in ("dissolve", "fade") else 0
        body = current[: len(current) - overlap]
        if kind == "flash":
            at = int(rng.integers(5, len(body) - 5))
            truth.flashes.append(made + at)
            body[at : at + int(rng.integers(1, 4))] = 235
        yield from body
        made += len(body)
        if kind == "flash":
            truth.transitions.append((made, made))
            truth.kinds.append("cut")
            current = following
            continue
        for step in range(overlap):
            yield _blend(kind, current[len(current) - overlap + step], following[step], (step + 1) / (overlap + 1))
        truth.transitions.append((made, made + overlap))
        truth.kinds.append(kind)
        made += overlap
        current = following[overlap:]
    while truth.transitions and truth.transitions[-1][1] >= made:  # behind the last frame: it leads to no shot
        truth.transitions.pop()
        truth.kinds.pop()


def _blend(kind: str, old: np.ndarray, new: np.ndarray, share: float) -> np.ndarray:
    if kind == "dissolve":
        return cv2.addWeighted(old, 1 - share, new, share, 0)
    return (old * (1 - 2 * share) if share < 0.5 else new * (2 * share - 1)).astype(np.uint8)


def _take(shots: list[np.ndarray], size: tuple[int, int], rng: np.random.Generator, length: int) -> np.ndarray:
    """A shot seen by a moving virtual camera: crop, mirror, pan, zoom, shake, exposure; played to and fro to its length."""
    shot = shots[int(rng.integers(len(shots)))]
    there_and_back = np.r_[np.arange(len(shot)), np.arange(len(shot) - 2, 0, -1)]
    start = int(rng.integers(len(shot)))
    height, width = shot.shape[1:3]
    scale = min(width / size[0], height / size[1]) * rng.uniform(0.55, 0.95)
    speed = rng.choice([0.0, 0.0, 1.0, 4.0]) * rng.uniform(-1, 1, 2) * width / 400
    zoom = rng.choice([0.0, 0.0, 0.002, -0.002])
    shake = rng.choice([0.0, 0.0, 1.0]) * width / 500
    gain, mirrored = rng.uniform(0.8, 1.2), rng.random() < 0.5
    centre = np.array([width, height]) * rng.uniform(0.4, 0.6, 2)
    out = np.empty((length, size[1], size[0], 3), np.uint8)
    for t in range(length):
        frame = shot[there_and_back[(start + t) % len(there_and_back)]]
        factor = scale * (1 + zoom * t)
        half = np.array([size[0], size[1]]) * factor / 2
        at = np.clip(centre + speed * t + rng.normal(0, 1, 2) * shake, half, np.maximum([width, height] - half, half))
        matrix = np.array([[factor, 0, at[0] - half[0]], [0, factor, at[1] - half[1]]])
        picture = cv2.warpAffine(
            frame, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT
        )
        picture = picture[:, ::-1] if mirrored else picture
        out[t] = cv2.convertScaleAbs(picture, alpha=gain)
    return out


def write_video(path: Path, frames: Iterator, size: tuple[int, int], crf: int = 21, preset: str = "medium") -> None:
    """Encode BGR frames as H.264 with libx264, on one thread: the same frames give the same bytes."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", FPS, options={"crf": str(crf), "preset": preset, "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = size[0], size[1], "yuv420p"
        for picture in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="bgr24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))


def compose(path: Path, seconds: float, size: tuple[int, int], seed: int, shots: list[np.ndarray]) -> Truth:
    """Write one video and its truth beside it (`.json`)."""
    truth, frames = composed_frames(shots, seconds, size, seed)
    write_video(path, frames, size)
    path.with_suffix(".json").write_text(json.dumps(asdict(truth)))
    return truth


def main() -> None:
    """Write one composed video."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--footage", type=Path, help="a folder of further .mp4 files to take shots from")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    truth = compose(arguments.output, arguments.seconds, (width, height), arguments.seed, real_shots(arguments.footage))
    print(f"{arguments.output}: {len(truth.transitions)} transitions {truth.kinds}")


if __name__ == "__main__":
    main()
