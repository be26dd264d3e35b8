"""DeepSpeed around the model: processes, optimiser, saved state."""

from __future__ import annotations

import logging
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from training.recipe import OptimiserConfig, Recipe, Stage
from training.viclip import ViCLIP

_NO_DECAY = (
    "temp",
    "class_embedding",
    "positional_embedding",
    "temporal_positional_embedding",
    "token_embedding.weight",
)


def start_processes() -> tuple[int, int]:
    """Join the other processes; (rank, world size). Without a launcher this is the only one."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        alone = {
            "RANK": 0,
            "LOCAL_RANK": 0,
            "WORLD_SIZE": 1,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": free.getsockname()[1],
        }
    if "RANK" not in os.environ:
        os.environ.update({name: str(value) for name, value in alone.items()})
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    import deepspeed

    _leave_out_shared_memory_kernel()
    if not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        deepspeed.init_distributed("nccl" if torch.cuda.is_available() else "gloo", verbose=False)
    return dist.get_rank(), dist.get_world_size()


def _leave_out_shared_memory_kernel() -> None:
    """DeepSpeed would compile a CPU kernel at start (a minute and a C++ compiler); gloo gives the same numbers.

    The switch is a private name of DeepSpeed's: without it training works and starts a minute later.
    """
    with suppress(ImportError, AttributeError):
        import deepspeed.ops

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def build_engine(model: ViCLIP, recipe: Recipe, stage: Stage, world_size: int) -> Any:
    """A DeepSpeed engine with an AdamW of its own."""
    import deepspeed

    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=optimiser(model, recipe.optimiser, stage.learning_rate),
        config=recipe.deepspeed_config(stage, world_size),
    )
    return engine


def optimiser(model: nn.Module, config: OptimiserConfig, learning_rate: float) -> torch.optim.AdamW:
    """AdamW without decay on biases, norms, tables and the temperature."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    plain = [p for name, p in trained if p.ndim < 2 or name.endswith(_NO_DECAY)]
    decayed = [p for name, p in trained if not (p.ndim < 2 or name.endswith(_NO_DECAY))]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, learning_rate, (config.beta1, config.beta2), fused=True)


def clamp_temperature(engine: Any) -> None:
    """Keep the temperature at its floor, in the optimiser's full-precision copy too (ZeRO keeps one)."""
    from deepspeed.utils import safe_get_full_fp32_param, safe_set_full_fp32_param

    model = engine.module
    if not hasattr(model.temp, "_hp_mapping") and not hasattr(model.temp, "ds_id"):
        model.clamp_temperature_()
        return
    full = safe_get_full_fp32_param(model.temp)
    if full is not None and float(full) < model.config.min_temperature:
        safe_set_full_fp32_param(model.temp, torch.full_like(full, model.config.min_temperature))


def full_state(engine: Any) -> dict[str, Tensor]:
    """All weights in float32 on every process."""
    import deepspeed

    state: dict[str, Tensor] = {}
    for name, parameter in engine.module.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter], enabled=hasattr(parameter, "ds_id")):
            state[name] = parameter.detach().float().cpu().clone()
    return state


def save_state(engine: Any, folder: Path, stage: int, step: int) -> None:
    """Save everything needed to go on after `step` steps of a stage, then drop all but the two newest."""
    engine.save_checkpoint(str(folder), tag=_tag(stage, step), client_state={"stage": stage, "step": step})
    if dist.get_rank() == 0:
        for tag in sorted(path.name for path in folder.glob("stage*-step*"))[:-2]:
            _remove(folder / tag)


def saved_state(folder: Path) -> tuple[int, int] | None:
    """(stage, step) of the newest whole state; None when there is none."""
    latest = folder / "latest"
    if not latest.exists():
        return None
    stage, step = latest.read_text().strip().removeprefix("stage").split("-step")
    return int(stage), int(step)


def load_state(engine: Any, folder: Path, stage: int, step: int) -> None:
    """Take weights, optimiser and scheduler from a saved state."""
    engine.load_checkpoint(str(folder), tag=_tag(stage, step))


def _tag(stage: int, step: int) -> str:
    return f"stage{stage}-step{step:08d}"


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
