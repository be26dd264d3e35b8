"""Fine-tune ViCLIP on a benchmark's training split: both towers for retrieval, or a head on the video tower for actions.

python -m training.finetune --recipe finetune_retrieval_msrvtt --data msrvtt=FOLDER --init FOLDER --output FOLDER
deepspeed training/finetune.py --recipe finetune_k400 --data k400=FOLDER --init FOLDER --output FOLDER

b clips of this process, B of all, T frames, L tokens, E embedding, K classes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from training.benchmarks import Benchmark, load_benchmark, load_standard
from training.classify import SCALE, classify_step, layered_optimiser
from training.contenders import FINETUNING as FINETUNED_ON
from training.data import Batch, batches
from training.data.annotated import AnnotatedClips, make_order
from training.engine import clamp_temperature, start_processes
from training.evaluate import named
from training.flops import peak_flops_per_second, training_flops
from training.heads import VideoClassifier, load_head, save_head, split_state
from training.kinetics710 import load_k710
from training.loss import contrastive_loss
from training.micro import backward_step
from training.phases import Phase
from training.pipes_report import Report, session
from training.plain import PlainEngine
from training.provenance import circumstances, claim
from training.recipe import Stage, with_overrides
from training.recipes.finetuning import FinetuneRecipe, load_finetuning
from training.run_log import BrokenLog, RunLog
from training.state import full_state, load_state, save_state, saved_state, saved_weights
from training.viclip import ViCLIP, ViCLIPConfig, load_viclip, save_viclip
from training.viclip.tokenizer import shortened


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code: 0 done, 2 used wrongly."""
    arguments = _parser().parse_args(argv)
    try:
        recipe = cast(FinetuneRecipe, with_overrides(load_finetuning(arguments.recipe), arguments.set))
        benchmark = benchmark_of(recipe, dict(map(named, arguments.data)), arguments.benchmark, arguments.allow_missing)
        with session() as report:
            finetune(recipe, benchmark, arguments.output, arguments.seed, arguments.init, report)
    except ValueError as error:
        print(f"fine-tuning: {error}", file=sys.stderr)
        return 2
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    return 0


def benchmark_of(
    recipe: FinetuneRecipe, folders: Mapping[str, str], file: Path | None, allow_missing: bool
) -> Benchmark:
    """The training split that the recipe names, or a plain file of the same task.

    Raises: ValueError saying what is missing, or that the task is another.
    """
    if file is not None:
        benchmark = load_benchmark(recipe.benchmark, file)
    elif recipe.benchmark == "k710":
        benchmark = load_k710(folders, allow_missing)
    elif recipe.benchmark in folders:
        benchmark = load_standard(recipe.benchmark, folders[recipe.benchmark], "train", allow_missing)
    else:
        raise ValueError(f"{recipe.name} needs --data {recipe.benchmark}=FOLDER, or --benchmark FILE")
    if benchmark.task != recipe.task:
        raise ValueError(f"{recipe.name} is for {recipe.task}; {file} is for {benchmark.task}")
    return benchmark


