"""Train ViCLIP. The same file serves a laptop, torchrun and DeepSpeed's launcher.

python -m training.train --recipe debug_tiny --shards FOLDER --output FOLDER
deepspeed training/train.py --recipe paper_l14_64gpu --shards FOLDER --output FOLDER

b clips of this process, B of all, T frames, L tokens, E embedding.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from training.data import EpochOrder, ShardManifest, ShardReader, TrainingClips, batches
from training.engine import (
    build_engine,
    clamp_temperature,
    full_state,
    load_state,
    save_state,
    saved_state,
    start_processes,
)
from training.loss import contrastive_loss
from training.pipes_report import Report, session
from training.recipe import Recipe, Stage, with_overrides
from training.recipes import load_recipe
from training.run_log import RunLog
from training.viclip import ViCLIP, clean_caption, load_viclip, normalise, save_viclip, tokenize
from training.viclip.tokenizer import shortened


@dataclass(frozen=True)
class Phase:
    """A stage with its sample order and its length in steps."""

    number: int
    stage: Stage
    order: EpochOrder
    num_steps: int

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then a cosine down to `final_share`."""
        warmup = max(1, round(self.stage.warmup_share * self.num_steps))
        if step < warmup:
            return self.stage.learning_rate * (step + 1) / warmup
        progress = (step - warmup) / max(1, self.num_steps - warmup)
        low = self.stage.final_share
        return self.stage.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress)))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code: 0 done, 2 used wrongly."""
    arguments = _parser().parse_args(argv)
    try:
        recipe = with_overrides(load_recipe(arguments.recipe), arguments.set)
        manifest = ShardManifest.read(arguments.shards)
        with session() as report:
            train(recipe, manifest, arguments.output, arguments.seed, arguments.init, report)
    except ValueError as error:
        print(f"training: {error}", file=sys.stderr)
        return 2
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    return 0


def train(
    recipe: Recipe,
    manifest: ShardManifest,
    output: Path,
    seed: int = 0,
    init: Path | None = None,
    report: Report | None = None,
) -> None:
    """Run every stage, going on after the last saved step when `output` holds one of the same run.

    Writes into `output`: `model.safetensors`, `viclip.json`, `run.json`, `metrics.jsonl`, `tensorboard/`, `state/`.

    Raises: ValueError for a wrong recipe, when the loss diverges, or when `output` holds another run.
    """
    # --- prepare ------------------------------------------------------------------------------------------------------
    rank, world_size = start_processes()
    phases = _phases(recipe, manifest, seed, world_size)
    _claim(output, _identity(recipe, manifest, seed, init), rank)
    torch.manual_seed(seed)
    model = load_viclip(init, recipe.model).train() if init else _new_model(recipe)
    if recipe.freeze_text:
        model.freeze_text()
    if recipe.freeze_words:
        model.text_encoder.token_embedding.requires_grad_(False)
    if recipe.checkpointing:
        model.use_checkpointing()
    vision = recipe.model.vision
    clips = TrainingClips(ShardReader(manifest), recipe.data, vision.num_frames, vision.image_size, seed)
    num_steps = sum(phase.num_steps for phase in phases)
    log = RunLog(output, num_steps, recipe.log_every, report or Report()) if rank == 0 else None
    saved = saved_state(output / "state")
    steps_before = 0

    for phase in phases:
        # --- resume ---------------------------------------------------------------------------------------------------
        first = 0
        if saved is not None and saved[0] > phase.number:
            steps_before += phase.num_steps
            continue
        engine = build_engine(model, recipe, phase.stage, world_size)
        if saved is not None and saved[0] == phase.number:
            load_state(engine, output / "state", *saved)
            first = saved[1]
        steps = range(first, phase.num_steps)
        loader = batches(clips, phase.order, steps, rank, world_size, recipe.data.loader_workers)

        for step, batch in zip(steps, loader, strict=True):
            # --- step -------------------------------------------------------------------------------------------------
            torch.manual_seed(_step_seed(seed, phase.number, step, rank))
            learning_rate = phase.learning_rate(step)
            for group in engine.optimizer.param_groups:
                group["lr"] = learning_rate
            video_bTCHW = normalise(batch.video_BTCHW.to(engine.device)).to(_dtype(recipe))
            tokens_bL = shortened(
                tokenize([clean_caption(c) for c in batch.captions], recipe.model.text.context_length)
            )
            video_bE, text_bE, temperature = engine(video_bTCHW, tokens_bL.to(engine.device), phase.stage.mask_ratio)
            loss = contrastive_loss(
                video_bE,
                text_bE,
                temperature,
                video_ids_b=batch.video_ids_B.to(engine.device),
                text_ids_b=batch.text_ids_B.to(engine.device) if recipe.same_text_positives else None,
                same_video=recipe.same_video,
                chunk_rows=recipe.loss_chunk_rows,
            )
            engine.backward(loss)
            engine.step()
            clamp_temperature(engine)

            # --- report and save --------------------------------------------------------------------------------------
            means = _mean_over_processes(loss, _accuracy(video_bE, text_bE, batch.text_ids_B.to(engine.device)))
            if log is not None:
                log.step(
                    steps_before + step + 1,
                    phase.stage.batch_size,
                    stage=phase.number,
                    loss=means[0],
                    accuracy=means[1],
                    learning_rate=learning_rate,
                    temperature=float(temperature.detach()),
                )
            if (step + 1) % recipe.save_every == 0 or step + 1 == phase.num_steps:
                save_state(engine, output / "state", phase.number, step + 1)
        steps_before += phase.num_steps

    # --- hand over ----------------------------------------------------------------------------------------------------
    weights = full_state(engine)
    if log is not None:
        save_viclip(output, weights, recipe.model)
        facts = {**_identity(recipe, manifest, seed, init), **_circumstances(world_size), "num_steps": num_steps,
                 "num_samples_seen": sum(phase.num_steps * phase.stage.batch_size for phase in phases)}  # fmt: skip
        (output / "run.json").write_text(json.dumps(facts, indent=1) + "\n")
        log.close()
    dist.barrier()


def _new_model(recipe: Recipe) -> ViCLIP:
    model = ViCLIP(recipe.model)
    torch.nn.init.normal_(model.vision_encoder.temporal_positional_embedding, std=recipe.init_temporal_std)
    return model


def _phases(recipe: Recipe, manifest: ShardManifest, seed: int, world_size: int) -> list[Phase]:
    phases = []
    for number, stage in enumerate(recipe.stages):
        stage = _fitted(stage, manifest.total, world_size)
        order = EpochOrder(manifest.num_samples, stage.batch_size, seed + 1000 * number, recipe.data.window_shards)
        length = stage.steps if stage.steps is not None else round((stage.epochs or 0) * order.steps_per_epoch)
        phases.append(Phase(number, stage, order, max(1, length)))
    return phases


def _fitted(stage: Stage, num_samples: int, world_size: int) -> Stage:
    """The stage with a batch that the shards can fill; says so when that changes it."""
    if stage.batch_size <= num_samples:
        return stage
    fitting = num_samples // world_size * world_size
    if fitting < 2:
        raise ValueError(f"the shards hold {num_samples} samples, too few to contrast on {world_size} processes")
    print(f"training: batch_size {stage.batch_size} lowered to {fitting}: the shards hold no more", file=sys.stderr)
    return replace(stage, batch_size=fitting)


def _identity(recipe: Recipe, manifest: ShardManifest, seed: int, init: Path | None) -> dict[str, Any]:
    """What decides the weights; a resumed run must agree in all of it."""
    return {
        "recipe": recipe.to_dict(),
        "shards_id": manifest.shards_id,
        "shards_manifest_sha256": manifest.sha256,
        "subset": manifest.subset,
        "snapshot_id": manifest.snapshot_id,
        "seed": seed,
        "init": str(init) if init else None,
    }


def _circumstances(world_size: int) -> dict[str, Any]:
    return {
        "git_commit": _git_commit(),
        "world_size": world_size,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "versions": {name: version(name) for name in ("torch", "deepspeed", "transformers")},
    }


def _git_commit() -> str:
    """Of this checkout; `unknown` where there is no git or the code was installed without its history."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    command = [git, "rev-parse", "HEAD"]
    found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _claim(output: Path, identity: dict[str, Any], rank: int) -> None:
    """Mark the folder as this run's. Raises: ValueError when it is another's."""
    path = output / "identity.json"
    wanted = json.loads(json.dumps(identity))
    if path.exists() and json.loads(path.read_text()) != wanted:
        raise ValueError(
            f"{output} holds another run (see {path}): choose another --output, or delete it to start anew"
        )
    dist.barrier()
    if rank == 0:
        output.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(wanted, indent=1) + "\n")
    dist.barrier()


