"""Mutated video files through the clips stage's workers: no crash, no hang, no leak, and each one a row.

python -m bench.fuzz [VIDEO…] [--files 2000] [--seed 0] [--seconds 30]
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import psutil

from internvid_assets.clips import ScanOptions
from internvid_assets.clips.workers import ScanLimits, scan_videos

_ROUND = 50
"""Mutants on disk at a time."""


def mutants(sources: Sequence[Path], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of `count` files, each one source with a random mutation: the same seed gives the same files."""
    rng = random.Random(seed)
    kinds = list(_MUTATIONS)
    for number in range(count):
        source = sources[number % len(sources)]
        kind = kinds[(number // len(sources)) % len(kinds)]
        data = _MUTATIONS[kind](bytearray(source.read_bytes()), rng)
        yield f"{number:05d}_{kind}_{source.stem}{source.suffix}", bytes(data)


def _flipped(data: bytearray, rng: random.Random) -> bytearray:
    """Up to 200 random bytes anywhere."""
    for _ in range(rng.choice((1, 5, 30, 200))):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return data


def _flipped_head(data: bytearray, rng: random.Random) -> bytearray:
    """Random bytes where headers lie."""
    edge = min(4096, len(data))
    for _ in range(rng.choice((1, 4, 16))):
        place = rng.randrange(edge)
        data[place if rng.random() < 0.5 else len(data) - 1 - place] = rng.randrange(256)
    return data


def _truncated(data: bytearray, rng: random.Random) -> bytearray:
    return data[: rng.randrange(len(data))]


def _swapped(data: bytearray, rng: random.Random) -> bytearray:
    """Two pieces change places: in MP4 files two top-level boxes."""
    pieces = _boxes(data) or [
        data[: len(data) // 3],
        data[len(data) // 3 : 2 * len(data) // 3],
        data[2 * len(data) // 3 :],
    ]
    one, other = rng.sample(range(len(pieces)), 2) if len(pieces) > 1 else (0, 0)
    pieces[one], pieces[other] = pieces[other], pieces[one]
    return bytearray().join(pieces)


def _holed(data: bytearray, rng: random.Random) -> bytearray:
    """A run of zeros."""
    start = rng.randrange(len(data))
    length = min(rng.choice((16, 512, 8192)), len(data) - start)
    data[start : start + length] = bytes(length)
    return data


def _resized(data: bytearray, rng: random.Random) -> bytearray:
    """A piece is missing or comes twice, so that every offset behind it is wrong."""
    start, length = rng.randrange(len(data)), rng.choice((1, 7, 100, 5000))
    piece = data[start : start + length]
    return (
        data[:start] + piece + piece + data[start + length :]
        if rng.random() < 0.5
        else data[:start] + data[start + length :]
    )


_MUTATIONS = {
    "flip": _flipped, "head": _flipped_head, "cut": _truncated, "swap": _swapped, "hole": _holed, "shift": _resized,
}  # fmt: skip


def _boxes(data: bytearray) -> list[bytearray]:
    """The top-level boxes of an MP4 file; none for other files."""
    if data[4:8] != b"ftyp":
        return []
    boxes, place = [], 0
    while place + 8 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        if length < 8:
            return []
        boxes.append(data[place : place + length])
        place += length
    return boxes


def fuzz(sources: Sequence[Path], count: int, seed: int, limits: ScanLimits, workers: int = 2) -> Counter[str]:
    """Scan mutants; how many ended with clips or with each reason.

    Raises: RuntimeError when a mutant has no outcome, or a process, an open file or a pack was left behind.
    """
    outcomes: Counter[str] = Counter()
    remaining = mutants(sources, count, seed)
    before: tuple[int, int] | None = None
    with tempfile.TemporaryDirectory() as folder:
        while batch := list(islice(remaining, _ROUND)):
            files = [(name, Path(folder) / name) for name, _ in batch]
            for (_, path), (_, data) in zip(files, batch, strict=True):
                path.write_bytes(data)
            packs = Path(folder) / "packs"
            done = {s.video_id: s for s in scan_videos(files, ScanOptions(), limits, workers, packs)}
            lost = {name for name, _ in files} - {
                name for name, s in done.items() if s.reason or s.clips or s.too_short
            }
            stray = {p.name for p in packs.iterdir()} - {s.pack.name for s in done.values() if s.pack}
            here = psutil.Process()
            leaks = len(here.children(recursive=True)), here.num_fds()
            before = before or leaks
            if lost or stray or leaks > before:
                raise RuntimeError(f"no outcome: {lost}; stray packs: {stray}; (processes, files) {before} -> {leaks}")
            for _, path in files:
                path.unlink()
            for scanned in done.values():
                outcomes[scanned.reason or ("clips, damaged" if scanned.damage else "clips")] += 1
                if scanned.pack:
                    scanned.pack.unlink()
                if scanned.reason in ("timeout", "decoder_crashed", "scan_failed"):
                    print(f"{scanned.video_id}: {scanned.reason}: {scanned.detail}")
    return outcomes


def main() -> None:
    """Fuzz and print the outcomes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="*")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=30.0, help="limit of one file")
    arguments = parser.parse_args()
    os.environ["AV_LOG_FORCE_NOCOLOR"] = "1"
    started = time.monotonic()
    outcomes = fuzz(arguments.videos, arguments.files, arguments.seed, ScanLimits(seconds=arguments.seconds))
    for reason, number in outcomes.most_common():
        print(f"{number:6d} {reason}")
    print(f"{sum(outcomes.values())} files in {time.monotonic() - started:.0f} s, seed {arguments.seed}")


if __name__ == "__main__":
    main()
