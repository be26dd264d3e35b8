"""Renders the demo corpus: real H.264 files with known cuts, motions, captions, duplicates and faults.

python -m internvid_assets.demo.render FOLDER [--scale 1.0] [--seed 0]
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import av
import numpy as np

from internvid_assets.demo.faults import write_faults
from internvid_assets.demo.shapes import COLOURS, MOTIONS, SHAPES, Subject
from internvid_assets.demo.shots import Shot, background, contrast, frames
from internvid_assets.progress import bar

_FADE_FRAMES = 12
_RATES = (25, 25, 25, 30, 24)


@dataclass(frozen=True)
class Film:
    """One video to render: its shots, and which of them begin with a fade through black."""

    path: Path
    rate: int
    shots: tuple[Shot, ...]
    fades: tuple[bool, ...]
    seed: int


def is_held_out(subject: Subject, motion: str) -> bool:
    """Whether a combination of colour, shape and motion is kept for evaluation: about one in five, for ever the same."""
    digest = hashlib.sha256(f"{subject} {motion}".encode()).digest()
    return digest[0] % 5 == 0


def combinations(held_out: bool) -> list[tuple[Subject, str]]:
    """All (subject, motion) pairs of the training or of the held-out side."""
    pairs = ((Subject(c, s), m) for c, s, m in product(COLOURS, SHAPES, MOTIONS))
    return [pair for pair in pairs if is_held_out(*pair) == held_out]


def render_corpus(folder: Path, seed: int = 0, scale: float = 1.0, workers: int = 2) -> dict:
    """Render `videos/` (sources), `heldout/` (benchmark clips) and `truth.json`; the same (seed, scale) gives the same.

    Returns: the truth.

    Raises: ValueError when scale is not positive.
    """
    if scale <= 0:
        raise ValueError(f"scale {scale} must be above 0: 1.0 is the whole demo corpus")
    folder = Path(folder)
    rng = random.Random(seed)
    films = _films(folder / "videos", rng, max(2, round(52 * scale)), shots_each=14)
    held_out = _held_out_films(folder / "heldout" / "videos", rng, max(10, round(160 * scale)))
    for path in (folder / "videos", folder / "heldout" / "videos"):
        path.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        cuts = list(bar(pool.map(_render, films + held_out, chunksize=4), "rendering", len(films) + len(held_out)))
    truth = {"videos": {film.path.name: _truth(film, at) for film, at in zip(films, cuts, strict=False)}}
    truth["videos"] |= write_faults(folder / "videos", films[0].path, films[1].path, truth["videos"])
    (folder / "truth.json").write_text(json.dumps(truth, indent=1))
    _write_benchmark(folder / "heldout", held_out)
    return truth


def _films(folder: Path, rng: random.Random, count: int, shots_each: int) -> list[Film]:
    """Training films: every training combination in turn, with a still or a slideshow now and then."""
    deck: list[tuple[Subject, str]] = []
    films = []
    for number in range(count):
        shots, fades = [], []
        for place in range(shots_each):
            if not deck:
                deck = rng.sample(combinations(False), len(combinations(False)))
            kind = (
                "slideshow"
                if (number, place) in _places(5, 11)
                else "still"
                if place == 8 and number % 4 == 1
                else "motion"
            )
            subject, motion = deck.pop()
            fades.append(place > 0 and rng.random() < 0.03)
            shots.append(_shot(kind, subject, motion, rng, combinations(False)))
        films.append(
            Film(
                folder / f"rendered_{number:03d}.mp4",
                rng.choice(_RATES),
                tuple(shots),
                tuple(fades),
                rng.getrandbits(31),
            )
        )
    return films


def _places(every: int, place: int) -> set[tuple[int, int]]:
    return {(number, place) for number in range(0, 1000, every)}


def _held_out_films(folder: Path, rng: random.Random, count: int) -> list[Film]:
    pairs = combinations(True)
    by_motion = {m: rng.sample([p for p in pairs if p[1] == m], sum(p[1] == m for p in pairs)) for m in MOTIONS}
    films = []
    for number in range(count):
        subject, motion = by_motion[MOTIONS[number % 10]][number // 10 % len(by_motion[MOTIONS[number % 10]])]
        shot = _shot("motion", subject, motion, rng, pairs)
        films.append(Film(folder / f"heldout_{number:03d}.mp4", 25, (shot,), (False,), rng.getrandbits(31)))
    return films


def _shot(kind: str, subject: Subject, motion: str, rng: random.Random, side: list[tuple[Subject, str]]) -> Shot:
    """A shot whose second object differs in colour; two colliding ones are both of the same side of the split."""
    others = [s for s, m in side if s.colour != subject.colour and (motion != "colliding" or m == "colliding")]
    num_frames = 110 if kind == "slideshow" else rng.randrange(52, 68)
    return Shot(kind, motion, subject, rng.choice(others), num_frames, rng.getrandbits(31))


def _render(film: Film) -> list[int]:
    """Write the film; the first frame of each shot but the first."""
    cuts: list[int] = []
    with av.open(str(film.path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=film.rate, options={"preset": "ultrafast", "crf": "24", "threads": "1"}
        )
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.time_base = Fraction(1, film.rate)
        for number, picture in enumerate(_pictures(film, cuts)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return cuts


def _pictures(film: Film, cuts: list[int]) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(film.seed)
    number, before = 0, None
    for position, shot in enumerate(film.shots):
        before = _backdrop(shot, before, rng)
        fade_in = film.fades[position]
        fade_out = position + 1 < len(film.shots) and film.fades[position + 1]
        if number:
            cuts.append(number)
        for place, picture in enumerate(frames(shot, before)):
            left = shot.num_frames - 1 - place
            light = min(place / _FADE_FRAMES if fade_in else 1.0, left / _FADE_FRAMES if fade_out else 1.0, 1.0)
            yield picture if light == 1.0 else (picture * light).astype(np.uint8)
            number += 1


def _backdrop(shot: Shot, before: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """A background on which both objects stand out and that differs clearly from the one before."""
    while True:
        backdrop = background(rng)
        clear = min(contrast(shot.subject, backdrop), contrast(shot.other, backdrop)) > 55
        if clear and (before is None or _visible_cut(before, backdrop)):
            return backdrop


def _visible_cut(before: np.ndarray, after: np.ndarray) -> bool:
    import cv2

    pair = [cv2.cvtColor(p, cv2.COLOR_RGB2HSV).astype(float) for p in (before, after)]
    return float(np.abs(pair[0] - pair[1]).mean()) > 36


def _truth(film: Film, cuts: list[int]) -> dict:
    starts = [0, *cuts]
    ends = [*cuts, starts[-1] + film.shots[-1].num_frames]
    shots = [
        {
            "start_frame": start,
            "end_frame": end,
            "kind": shot.kind,
            "motion_class": shot.motion if shot.kind == "motion" else None,
            "subject": str(shot.subject),
            "caption": shot.caption,
            "begins_with_fade": fade,
        }
        for shot, fade, start, end in zip(film.shots, film.fades, starts, ends, strict=True)
    ]
    return {"cut_frames": cuts, "shots": shots, "expected_reason": None, "duplicate_of": None}


def _write_benchmark(folder: Path, films: list[Film]) -> None:
    """`actions.csv` (path, label), `classes.txt`, and `retrieval.json` with each caption once."""
    with (folder / "actions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *((f"videos/{f.path.name}", f.shots[0].motion) for f in films)])
    (folder / "classes.txt").write_text("\n".join(MOTIONS) + "\n")
    unique = {film.shots[0].caption: f"videos/{film.path.name}" for film in reversed(films)}
    pairs = [{"video": video, "caption": caption} for caption, video in sorted(unique.items(), key=lambda p: p[1])]
    (folder / "retrieval.json").write_text(json.dumps(pairs, indent=1))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    truth = render_corpus(arguments.folder, arguments.seed, arguments.scale)
    print(f"{len(truth['videos'])} files in {arguments.folder / 'videos'}")


if __name__ == "__main__":
    main()
