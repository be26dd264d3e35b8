"""Real processes: ZeRO stages against plain training, states that move between numbers of processes, micro-batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.servers import free_ports
from training.engine import build_engine, clamp_temperature, start_processes
from training.loss import contrastive_loss
from training.micro import backward_step
from training.recipe import Recipe
from training.recipes import load_recipe
from training.state import full_state, load_state, save_state, saved_state, saved_weights
from training.viclip import ViCLIP, tokenize

B, STAGES = 8, (0, 1, 2, 3)
WORDS = ["red ball", "blue cube rolls", "a cat", "two dogs run far", "rain", "snow on a hill", "the sea", "old trains"]


def recipe_of(zero_stage: int, micro: int | None = None, max_grad_norm: float = 1.0) -> Recipe:
    recipe = load_recipe("debug_tiny")
    stage = replace(recipe.stages[0], batch_size=B, micro_batch_size=micro, mask_ratio=0.0)
    optimiser = replace(recipe.optimiser, max_grad_norm=max_grad_norm)
    return replace(recipe, stages=(stage,), zero_stage=zero_stage, optimiser=optimiser)


def new_engine(recipe: Recipe, world_size: int, weights: dict[str, torch.Tensor] | None = None) -> Any:
    torch.manual_seed(0)
    model = ViCLIP(recipe.model).train()
    model.text_encoder.token_embedding.requires_grad_(False)
    if weights:
        model.load_state_dict(weights)
    return build_engine(model, recipe, recipe.stages[0], world_size)


def one_step(engine: Any, recipe: Recipe, step: int, mask_ratio: float = 0.0) -> float:
    """The loss of the whole batch of a step, which every process draws alike and takes its share of."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    rows = slice(rank * B // world_size, (rank + 1) * B // world_size)
    vision = recipe.model.vision
    generator = torch.Generator().manual_seed(step)
    shape = (B, vision.num_frames, 3, vision.image_size, vision.image_size)
    video = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    micro = recipe.deepspeed_config(recipe.stages[0], world_size)["train_micro_batch_size_per_gpu"]
    loss, *_ = backward_step(engine, video[rows], tokenize(WORDS)[rows], mask_ratio, contrastive_loss, micro, step)
    clamp_temperature(engine)
    dist.all_reduce(loss)
    return float(loss) / world_size


def resumed(recipe: Recipe, folder: Path, world_size: int) -> Any:
    place = saved_state(folder)
    assert place is not None
    engine = new_engine(recipe, world_size, saved_weights(folder, *place))
    load_state(engine, folder, *place)
    return engine


def straight_run(zero_stage: int, folder: Path, world_size: int) -> list[float]:
    """Five steps, with the state after the second kept, and the last three again from that state."""
    recipe = recipe_of(zero_stage)
    engine = new_engine(recipe, world_size)
    losses = []
    for step in range(5):
        losses.append(one_step(engine, recipe, step))
        if step == 1:
            save_state(engine, folder / f"zero{zero_stage}", 0, 2)
    engine = resumed(recipe, folder / f"zero{zero_stage}", world_size)
    return losses + [one_step(engine, recipe, step) for step in range(2, 5)]


def resumed_run(zero_stage: int, folder: Path, world_size: int, first: int, last: int) -> list[float]:
    """Steps first to last after the newest state; then the state is saved."""
    recipe = recipe_of(zero_stage)
    engine = resumed(recipe, folder / f"zero{zero_stage}", world_size)
    losses = [one_step(engine, recipe, step) for step in range(first, last)]
    save_state(engine, folder / f"zero{zero_stage}", 0, last)
    return losses


def _work(rank: int, world_size: int, port: int, out: str, run: Callable[..., list[float]], arguments: tuple) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), LOCAL_RANK=str(rank))
    os.environ.update(WORLD_SIZE=str(world_size), OMP_NUM_THREADS="1")
    start_processes()
    torch.save({stage: run(stage, *arguments) for stage in STAGES}, f"{out}.{rank}")
    dist.destroy_process_group()


def on_two(out: Path, run: Callable[..., list[float]], *arguments: Any) -> dict[int, list[float]]:
    """What `run(zero stage, …)` gives for every ZeRO stage on two processes."""
    [port] = free_ports(1)
    mp.start_processes(_work, (2, port, str(out), run, arguments), nprocs=2, start_method="spawn")
    results = [torch.load(f"{out}.{rank}") for rank in range(2)]
    assert results[0] == results[1]
    return results[0]


def on_one(run: Callable[..., list[float]], *arguments: Any) -> dict[int, list[float]]:
    """The same on this process."""
    return {stage: run(stage, *arguments) for stage in STAGES}


