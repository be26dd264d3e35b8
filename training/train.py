"""Train ViCLIP. The same file serves a laptop, torchrun and DeepSpeed's launcher.

python -m training.train --recipe debug_tiny --shards FOLDER --output FOLDER
deepspeed training/train.py --recipe paper_l14_64gpu --shards FOLDER=2 --shards OTHER=1 --output FOLDER

b clips of this process, B of all, T frames, L tokens, E embedding.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from training.data import Batch, ShardManifest, ShardReader, TrainingClips, batches
from training.engine import build_engine, clamp_temperature, start_processes
from training.flops import peak_flops_per_second, training_flops
from training.loss import contrastive_loss
from training.micro import backward_step
from training.phases import Phase, Shards, make_phases
from training.pipes_report import Report, session
from training.provenance import circumstances, claim, identity_of
from training.recipe import Recipe, with_overrides
from training.recipes import load_recipe
from training.run_log import BrokenLog, RunLog
from training.state import full_state, load_state, save_state, saved_state, saved_weights
from training.viclip import ViCLIP, load_viclip, save_viclip
from training.viclip.attention import attention_backend
from training.viclip.linear import linear_backend
from training.viclip.tokenizer import shortened


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code: 0 done, 2 used wrongly."""
    arguments = make_parser().parse_args(argv)
    try:
        recipe = with_overrides(load_recipe(arguments.recipe), arguments.set)
        shards = [Shards.read(text) for text in arguments.shards]
        with session() as report:
            train(recipe, shards, arguments.output, arguments.seed, arguments.init, report)
    except ValueError as error:
        print(f"training: {error}", file=sys.stderr)
        return 2
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    return 0


def train(
    recipe: Recipe,
    shards: Sequence[Shards] | ShardManifest,
    output: Path,
    seed: int = 0,
    init: Path | None = None,
    report: Report | None = None,
) -> None:
    """Run every stage, going on after the last saved step when `output` holds one of the same run.

    Writes into `output`: `model.safetensors`, `viclip.json`, `run.json`, `metrics.jsonl`, `broken.jsonl`, `tensorboard/`,
    `state/`.

    Raises: ValueError for a wrong recipe, when the loss diverges, or when `output` holds another run.
    """
    # --- prepare ------------------------------------------------------------------------------------------------------
    shards = [Shards(shards)] if isinstance(shards, ShardManifest) else shards
    rank, world_size = start_processes()
    phases = make_phases(recipe, shards, seed, world_size)
    claim(output, identity_of(recipe, shards, seed, init), rank)
    clips = _clips(recipe, shards, seed)
    num_steps = sum(phase.num_steps for phase in phases)
    log = RunLog(output, num_steps, recipe.log_every, report or Report()) if rank == 0 else None
    broken = BrokenLog(output)
    engine: Any = None
    steps_before = 0

    for phase in phases:
        # --- resume ---------------------------------------------------------------------------------------------------
        first, saved = 0, saved_state(output / "state")
        if saved is not None and saved[0] > phase.number:
            steps_before += phase.num_steps
            continue
        engine = None  # frees the memory of the stage before, whose weights are in the saved state
        torch.manual_seed(seed)
        model = _model(recipe, init)
        if saved is not None:
            model.load_state_dict(saved_weights(output / "state", *saved))
        engine = build_engine(model, recipe, phase.stage, world_size)
        if saved is not None and saved[0] == phase.number:
            load_state(engine, output / "state", *saved)
            first = saved[1]
        micro_batch = recipe.deepspeed_config(phase.stage, world_size)["train_micro_batch_size_per_gpu"]
        kernels = _kernels(engine, recipe)
        if log is not None:
            log.note(f"stage {phase.number}: {type(engine).__name__}, " + ", ".join(kernels.values()))
        steps = range(first, phase.num_steps)
        loader = batches(clips, phase.order, steps, rank, world_size, recipe.data.loader_workers)

        for step, (batch, wait_seconds) in zip(steps, _timed(loader), strict=True):
            # --- step -------------------------------------------------------------------------------------------------
            learning_rate = phase.learning_rate(step)
            for group in engine.optimizer.param_groups:
                group["lr"] = learning_rate
            tokens_bL = shortened(batch.tokens_BL)
            loss, video_bE, text_bE, temperature = backward_step(
                engine,
                batch.video(engine.device),
                tokens_bL.to(engine.device, non_blocking=True),
                phase.stage.mask_ratio,
                _loss_of(batch, recipe, engine.device),
                micro_batch,
                _step_seed(seed, phase.number, step, rank),
            )
            clamp_temperature(engine)

            # --- report and save --------------------------------------------------------------------------------------
            broken.add(batch.broken)
            accuracy = _accuracy(video_bE, text_bE, batch.text_ids_B.to(engine.device))
            flops = _flops(recipe, phase, batch, tokens_bL.shape[1], engine.device)
            means = _mean_over_processes(loss, accuracy, torch.tensor([wait_seconds, flops, float(len(batch.broken))]))
            if log is not None:
                log.step(
                    steps_before + step + 1,
                    phase.stage.batch_size,
                    wait_seconds=means[2],
                    flops=means[3],
                    broken=round(means[4] * world_size),
                    stage=phase.number,
                    loss=means[0],
                    accuracy=means[1],
                    learning_rate=learning_rate,
                    temperature=float(temperature),
                    logit_scale=1 / float(temperature),
                )
            if (step + 1) % recipe.save_every == 0 or step + 1 == phase.num_steps:
                save_state(engine, output / "state", phase.number, step + 1)
        steps_before += phase.num_steps

    # --- hand over ----------------------------------------------------------------------------------------------------
    weights = full_state(engine)
    dist.barrier()
    if log is not None:
        save_viclip(output, weights, recipe.model)
        facts = {**identity_of(recipe, shards, seed, init), **circumstances(world_size), **kernels, "num_steps": num_steps,
                 "num_samples_seen": sum(phase.num_steps * phase.stage.batch_size for phase in phases),
                 "num_broken_samples": broken.count()}  # fmt: skip
        (output / "run.json").write_text(json.dumps(facts, indent=1) + "\n")
        log.close()
    dist.barrier()


