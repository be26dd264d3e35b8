"""Evaluate ViCLIPs, with every choice of the protocol as a flag and in the result.

python -m training.evaluate --checkpoint viclip=FOLDER --benchmark actions=FILE.csv --output FOLDER
python -m training.evaluate --checkpoint viclip=FOLDER --data msrvtt=FOLDER --data k400=FOLDER --output FOLDER
python -m training.evaluate --list

B videos, K classes, N captions.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.benchmarks import (
    STANDARDS,
    Benchmark,
    load_benchmark,
    load_standard,
    load_templates,
    told_registry,
    training_pairs,
)
from training.benchmarks.paper import paper_rows
from training.contenders import load_contender
from training.data import ShardManifest
from training.findings import best_and_worst, confusion_table, mistakes, per_class
from training.metrics import Figure, action_figures, class_ranks, dual_softmax, ranks, retrieval_figures
from training.pipes_report import Report, session
from training.protocol import Protocol
from training.scoring import Scores, score

RESULT, RANKS = "evaluation.json", "ranks.json"


@dataclass(frozen=True)
class Result:
    """One model on one benchmark. `ranks`: place, from 0, of the right answer of every item, per kind of question."""

    model: str
    setting: str
    scores: Scores
    figures: list[Figure]
    ranks: Mapping[str, np.ndarray]
    per_class: list[Figure] = field(default_factory=list)

    @property
    def benchmark(self) -> Benchmark:
        """What was evaluated on, less what could not be read."""
        return self.scores.benchmark

    def to_dict(self) -> dict[str, Any]:
        """Plain values without the scores."""
        return {
            "model": self.model,
            "setting": self.setting,
            "benchmark": self.benchmark.name,
            "task": self.benchmark.task,
            "note": self.benchmark.note,
            "num_items": len(self.benchmark),
            "figures": [figure.to_dict() for figure in self.figures],
            "per_class": [figure.to_dict() for figure in self.per_class],
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code: 0 done, 2 used wrongly."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.list:
        print(told_registry())
        return 0
    torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
    try:
        protocol, benchmarks = protocol_of(arguments), benchmarks_of(arguments)
        if arguments.check:
            print("\n".join(_told(benchmark) for benchmark in benchmarks))
            return 0
        if not arguments.checkpoint or arguments.output is None:
            raise ValueError("give --checkpoint NAME=PATH and --output FOLDER, or --check, or --list")
        checkpoints = dict(named(text) for text in arguments.checkpoint)
        with session() as report:
            evaluate(checkpoints, benchmarks, protocol, arguments.output, report, arguments.workers, arguments.allow_missing)  # fmt: skip
    except ValueError as error:
        print(f"evaluation: {error}", file=sys.stderr)
        return 2
    return 0


def protocol_of(arguments: argparse.Namespace) -> Protocol:
    """The flags as one value. Raises: ValueError naming the flag that cannot be."""
    return Protocol(
        num_frames=arguments.frames,
        sampling=arguments.sampling,
        num_views=arguments.views,
        num_crops=arguments.crops,
        resize=arguments.resize,
        templates=load_templates(arguments.templates),
        text_clean_up=not arguments.raw_text,
        text_length=arguments.text_length,
        template_averaging=arguments.average,
        dual_softmax=arguments.dual_softmax,
        single_frame=arguments.single_frame,
        average_with=arguments.average_with,
        alpha=arguments.alpha,
        use_head=not arguments.no_head,
    )


def benchmarks_of(arguments: argparse.Namespace) -> list[Benchmark]:
    """Every benchmark that the flags name, checked. Raises: ValueError saying which files are missing."""
    found = [load_benchmark(*named(text)) for text in arguments.benchmark]
    found += [load_standard(*named(text), allow_missing=arguments.allow_missing) for text in arguments.data]
    if found:
        return found
    if not arguments.shards:
        raise ValueError(
            f"nothing to evaluate on: give --data NAME=FOLDER with one of {', '.join(STANDARDS)}, --benchmark NAME=FILE, "
            "or --shards FOLDER for training pairs"
        )
    if len(arguments.shards) == 1:
        return [training_pairs(arguments.shards[0])]
    return [training_pairs(folder, name=f"pairs_of_{ShardManifest.read(folder).subset}") for folder in arguments.shards]


def evaluate(
    checkpoints: Mapping[str, str],
    benchmarks: Sequence[Benchmark],
    protocol: Protocol,
    output: Path,
    report: Report | None = None,
    workers: int = 1,
    skip_unreadable: bool = False,
) -> list[Result]:
    """Every checkpoint on every benchmark.

    Writes `evaluation.json`, `ranks.json` (the place of the right answer of every item, for paired comparisons), and of the
    first checkpoint what to look at: confusions, mistakes, retrievals, with pictures.

    Raises: ValueError for weights or videos that cannot be read.
    """
    output.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    for name, path in checkpoints.items():
        contender = load_contender(name, path, protocol)
        for benchmark in benchmarks:
            scores = score(contender, benchmark, protocol, workers, skip_unreadable)
            results.append(result_of(name, contender.setting(benchmark), scores, protocol))
            line = _told_result(results[-1])
            print(line, file=sys.stderr)
            (report or Report()).step(line)
    first = [result for result in results if result.model == next(iter(checkpoints))]
    _write(output / RESULT, _facts(checkpoints, protocol, results, first, output))
    _write(output / RANKS, _ranks(results))
    return results


def result_of(model: str, setting: str, scores: Scores, protocol: Protocol) -> Result:
    """The figures of a matrix of scores."""
    benchmark = scores.benchmark
    if benchmark.task == "action":
        labels_B = np.array(benchmark.labels)
        ranks_B = class_ranks(scores.matrix, labels_B)
        figures = action_figures(ranks_B, labels_B, len(benchmark.classes))
        return Result(model, setting, scores, figures, {"action": ranks_B}, per_class(scores))
    right_NB = scores.owners_N[:, None] == np.arange(len(benchmark))
    both = {"t2v": (scores.matrix, right_NB), "v2t": (scores.matrix.T, right_NB.T)}
    figures, found = [], {}
    for direction, (matrix, right) in both.items():
        if protocol.dual_softmax is not None:
            matrix = dual_softmax(matrix, protocol.dual_softmax)
        found[direction] = ranks(matrix, right)
        several = direction == "t2v" and len(scores.owners_N) > len(benchmark)
        groups = scores.owners_N if several else None
        figures += retrieval_figures(found[direction], right.sum(1), right.shape[1], direction, groups)
    return Result(model, setting, scores, figures, found)


def _facts(
    checkpoints: Mapping[str, str], protocol: Protocol, results: list[Result], first: list[Result], output: Path
) -> dict[str, Any]:
    actions = [result for result in first if result.benchmark.task == "action"]
    retrievals = [result for result in first if result.benchmark.task == "retrieval"]
    tables = {result.benchmark.name: confusion_table(result.scores) for result in actions}
    return {
        "protocol": protocol.to_dict(),
        "protocol_told": protocol.told(),
        "checkpoints": dict(checkpoints),
        "results": [result.to_dict() for result in results],
        "paper": paper_rows((result.benchmark.name, result.setting) for result in results),
        "confusion": {name: table for name, table in tables.items() if table is not None},
        "mistakes": {result.benchmark.name: mistakes(result.scores, output) for result in actions},
        "retrievals": {result.benchmark.name: best_and_worst(result.scores, output) for result in retrievals},
    }


def _ranks(results: list[Result]) -> dict[str, Any]:
    """`models`: model to benchmark to kind of question to ranks; `owners`: benchmark to the video of each caption."""
    models: dict[str, dict[str, dict[str, list[int]]]] = {}
    for result in results:
        ranks_of = {kind: values.tolist() for kind, values in result.ranks.items()}
        models.setdefault(result.model, {})[result.benchmark.name] = ranks_of
    owners = {r.benchmark.name: r.scores.owners_N.tolist() for r in results if r.benchmark.task == "retrieval"}
    return {"models": models, "owners": owners}


def _told_result(result: Result) -> str:
    figures = ", ".join(f"{f.metric} {f.value:.3f} [{f.low:.3f}, {f.high:.3f}]" for f in result.figures)
    return f"{result.model} on {result.benchmark.name}, {result.setting}: {figures}"


def _told(benchmark: Benchmark) -> str:
    size = f"{len(benchmark)} items" + (f" of {len(benchmark.classes)} classes" if benchmark.classes else "")
    return f"{benchmark.name}: {size}, {benchmark.task}, from {', '.join(map(str, benchmark.files[:2]))}{'; ' * bool(benchmark.note)}{benchmark.note}"


def _write(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n")


def named(text: str) -> tuple[str, str]:
    """NAME=PATH as a pair. Raises: ValueError when it is not of that form."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ValueError(f"{text!r} must be of the form NAME=PATH")
    return name, value