def _step_seed(seed: int, stage: int, step: int, rank: int) -> int:
    """Randomness inside the model (dropped tokens) is a function of the step, so a resumed run draws the same."""
    return hash((seed, stage, step, rank)) % 2**63


def _dtype(recipe: Recipe) -> torch.dtype:
    return torch.bfloat16 if recipe.precision == "bf16" else torch.float32


@torch.no_grad()
def _accuracy(video_bE: Tensor, text_bE: Tensor, text_ids_b: Tensor) -> Tensor:
    """Share of this process's clips whose best text among its own is right."""
    best_b = (video_bE.float() @ text_bE.float().T).argmax(1)
    return (text_ids_b[best_b] == text_ids_b).float().mean()


@torch.no_grad()
def _mean_over_processes(*values: Tensor) -> list[float]:
    stacked = torch.stack([value.detach().float().reshape(()) for value in values])
    dist.all_reduce(stacked)
    return (stacked / dist.get_world_size()).tolist()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="training.train", description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--recipe", required=True, help="name in training/recipes")
    parser.add_argument("--shards", type=Path, required=True, help="folder with manifest.json")
    parser.add_argument("--output", type=Path, required=True, help="folder of this run; repeat the command to resume")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init", type=Path, help="ViCLIP or CLIPModel weights to start from: a folder or a file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="change one value of the recipe"
    )
    parser.add_argument("--local_rank", type=int, default=int(os.environ.get("LOCAL_RANK", 0)), help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