def _model(recipe: Recipe, init: Path | None) -> ViCLIP:
    """The model to train, on the CPU, with what the recipe freezes."""
    if init:
        model = load_viclip(init, recipe.model).train()
    else:
        model = ViCLIP(recipe.model)
        torch.nn.init.normal_(model.vision_encoder.temporal_positional_embedding, std=recipe.init_temporal_std)
    if recipe.freeze_text:
        model.freeze_text()
    if recipe.freeze_words:
        model.text_encoder.token_embedding.requires_grad_(False)
    if recipe.checkpointing:
        model.use_checkpointing()
    return model


def _clips(recipe: Recipe, shards: Sequence[Shards], seed: int) -> TrainingClips:
    vision = recipe.model.vision
    return TrainingClips(
        [ShardReader(one.manifest) for one in shards],
        recipe.data,
        vision.num_frames,
        vision.image_size,
        seed,
        recipe.model.text.context_length,
        takes_images=vision.tubelet_frames == 1,
    )


def _loss_of(batch: Batch, recipe: Recipe, device: torch.device) -> Any:
    return partial(
        contrastive_loss,
        video_ids_b=batch.video_ids_B.to(device),
        text_ids_b=batch.text_ids_B.to(device) if recipe.same_text_positives else None,
        same_video=recipe.same_video,
        chunk_rows=recipe.loss_chunk_rows,
    )


def _timed(loader: Iterable[Batch]) -> Iterator[tuple[Batch, float]]:
    """Each batch, and the seconds that the loop waited for it; resizing it is part of the step."""
    batches_left = iter(loader)
    while True:
        began = perf_counter()
        batch = next(batches_left, None)
        if batch is None:
            return
        yield batch, perf_counter() - began


def _kernels(engine: Any, recipe: Recipe) -> dict[str, Any]:
    """What computes, and how fast its products are; found out once."""
    dtype, device = _dtype(recipe), str(engine.device)
    probe = torch.zeros(1, 1, 1, 64, device=device, dtype=dtype)
    peak = peak_flops_per_second(device, dtype)
    return {
        "attention": f"attention by {attention_backend(probe)}",
        "products": f"products by {linear_backend(probe)} at {peak / 1e9:.0f} GFLOP/s",
    }


def _flops(recipe: Recipe, phase: Phase, batch: Batch, text_length: int, device: torch.device) -> float:
    """Of this process's batch, as a share of what the device does in a second."""
    mask_ratio = phase.stage.mask_ratio
    each = training_flops(
        recipe.model, mask_ratio, text_length, recipe.freeze_text, recipe.freeze_words, batch.num_frames
    )
    return len(batch.captions) * each / peak_flops_per_second(str(device), _dtype(recipe))


def _dtype(recipe: Recipe) -> torch.dtype:
    return torch.bfloat16 if recipe.precision == "bf16" else torch.float32


def _step_seed(seed: int, stage: int, step: int, rank: int) -> int:
    """Randomness inside the model (dropped tokens) is a function of the step, so a resumed run draws the same."""
    return hash((seed, stage, step, rank)) % 2**63


@torch.no_grad()
def _accuracy(video_bE: Tensor, text_bE: Tensor, text_ids_b: Tensor) -> Tensor:
    """Share of this process's clips whose best text among its own is right."""
    best_b = (video_bE.float() @ text_bE.float().T).argmax(1)
    return (text_ids_b[best_b] == text_ids_b).float().mean()


@torch.no_grad()
def _mean_over_processes(*values: Tensor) -> list[float]:
    stacked = torch.cat([value.detach().double().reshape(-1).to(values[0].device) for value in values])
    dist.all_reduce(stacked)
    return (stacked / dist.get_world_size()).tolist()


def make_parser() -> argparse.ArgumentParser:
    """Of the command line."""
    parser = argparse.ArgumentParser(prog="training.train", description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--recipe", required=True, help="name in training/recipes")
    parser.add_argument(
        "--shards",
        action="append",
        required=True,
        metavar="FOLDER[=WEIGHT]",
        help="with manifest.json; several: a mixture",
    )
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