@pytest.fixture(scope="module")
def alone() -> Iterator[None]:
    """This process as the only one."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    start_processes()
    yield
    dist.destroy_process_group()
    for name in names:
        os.environ.pop(name, None)
    os.environ.update(before)


@pytest.fixture(scope="module")
def runs(alone: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[int, list[float]]]:
    """Losses by ZeRO stage: uninterrupted, and one that goes from two processes to one and back."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    return {
        "one": on_one(straight_run, one, 1),
        "two": on_two(two / "a", straight_run, two, 2),
        "two to one": on_one(resumed_run, two, 1, 2, 4),
        "and back": on_two(two / "c", resumed_run, two, 2, 4, 5),
    }


@pytest.mark.parametrize("stage", STAGES)
def test_every_zero_stage_on_one_and_two_processes_learns_the_same(runs: dict, stage: int) -> None:
    assert runs["one"][stage] == pytest.approx(runs["one"][0], abs=1e-4)
    assert runs["two"][stage] == pytest.approx(runs["one"][0], abs=1e-4)
    assert runs["one"][0][0] > runs["one"][0][4]


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_goes_on_with_fewer_and_more_processes(runs: dict, stage: int) -> None:
    assert runs["two to one"][stage] == pytest.approx(runs["two"][stage][2:4], abs=1e-4)
    assert runs["and back"][stage] == pytest.approx(runs["two"][stage][4:5], abs=1e-4)


@pytest.mark.parametrize("name", ["one", "two"])
@pytest.mark.parametrize("stage", STAGES)
def test_resuming_on_as_many_processes_is_exact(runs: dict, name: str, stage: int) -> None:
    losses = runs[name][stage]
    assert losses[5:] == losses[2:5]


@pytest.mark.parametrize("zero_stage", [0, 2])
def test_micro_batches_learn_what_the_whole_batch_teaches(alone: None, zero_stage: int) -> None:
    losses = []
    for micro in (None, 2):
        recipe = recipe_of(zero_stage, micro)
        engine = new_engine(recipe, 1)
        losses.append([one_step(engine, recipe, step) for step in range(4)])
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_micro_batches_draw_the_same_tokens_twice(alone: None) -> None:
    """With masking the cached gradients fit only if the second pass drops what the first dropped."""
    weights = []
    for stage in (0, 1):
        recipe = recipe_of(stage, 4)
        engine = new_engine(recipe, 1)
        for step in range(2):
            one_step(engine, recipe, step, mask_ratio=0.5)
        weights.append(full_state(engine))
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-5) for name in weights[0])


def test_updating_at_once_changes_nothing(alone: None) -> None:
    states = []
    for at_once in (True, False):
        recipe = recipe_of(0, max_grad_norm=0.0)
        engine = new_engine(recipe, 1)
        assert engine.updates_at_once
        if not at_once:
            engine = new_engine(replace(recipe, optimiser=replace(recipe.optimiser, max_grad_norm=1e9)), 1)
            assert not engine.updates_at_once
        for step in range(3):
            one_step(engine, recipe, step)
        states.append(full_state(engine))
    assert all(torch.allclose(states[0][name], states[1][name], atol=1e-7) for name in states[0])


@pytest.mark.parametrize("stage", STAGES)
def test_a_frozen_text_tower_stays_and_the_temperature_keeps_its_floor(alone: None, stage: int) -> None:
    recipe = recipe_of(stage)
    recipe = replace(recipe, model=replace(recipe.model, min_temperature=0.08))  # above where it starts
    torch.manual_seed(0)
    model = ViCLIP(recipe.model).train()
    model.freeze_text()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    engine = build_engine(model, recipe, recipe.stages[0], 1)
    for step in range(2):
        one_step(engine, recipe, step)
    after = full_state(engine)
    assert after.keys() == before.keys()
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if not name.startswith("text_encoder.")}
    assert float(after["temp"]) >= 0.0799


@pytest.mark.parametrize("stage", STAGES)
def test_bf16_learns_and_resumes_exactly(alone: None, tmp_path: Path, stage: int) -> None:
    recipe = replace(recipe_of(stage), precision="bf16")
    engine = new_engine(recipe, 1)
    losses = [one_step(engine, recipe, 0) for _ in range(2)]
    save_state(engine, tmp_path, 0, 2)
    losses += [one_step(engine, recipe, 0) for _ in range(2)]
    assert losses[-1] < losses[0]
    engine = resumed(recipe, tmp_path, 1)
    assert [one_step(engine, recipe, 0) for _ in range(2)] == losses[2:]
    assert all(tensor.dtype == torch.float32 for tensor in full_state(engine).values())


def test_a_micro_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="micro_batch_size = 3 must divide the 8 clips"):
        recipe_of(0, 3).deepspeed_config(recipe_of(0, 3).stages[0], 1)