def finetune(
    recipe: FinetuneRecipe,
    benchmark: Benchmark,
    output: Path,
    seed: int = 0,
    init: Path | None = None,
    report: Report | None = None,
) -> None:
    """Train, going on after the last saved step when `output` holds one of the same run.

    Writes into `output` what `training.train` writes, `finetuning.json`, and for actions `head.safetensors` and `head.json`;
    `load_viclip` and `training.evaluate` read the folder.

    Raises: ValueError for a wrong recipe, when the loss diverges, or when `output` holds another run.
    """
    # --- prepare ------------------------------------------------------------------------------------------------------
    rank, world_size = start_processes()
    torch.manual_seed(seed)
    model = starting_model(recipe, benchmark, init).train()
    vision, text = model.config.vision, model.config.text
    clips = AnnotatedClips(
        benchmark, recipe.data, vision.num_frames, vision.image_size, seed, text.context_length
    )  # fmt: skip
    phase = _phase(recipe, len(clips), seed)
    identity = {"recipe": recipe.to_dict(), "benchmark": benchmark.name, "num_samples": len(clips), "seed": seed,
                "annotations": [file.name for file in benchmark.files], "init": str(init) if init else None}  # fmt: skip
    claim(output, identity, rank)
    log = RunLog(output, phase.num_steps, recipe.log_every, report or Report()) if rank == 0 else None
    broken = BrokenLog(output)

    # --- resume -------------------------------------------------------------------------------------------------------
    saved = saved_state(output / "state")
    if saved is not None:
        model.load_state_dict(saved_weights(output / "state", *saved))
    engine = _engine(model, recipe, phase.stage, world_size)
    if saved is not None:
        load_state(engine, output / "state", *saved)
    micro_batch = recipe.deepspeed_config(phase.stage, world_size)["train_micro_batch_size_per_gpu"]
    steps = range(saved[1] if saved is not None else 0, phase.num_steps)
    loader = batches(clips, phase.order, steps, rank, world_size, recipe.data.loader_workers)

    ended = perf_counter()
    for step, batch in zip(steps, loader, strict=True):
        wait_seconds = perf_counter() - ended
        # --- step -----------------------------------------------------------------------------------------------------
        learning_rate = phase.learning_rate(step)
        for group in engine.optimizer.param_groups:
            group["lr"] = learning_rate * group[SCALE]
        one_step = _classify if recipe.task == "action" else _contrast
        loss, accuracy = one_step(engine, batch, recipe, micro_batch, _step_seed(seed, step, rank))

        # --- report and save ------------------------------------------------------------------------------------------
        broken.add(batch.broken)
        means = _mean_over_processes(loss, accuracy)
        if log is not None:
            flops = _flops(recipe, model.config, batch, engine.device)
            log.step(step + 1, phase.stage.batch_size, wait_seconds=wait_seconds, flops=flops, broken=len(batch.broken),
                     loss=means[0], accuracy=means[1], learning_rate=learning_rate)  # fmt: skip
        if (step + 1) % recipe.save_every == 0 or step + 1 == phase.num_steps:
            save_state(engine, output / "state", phase.number, step + 1)
        ended = perf_counter()

    # --- hand over ----------------------------------------------------------------------------------------------------
    weights = full_state(engine)
    if log is not None:
        _save(output, weights, model.config, benchmark)
        facts = {**identity, **circumstances(world_size), "num_steps": phase.num_steps,
                 "num_samples_seen": phase.num_steps * phase.stage.batch_size, "num_broken_samples": broken.count()}  # fmt: skip
        (output / "run.json").write_text(json.dumps(facts, indent=1) + "\n")
        log.close()
    dist.barrier()


def starting_model(recipe: FinetuneRecipe, benchmark: Benchmark, init: Path | None) -> ViCLIP | VideoClassifier:
    """The weights to start from at the recipe's frames, text length and drop path; a head that knows the classes goes on.

    Raises: ValueError for weights that cannot be read.
    """
    viclip = _towers(recipe, init)
    if recipe.checkpointing:
        viclip.use_checkpointing()
    if recipe.task == "retrieval":
        if recipe.freeze_text:
            viclip.freeze_text()
        return viclip
    model = VideoClassifier(viclip, len(benchmark.classes))
    head = load_head(init if init.is_dir() else init.parent) if init else None
    if head is not None:
        try:
            rows = head.rows_of(benchmark.classes)
        except ValueError as error:
            print(f"fine-tuning: a new head is made: {error}", file=sys.stderr)
            return model
        model.head.load_state_dict({"weight": rows.weight_KD, "bias": rows.bias_K})
    return model


def _towers(recipe: FinetuneRecipe, init: Path | None) -> ViCLIP:
    if init is None:
        viclip = ViCLIP(recipe.model)
        nn.init.normal_(viclip.vision_encoder.temporal_positional_embedding, std=recipe.init_temporal_std)
        return viclip
    sizes, wanted = load_viclip(init).config, recipe.model
    vision = replace(sizes.vision, num_frames=wanted.vision.num_frames, drop_path=wanted.vision.drop_path)
    text = replace(sizes.text, context_length=wanted.text.context_length)
    return load_viclip(init, replace(sizes, vision=vision, text=text))


def _phase(recipe: FinetuneRecipe, num_samples: int, seed: int) -> Phase:
    stage = recipe.stages[0]
    order = make_order(num_samples, stage.batch_size, recipe.repeats, seed)
    length = stage.steps if stage.steps is not None else round((stage.epochs or 0) * order.steps_per_epoch)
    return Phase(0, stage, order, max(1, length))


