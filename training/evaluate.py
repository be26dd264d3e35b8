"""Evaluate ViCLIPs zero-shot, with every choice of the protocol as a flag and in the result.

python -m training.evaluate --checkpoint viclip=FOLDER --benchmark actions=FILE.csv --output FOLDER

B videos, T frames, C channels, H W pixels, K classes, P templates, N captions, E embedding.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from training.benchmarks import Benchmark, load_benchmark, load_templates, training_pairs
from training.data import ShardReader, choose_frames, decode, resized
from training.metrics import Figure, confusion, dual_softmax, recall_at_k, top_k
from training.pipes_report import Report, session
from training.viclip import ViCLIP, load_viclip, normalise
from training.video import read_frames

_BATCH = 16


@dataclass(frozen=True)
class Protocol:
    """Choices that change the numbers."""

    frame_sampling: str = "middle of equal spans"
    crop: str = "none, resized straight to the model's square"
    text_clean_up: bool = True
    template_averaging: str = "similarities"
    templates: tuple[str, ...] = ()
    dual_softmax: bool = False


@dataclass(frozen=True)
class Result:
    """One model on one benchmark."""

    model: str
    benchmark: Benchmark
    figures: list[Figure]
    scores: np.ndarray  # action: [B, K]; retrieval: [N, B]
    per_class: list[Figure]

    def to_dict(self) -> dict[str, Any]:
        """Plain values without the scores."""
        return {
            "model": self.model,
            "benchmark": self.benchmark.name,
            "task": self.benchmark.task,
            "note": self.benchmark.note,
            "num_items": len(self.benchmark),
            "figures": [figure.to_dict() for figure in self.figures],
            "per_class": [figure.to_dict() for figure in self.per_class],
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code: 0 done, 2 used wrongly."""
    arguments = _parser().parse_args(argv)
    torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
    try:
        benchmarks = [load_benchmark(*_named(text)) for text in arguments.benchmark]
        if not benchmarks:
            if arguments.shards is None:
                raise ValueError("nothing to evaluate on: give --benchmark NAME=FILE, or --shards for training pairs")
            benchmarks = [training_pairs(arguments.shards)]
        protocol = Protocol(
            text_clean_up=not arguments.raw_text,
            templates=load_templates(arguments.templates),
            dual_softmax=arguments.dual_softmax,
        )
        with session() as report:
            evaluate(
                dict(_named(text) for text in arguments.checkpoint), benchmarks, protocol, arguments.output, report
            )
    except ValueError as error:
        print(f"evaluation: {error}", file=sys.stderr)
        return 2
    return 0


def evaluate(
    checkpoints: dict[str, str],
    benchmarks: Sequence[Benchmark],
    protocol: Protocol,
    output: Path,
    report: Report | None = None,
) -> list[Result]:
    """Every checkpoint on every benchmark; writes `evaluation.json`, and of the first checkpoint confusion and pictures.

    Raises: ValueError for weights or videos that cannot be read.
    """
    output.mkdir(parents=True, exist_ok=True)
    results = []
    for name, folder in checkpoints.items():
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = load_viclip(folder).to(device)
        for benchmark in benchmarks:
            result = _evaluate_one(name, model, benchmark, protocol)
            results.append(result)
            line = ", ".join(f"{f.metric} {f.value:.3f} [{f.low:.3f}, {f.high:.3f}]" for f in result.figures)
            print(f"{name} on {benchmark.name}: {line}", file=sys.stderr)
            (report or Report()).step(f"{name} on {benchmark.name}: {line}")
    first = [result for result in results if result.model == next(iter(checkpoints))]
    about = {
        "protocol": asdict(protocol),
        "checkpoints": checkpoints,
        "results": [result.to_dict() for result in results],
        "confusion": {r.benchmark.name: _confusion(r) for r in first if r.benchmark.task == "action"},
        "retrievals": {r.benchmark.name: _best_and_worst(r, output) for r in first if r.benchmark.task == "retrieval"},
    }
    (output / "evaluation.json").write_text(json.dumps(about, indent=1) + "\n")
    return results


@torch.inference_mode()
def _evaluate_one(name: str, model: ViCLIP, benchmark: Benchmark, protocol: Protocol) -> Result:
    video_BE = _embed_videos(model, benchmark)
    if benchmark.task == "action":
        scores_BK = _class_scores(model, video_BE, benchmark.classes, protocol)
        labels_B = np.array(benchmark.labels)
        figures = [top_k(scores_BK, labels_B, 1), top_k(scores_BK, labels_B, 5)]
        return Result(name, benchmark, figures, scores_BK, _per_class(scores_BK, labels_B, benchmark.classes))
    captions = [caption for texts in benchmark.captions for caption in texts]
    owner_N = np.array([number for number, texts in enumerate(benchmark.captions) for _ in texts])
    text_NE = model.encode_text(captions, clean=protocol.text_clean_up)
    scores_NB = (text_NE @ video_BE.T).cpu().numpy()
    right_NB = owner_N[:, None] == np.arange(len(video_BE))
    scores_BN = scores_NB.T
    if protocol.dual_softmax:
        scores_NB, scores_BN = dual_softmax(scores_NB), dual_softmax(scores_BN)
    figures = [recall_at_k(scores_NB, right_NB, k, "t2v") for k in (1, 5, 10)]
    figures += [recall_at_k(scores_BN, right_NB.T, k, "v2t") for k in (1, 5, 10)]
    return Result(name, benchmark, figures, scores_NB, [])


