"""ViCLIP's training beside the plain architecture, its arithmetic against the device's, and the loader against bare decoding.

    python -m bench.training steps [--rounds 5] [--batch 4]     ViT-B/16, 8 frames: step and forward pass, time and memory
    python -m bench.training loss                               the loss of one process of 64 at batch 32,768: time and memory
    python -m bench.training loader [--clips 200]               clips a second of the loader and of a bare decode

Every contender runs in a process of its own, in turn with the other, round after round; ratios are of the same round.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tests.training.reference import MEAN, STD, Reference, reference_loss
from training.viclip.config import ViCLIPConfig


def _config() -> ViCLIPConfig:
    """B/16 without drop path, whose draws would differ between contenders."""
    config = ViCLIPConfig.b16()
    return replace(config, vision=replace(config.vision, drop_path=0.0))


def _inputs(batch: int) -> tuple[Tensor, Tensor]:
    """Random pixels, and captions of 12 to 24 tokens (the paper's mean is 17.6 words) padded to 32."""
    generator = torch.Generator().manual_seed(0)
    video = torch.randint(0, 256, (batch, 8, 3, 224, 224), dtype=torch.uint8, generator=generator)
    tokens = torch.randint(1, 49000, (batch, 32), generator=generator)
    for row, length in enumerate(torch.linspace(12, 24, batch).int().tolist()):
        tokens[row, length - 1], tokens[row, length:] = 49407, 0
    return video, tokens


def _reference_step(batch: int) -> Callable[[], Any]:
    model, (video, tokens) = Reference(_config()), _inputs(batch)
    model.text_encoder.requires_grad_(False)
    plain = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    groups = [{"params": decayed, "weight_decay": 0.2}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, 2e-4, (0.9, 0.98))

    def step() -> None:
        loss = reference_loss(*model(video, tokens, 0.9))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def _our_step(batch: int) -> Callable[[], Any]:
    from training.engine import build_engine
    from training.loss import contrastive_loss
    from training.micro import backward_step
    from training.recipes import load_recipe
    from training.viclip import ViCLIP
    from training.viclip.tokenizer import shortened

    recipe = replace(load_recipe("paper_b16"), model=_config(), zero_stage=0, precision="fp32", checkpointing=False)
    model, (video, tokens) = ViCLIP(recipe.model), _inputs(batch)
    model.freeze_text()
    engine = build_engine(model, recipe, replace(recipe.stages[0], batch_size=batch), 1)
    return lambda: backward_step(engine, video, shortened(tokens), 0.9, contrastive_loss, batch, 0)


def _forward(model: Any, batch: int) -> Callable[[], Any]:
    video, _ = _inputs(batch)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    pixels = (video.float() / 255 - mean) / std
    tower = model.eval().vision_encoder

    def forward() -> None:
        with torch.no_grad():
            tower(pixels, 0.0)

    return forward


def _our_forward(batch: int) -> Callable[[], Any]:
    from training.viclip import ViCLIP

    return _forward(ViCLIP(_config()), batch)


CONTENDERS = {
    "reference step": _reference_step,
    "our step": _our_step,
    "reference forward": lambda batch: _forward(Reference(_config()), batch),
    "our forward": _our_forward,
}


def one(name: str, batch: int, repeats: int) -> None:
    """Run one contender here and print its figures as JSON."""
    torch.manual_seed(0)
    run = CONTENDERS[name](batch)
    seconds = []
    for number in range(repeats + 1):
        began = time.perf_counter()
        run()
        if number:  # the first one warms up
            seconds.append(time.perf_counter() - began)
    print(json.dumps({"seconds": median(seconds), "peak_mib": _peak_mib()}))


def _peak_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _measured(*arguments: str) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.training", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def steps(rounds: int, batch: int, repeats: int) -> None:
    """Print time, memory and their ratios of training step and forward pass, and the share of the device's products."""
    from training.flops import forward_flops, peak_flops_per_second, training_flops

    figures: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    peaks = []
    for number in range(rounds):
        peak_flops_per_second.cache_clear()
        peaks.append(peak_flops_per_second("cpu"))
        for name in CONTENDERS if number % 2 == 0 else reversed(CONTENDERS):
            own_batch = batch if name.endswith("step") else 2
            figures[name].append(_measured("one", "--name", name, "--batch", str(own_batch), "--repeats", str(repeats)))
    print(f"products: {median(peaks) / 1e9:.0f} GFLOP/s by our kernel, {_torch_rate() / 1e9:.0f} by torch.mm")
    print(f"{'contender':20} {'s':>7} {'samples/s':>10} {'speed-up':>9} {'peak MiB':>9} {'of ref.':>8} {'MFU':>6}")
    step_flops, pass_flops = training_flops(_config(), 0.9, 24, True), forward_flops(_config(), 0.0, 0)
    for name, own in figures.items():
        kind = name.split()[1]
        base = figures[f"reference {kind}"]
        own_batch, flops = (batch, step_flops) if kind == "step" else (2, pass_flops)
        speed = median(b["seconds"] / o["seconds"] for b, o in zip(base, own, strict=True))
        memory = median(o["peak_mib"] / b["peak_mib"] for b, o in zip(base, own, strict=True))
        mfu = median(own_batch * flops / o["seconds"] / peak for o, peak in zip(own, peaks, strict=True))
        seconds = median(o["seconds"] for o in own)
        print(
            f"{name:20} {seconds:7.2f} {own_batch / seconds:10.2f} {speed:9.2f} {median(o['peak_mib'] for o in own):9.0f}"
            f" {memory:8.2f} {mfu:6.2f}"
        )


def _torch_rate(size: int = 1024) -> float:
    a, b = torch.randn(2, size, size)
    best = float("inf")
    for _ in range(8):
        began = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def loss(rows: int = 512, columns: int = 32768, width: int = 768, chunk_rows: int = 128) -> None:
    """Print time and peak memory of the loss of one process of 64: forward, backward, gradients of all features."""
    from training.loss import local_loss

    videos, texts = (functional.normalize(torch.randn(columns, width), dim=-1).requires_grad_() for _ in range(2))
    temperature = torch.full((1,), 0.01, requires_grad=True)
    before, began = _peak_mib(), time.perf_counter()
    value = local_loss(videos[:rows], texts[:rows], videos, texts, temperature, chunk_rows=chunk_rows)
    value.backward()
    seconds, peak = time.perf_counter() - began, _peak_mib()
    assert videos.grad is not None and texts.grad is not None and temperature.grad is not None
    with torch.no_grad():
        right = torch.arange(rows)
        pairs = ((videos[:rows], texts), (texts[:rows], videos))
        expected = sum(functional.cross_entropy(a @ b.T / temperature, right) for a, b in pairs) / 2
    figures = {
        "seconds": seconds,
        "before_mib": before,
        "peak_mib": peak,
        "loss": value.item(),
        "expected": float(expected),
    }
    print(json.dumps(figures))


def loader(num_clips: int, rounds: int = 7) -> None:
    """Print clips a second of the loader as training uses it, of a bare decode of the same frames, and what resizing costs.

    The loader gives batches to this process, which only takes them; resizing them is part of the step, and timed apart.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _write_shards(folder, num_clips)
        for workers, name in ((0, "thread"), (1, "process")):
            figures = []
            for number in range(rounds):
                if number % 2:
                    ours, bare = _loader_rate(folder, workers), _decode_rate(folder)
                else:
                    bare, ours = _decode_rate(folder), _loader_rate(folder, workers)
                figures.append((ours, bare, ours / bare))
            ours, bare, ratio = (median(values) for values in zip(*figures, strict=True))
            print(f"loader in one {name}: {ours:.0f} clips/s, bare decode {bare:.0f}, ratio {ratio:.2f}")
        milliseconds = median(_resize_seconds(folder) for _ in range(rounds)) * 1000
        print(f"resizing in the step: {milliseconds:.2f} ms a clip on this CPU")


def _write_shards(folder: Path, num_clips: int) -> None:
    """Clips of 8 pictures with the spectrum of photographs, of the size that shards hold by default."""
    import cv2
    import numpy as np

    from internvid_assets.clips.packs import ClipFrames, PackedFrame
    from internvid_assets.release.shards import ShardOptions, shard_order, write_shards

    rng = np.random.default_rng(0)
    jpegs = []
    for _ in range(16):
        octaves = [rng.normal(0, 40 / 2**n, (14 * 2**n, 25 * 2**n, 3)) for n in range(5)]
        picture = 128 + sum(cv2.resize(octave, (398, 224), interpolation=cv2.INTER_CUBIC) for octave in octaves)
        jpegs.append(
            cv2.imencode(".jpg", picture.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
        )

    def frames_of(ids: Any) -> Any:
        for number, clip_id in enumerate(ids):
            frames = tuple(PackedFrame(i * 0.25, jpegs[(number + i) % len(jpegs)]) for i in range(8))
            yield ClipFrames(clip_id, frames, (), 2.0)

    pairs = [
        {
            "clip_id": f"v{n:05d}_00000000_00000001",
            "video_id": f"v{n:05d}",
            "caption": " ".join(f"word{m}" for m in rng.zipf(1.5, 16)),
        }
        for n in range(num_clips)
    ]
    write_shards(folder, shard_order(pairs), frames_of, ShardOptions(num_clips, 8, 224), "bench", 1)


def _decode_rate(folder: Path) -> float:
    """By OpenCV in one thread, the JPEGs being in memory."""
    import cv2
    import numpy as np

    from training.data import ShardManifest, ShardReader

    reader = ShardReader(ShardManifest.read(folder))
    samples = [reader[number].frames for number in range(len(reader))]
    cv2.setNumThreads(0)
    began = time.perf_counter()
    for frames in samples:
        for jpeg in frames:
            cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    return len(samples) / (time.perf_counter() - began)


def _batches(folder: Path, workers: int, num_steps: int) -> Iterator[Any]:
    """Of 32 clips, a small share of a process."""
    from training.data import EpochOrder, ShardManifest, ShardReader, TrainingClips, batches
    from training.recipe import DataConfig

    manifest = ShardManifest.read(folder)
    clips = TrainingClips(ShardReader(manifest), DataConfig(), 8, 224, seed=0)
    return batches(clips, EpochOrder(manifest.num_samples, 32, 0, 64), range(num_steps), 0, 1, workers)


def _loader_rate(folder: Path, workers: int) -> float:
    """Of 16 batches, after those that are made while the loader starts and before those while it stops."""
    arriving = _batches(folder, workers, 22)
    for _ in range(4):
        next(arriving)
    began = time.perf_counter()
    count = sum(len(batch.captions) for batch in islice(arriving, 16))
    return count / (time.perf_counter() - began)


def _resize_seconds(folder: Path) -> float:
    """Of a clip, in the training process."""
    seconds = []
    for batch in _batches(folder, 0, 4):
        began = time.perf_counter()
        batch.video()
        seconds.append((time.perf_counter() - began) / len(batch.captions))
    return median(seconds)


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["steps", "one", "loss", "loader"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3, help="steps in each process")
    parser.add_argument("--batch", type=int, default=4, help="of the training step; the forward pass takes 2")
    parser.add_argument("--name", choices=list(CONTENDERS))
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.what == "one":
        one(arguments.name, arguments.batch, arguments.repeats)
    elif arguments.what == "steps":
        steps(arguments.rounds, arguments.batch, arguments.repeats)
    elif arguments.what == "loss":
        loss()
    else:
        loader(arguments.clips)


if __name__ == "__main__":
    main()
