"""The decode-once pass beside a bare decode, PySceneDetect, the chain that a user would write, and peers' operators.

    python -m bench.clips speed VIDEO… [--rounds 5]        CPU seconds, wall seconds and peak memory, as ratios
    python -m bench.clips accuracy [--seeds 1000 1001 …]   F1 of the detectors on composed videos of known truth
    python -m bench.clips cores VIDEO… [--rounds 5]        two worker processes against one
    python -m bench.clips memory [VIDEO] [--minutes 1 60]  peak memory of a short and a long 1080p video

Every contender runs in a process of its own, in turn with the others, round after round; CPU seconds are those of that
process and its children while it works (imports are left out, but for command-line tools).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from bench.composed import Truth, compose, real_shots
from bench.contenders import CONTENDERS, PEERS, Cost, is_installed

_SMALL = (640, 360)
_TOLERANCE_FRAMES = 2
"""As TransNetV2's authors count (its metrics_utils.py)."""


def measured(name: str, videos: Sequence[Path], python: str = sys.executable) -> Cost:
    """What one contender costs, in a process of its own."""
    command = [python, "-m", "bench.contenders", name, *map(str, videos)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr.strip().splitlines()[-1:]}")
    return Cost(**json.loads(done.stdout.strip().splitlines()[-1]))


def speed(videos: Sequence[Path], names: Sequence[str], rounds: int, peers_python: str | None = None) -> None:
    """Print the median over rounds of each contender's cost and of its ratio to the bare decode of the same round."""
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            python = peers_python if name in PEERS and peers_python else sys.executable
            costs[name].append(measured(name, videos, python))
    print(f"{'contender':24} {'CPU s':>8} {'wall s':>8} {'decode/CPU':>11} {'decode/wall':>12} {'peak MiB':>9}")
    for name, own in costs.items():
        cpu = median(base.cpu_seconds / cost.cpu_seconds for base, cost in zip(costs["decode"], own, strict=True))
        wall = median(base.wall_seconds / cost.wall_seconds for base, cost in zip(costs["decode"], own, strict=True))
        print(
            f"{name:24} {median(c.cpu_seconds for c in own):8.2f} {median(c.wall_seconds for c in own):8.2f}"
            f" {cpu:11.3f} {wall:12.3f} {median(c.peak_mib for c in own):9.0f}"
        )


def accuracy(seeds: Iterable[int], seconds: float, footage: Path | None, detectors: Sequence[str]) -> None:
    """Print F1, precision, recall and the cost of each detector on composed videos."""
    shots = real_shots(footage)
    hits = {name: [0, 0, 0] for name in detectors}
    found_of_kind: dict[str, dict[str, list[int]]] = {name: {} for name in detectors}
    cpu = dict.fromkeys(detectors, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            video = Path(folder) / f"composed-{seed}.mp4"
            truth = compose(video, seconds, _SMALL, seed, shots)
            for name in detectors:
                cost = measured(f"scan_{name}", [video])
                cpu[name] += cost.cpu_seconds
                matches = matched(truth, [(a, b) for a, b in cost.transitions])
                for count, number in enumerate((sum(matches), len(cost.transitions), len(matches))):
                    hits[name][count] += number
                for kind, is_found in zip(truth.kinds, matches, strict=True):
                    found_of_kind[name].setdefault(kind, []).append(is_found)
    print(f"{'detector':14} {'F1':>7} {'precision':>10} {'recall':>7} {'CPU s':>8}  recall by kind")
    for name in detectors:
        right, found, wanted = hits[name]
        kinds = ", ".join(f"{k} {sum(v)}/{len(v)}" for k, v in sorted(found_of_kind[name].items()))
        print(
            f"{name:14} {2 * right / max(1, found + wanted):7.4f} {right / max(1, found):10.4f}"
            f" {right / max(1, wanted):7.4f} {cpu[name]:8.1f}  {kinds}"
        )


def matched(truth: Truth, found: Sequence[tuple[int, int]], tolerance: int = _TOLERANCE_FRAMES) -> list[bool]:
    """Which true transitions are found: each by one found transition that overlaps it within a tolerance."""
    unused = list(found)
    result = []
    for end, start in truth.transitions:
        near = [f for f in unused if f[0] <= start + tolerance and f[1] >= end - tolerance]
        if near:
            unused.remove(near[0])
        result.append(bool(near))
    return result


def cores(videos: Sequence[Path], rounds: int) -> None:
    """Print how much faster two worker processes scan several videos than one."""
    ratios = []
    for _ in range(rounds):
        one, two = measured("workers_1", videos), measured("workers_2", videos)
        ratios.append(one.wall_seconds / two.wall_seconds)
        print(f"one worker {one.wall_seconds:.2f} s, two workers {two.wall_seconds:.2f} s")
    print(f"median ratio {median(ratios):.2f}")


def memory(minute: Path | None, minutes: Sequence[float]) -> None:
    """Print the peak memory of scans of videos that differ in length only: a minute (or a given video) so many times."""
    with tempfile.TemporaryDirectory() as temporary:
        if minute is None:
            minute = Path(temporary) / "minute.mp4"
            compose(minute, 60, (1920, 1080), 0, real_shots())
        for count in minutes:
            video = Path(temporary) / f"{count:g}.mp4"
            looped(minute, video, round(count))
            started = time.monotonic()
            cost = measured("scan", [video])
            seconds = time.monotonic() - started
            print(f"{count:g} times: peak {cost.peak_mib:.0f} MiB, {seconds:.0f} s")


def looped(source: Path, target: Path, times: int) -> None:
    """Repeat a video without encoding it again."""
    import av

    with av.open(str(target), "w") as writer:
        stream = None
        offset = 0
        for _ in range(times):
            end = 0
            with av.open(str(source)) as reader:
                video = reader.streams.video[0]
                stream = stream or writer.add_stream_from_template(video)
                for packet in reader.demux(video):
                    if packet.dts is None or packet.pts is None:
                        continue
                    end = max(end, packet.pts + (packet.duration or 1))
                    packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, stream
                    writer.mux(packet)
            offset += end


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "accuracy", "cores", "memory"])
    parser.add_argument("videos", type=Path, nargs="*")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", help="contenders or detectors to run")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(1000, 1010)))
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each composed video")
    parser.add_argument("--footage", type=Path, help="a folder of further .mp4 files to compose from")
    parser.add_argument("--peers", help="a Python in which video2dataset and Data-Juicer are installed")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 60])
    arguments = parser.parse_args()
    if arguments.what == "accuracy":
        detectors = arguments.only or ["content", "fast", "adaptive", "transnetv2", "cascade"]
        accuracy(arguments.seeds, arguments.seconds, arguments.footage, detectors)
        return
    if arguments.what == "memory":
        memory(arguments.videos[0] if arguments.videos else None, arguments.minutes)
        return
    if not arguments.videos:
        parser.error(f"{arguments.what} needs videos: python -m bench.composed makes some")
    if arguments.what == "cores":
        cores(arguments.videos, arguments.rounds)
        return
    chosen = arguments.only or [name for name in CONTENDERS if not name.startswith("workers_")]
    missing = [name for name in chosen if not is_installed(name) or (name in PEERS and not arguments.peers)]
    if missing:
        print(f"not installed here, left out: {', '.join(missing)} (see bench/README.md)")
    names = ["decode", *(name for name in chosen if name not in missing and name != "decode")]
    speed(arguments.videos, names, arguments.rounds, arguments.peers)


if __name__ == "__main__":
    main()