def _class_scores(model: ViCLIP, video_BE: Tensor, classes: Sequence[str], protocol: Protocol) -> np.ndarray:
    """[B, K], the similarity averaged over templates (and not the embeddings, as the released code)."""
    texts = [template.format(name) for name in classes for template in protocol.templates]
    text_KPE = model.encode_text(texts, clean=protocol.text_clean_up).view(len(classes), len(protocol.templates), -1)
    return torch.einsum("be,kpe->bkp", video_BE, text_KPE).mean(-1).cpu().numpy()


def _per_class(scores_BK: np.ndarray, labels_B: np.ndarray, classes: Sequence[str]) -> list[Figure]:
    figures = []
    for number, name in enumerate(classes):
        if (labels_B == number).any():
            figure = top_k(scores_BK[labels_B == number], labels_B[labels_B == number], 1)
            figures.append(Figure(name, figure.value, figure.low, figure.high, figure.chance, figure.num_items))
    return figures


def _embed_videos(model: ViCLIP, benchmark: Benchmark) -> Tensor:
    vision, device = model.config.vision, model.temp.device
    parts, waiting = [], []
    pictures_of = _pictures(benchmark, vision.num_frames)
    bar = tqdm(pictures_of, benchmark.name, len(benchmark), leave=False, delay=1.0, disable=None)
    for pictures in bar:
        waiting.append(resized(pictures, vision.image_size))
        if len(waiting) == _BATCH:
            parts.append(_embed(model, waiting, device))
            waiting = []
    if waiting:
        parts.append(_embed(model, waiting, device))
    return torch.cat(parts)


def _embed(model: ViCLIP, videos_TCHW: list[np.ndarray], device: torch.device) -> Tensor:
    return model.encode_video(normalise(torch.from_numpy(np.stack(videos_TCHW)).to(device)))


def _pictures(benchmark: Benchmark, num_frames: int) -> Iterator[list[np.ndarray]]:
    """The frames of every item of a benchmark, in order."""
    if benchmark.shards is None:
        for path in benchmark.videos:
            yield read_frames(path, num_frames)
        return
    reader = ShardReader(benchmark.shards)
    for number in range(len(benchmark)):
        frames = reader[number].frames
        yield [decode(frames[i]) for i in choose_frames(len(frames), num_frames, None)]


def _confusion(result: Result) -> dict[str, Any]:
    counts = confusion(result.scores, np.array(result.benchmark.labels))
    return {"classes": list(result.benchmark.classes), "counts": counts.tolist()}


def _best_and_worst(result: Result, output: Path, count: int = 4) -> dict[str, list[dict[str, Any]]]:
    """The captions whose own video stands out most and least, each with pictures of that video and of the one found."""
    benchmark, scores_NB = result.benchmark, result.scores
    owners = [number for number, texts in enumerate(benchmark.captions) for _ in texts]
    captions = [caption for texts in benchmark.captions for caption in texts]
    own_N = scores_NB[np.arange(len(owners)), owners]
    others_NB = scores_NB.copy()
    others_NB[np.arange(len(owners)), owners] = -np.inf
    order = np.argsort(own_N - others_NB.max(axis=1)) if scores_NB.shape[1] > 1 else np.arange(len(owners))
    chosen = {"best": order[::-1][:count].tolist(), "worst": order[:count].tolist()}
    wanted = {owners[n] for ns in chosen.values() for n in ns} | {
        int(scores_NB[n].argmax()) for ns in chosen.values() for n in ns
    }
    strips = {}
    for number, pictures in enumerate(_pictures(benchmark, 4)):
        if number in wanted:
            strips[number] = f"{benchmark.name}_{number:05d}.jpg"
            strip = np.concatenate([cv2.resize(p, (160, 120), interpolation=cv2.INTER_AREA) for p in pictures], axis=1)
            cv2.imwrite(str(output / strips[number]), cv2.cvtColor(strip, cv2.COLOR_RGB2BGR))
    return {
        kind: [
            {
                "caption": captions[n],
                "rank": int((scores_NB[n] > own_N[n]).sum()) + 1,
                "own": strips[owners[n]],
                "found": strips[int(scores_NB[n].argmax())],
                "found_caption": benchmark.captions[int(scores_NB[n].argmax())][0],
            }
            for n in numbers
        ]
        for kind, numbers in chosen.items()
    }


def _named(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ValueError(f"{text!r} must be of the form NAME=PATH")
    return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="training.evaluate", description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--checkpoint", action="append", required=True, metavar="NAME=PATH", help="the first is the main one"
    )
    parser.add_argument(
        "--benchmark", action="append", default=[], metavar="NAME=FILE", help=".csv: action, .json: retrieval"
    )
    parser.add_argument("--shards", type=Path, help="evaluate on training pairs when no benchmark is given")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--templates", default="paper", help="'paper' or a file with one template a line")
    parser.add_argument("--raw-text", action="store_true", help="leave out InternVid's caption clean-up")
    parser.add_argument("--dual-softmax", action="store_true", help="multiply by the softmax over the other axis (DSL)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