def _engine(model: ViCLIP | VideoClassifier, recipe: FinetuneRecipe, stage: Stage, world_size: int) -> Any:
    """As `training.engine.build_engine`, with a learning rate for each layer."""
    config = recipe.deepspeed_config(stage, world_size)
    optimizer = layered_optimiser(
        model, recipe.optimiser, stage.learning_rate, recipe.layer_decay, model.config.vision.layers
    )
    if recipe.zero_stage == 0:
        num_micro = config["gradient_accumulation_steps"]
        return PlainEngine(cast(ViCLIP, model), optimizer, recipe.precision == "bf16", recipe.optimiser.max_grad_norm, num_micro)  # fmt: skip
    import deepspeed

    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    return engine


def _contrast(engine: Any, batch: Batch, recipe: FinetuneRecipe, micro_batch: int, seed: int) -> tuple[Tensor, Tensor]:
    """Loss, and the share of clips whose best text among those of this process is of their video."""
    device = engine.device
    video_ids_b = batch.video_ids_B.to(device)
    loss_of = partial(contrastive_loss, video_ids_b=video_ids_b, same_video=recipe.same_video, chunk_rows=recipe.loss_chunk_rows)  # fmt: skip
    inputs = (batch.video(device), shortened(batch.tokens_BL).to(device))
    loss, video_bE, text_bE, _ = backward_step(engine, *inputs, recipe.stages[0].mask_ratio, loss_of, micro_batch, seed)
    clamp_temperature(engine)
    best_b = (video_bE.float() @ text_bE.float().T).argmax(1)
    return loss, (video_ids_b[best_b] == video_ids_b).float().mean()


def _classify(engine: Any, batch: Batch, recipe: FinetuneRecipe, micro_batch: int, seed: int) -> tuple[Tensor, Tensor]:
    """Loss, and the share of clips whose best class is right; with mixing, that of the clip mixed into counts as wrong."""
    labels_b = batch.text_ids_B.to(engine.device)
    num_classes = engine.module.head.out_features
    loss, logits_bK = classify_step(
        engine, batch.video(engine.device), labels_b, num_classes, recipe, micro_batch, seed
    )  # fmt: skip
    return loss, (logits_bK.argmax(1) == labels_b).float().mean()


def _flops(recipe: FinetuneRecipe, config: ViCLIPConfig, batch: Batch, device: torch.device) -> float:
    """Of this process's batch, as a share of what the device does in a second; actions need no text tower."""
    dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
    needs_text = recipe.task == "retrieval"
    length = shortened(batch.tokens_BL).shape[1] if needs_text else 0
    each = training_flops(config, recipe.stages[0].mask_ratio, length, freeze_text=recipe.freeze_text or not needs_text)
    return len(batch.captions) * each / peak_flops_per_second(str(device), dtype)


def _save(output: Path, weights: Mapping[str, Tensor], config: ViCLIPConfig, benchmark: Benchmark) -> None:
    if benchmark.task == "action":
        towers, head = split_state(weights)
        save_viclip(output, towers, config)
        save_head(output, head, benchmark.classes)
    else:
        save_viclip(output, weights, config)
    facts = {"benchmark": benchmark.name, "task": benchmark.task, "num_videos": len(benchmark)}
    (output / FINETUNED_ON).write_text(json.dumps(facts) + "\n")


def _step_seed(seed: int, step: int, rank: int) -> int:
    """Randomness inside the step is a function of it, so a resumed run draws the same."""
    return hash((seed, step, rank)) % 2**63


@torch.no_grad()
def _mean_over_processes(*values: Tensor) -> list[float]:
    stacked = torch.stack([value.detach().float().reshape(()) for value in values])
    dist.all_reduce(stacked)
    return (stacked / dist.get_world_size()).tolist()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="training.finetune", description=__doc__.split("\n")[0] if __doc__ else None)
    add = parser.add_argument
    add("--recipe", required=True, help="name in training/recipes/finetuning.py")
    add("--data", action="append", default=[], metavar="NAME=FOLDER", help="a public benchmark's folder")
    add("--benchmark", type=Path, help="a plain .csv or .json file in its place")
    add("--allow-missing", action="store_true", help="leave out videos that are missing")
    add("--output", type=Path, required=True, help="folder of this run; repeat the command to resume")
    add("--init", type=Path, help="ViCLIP, CLIP or fine-tuned weights to start from: a folder or a file")
    add("--seed", type=int, default=0)
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help="change one value of the recipe")
    add("--local_rank", type=int, default=int(os.environ.get("LOCAL_RANK", 0)), help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