def make_parser() -> argparse.ArgumentParser:
    """What is evaluated, and the protocol."""
    parser = argparse.ArgumentParser(prog="training.evaluate", description=__doc__.split("\n")[0] if __doc__ else None)
    add = parser.add_argument
    add("--checkpoint", action="append", default=[], metavar="NAME=PATH", help="the first is the main one")
    add("--output", type=Path)
    add("--data", action="append", default=[], metavar="NAME=FOLDER", help="a public benchmark; see --list")
    add("--benchmark", action="append", default=[], metavar="NAME=FILE", help=".csv: action, .json: retrieval")
    add("--shards", action="append", default=[], type=Path, help="training pairs, when no benchmark is given")
    add("--list", action="store_true", help="print the public benchmarks and the files they need")
    add("--check", action="store_true", help="only look whether all files of the benchmarks are there")
    add("--allow-missing", action="store_true", help="leave out videos that are missing or cannot be read, and say so")
    add("--workers", type=int, default=min(8, os.cpu_count() or 1), help="threads that decode videos")
    choices = parser.add_argument_group("protocol; the defaults are the paper's")
    add = choices.add_argument
    add("--frames", type=int, help="of a view; default: the model's")
    add(
        "--sampling", choices=("middle", "endpoints"), default="middle", help="middles of equal spans, or ends included"
    )
    add("--views", type=int, default=1, help="along time")
    add("--crops", type=int, default=1, help="along the long side: 1 or 3")
    add("--resize", choices=("straight", "crop"), default="straight", help="to the square, or short side and crop")
    add("--templates", default="paper", help="'paper', 'name', 'clip' or a file with one template a line")
    add("--raw-text", action="store_true", help="leave out InternVid's caption clean-up")
    add("--text-length", type=int, help="tokens; default: the model's")
    add("--average", choices=("similarities", "embeddings"), default="similarities", help="over templates")
    add("--dual-softmax", type=float, nargs="?", const=1.0, metavar="TEMPERATURE", help="DSL; as released: 1")
    add("--single-frame", action="store_true", help="embed frames alone and average, as the paper's CLIP baselines")
    add("--average-with", metavar="WEIGHTS", help="WiSE-FT with these weights (the CLIP that training started from)")
    add("--alpha", type=float, default=0.5, help="share of the checkpoint in --average-with")
    add("--no-head", action="store_true", help="zero-shot even where a checkpoint has a classification head")
    return parser


if __name__ == "__main__":
    sys.exit(main())
