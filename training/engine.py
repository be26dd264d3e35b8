"""Processes, optimiser and engine."""

from __future__ import annotations

import logging
import os
import socket
from contextlib import suppress
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from training.plain import PlainEngine
from training.recipe import OptimiserConfig, Recipe, Stage
from training.state import full_precision, put
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
    """DeepSpeed's engine for ZeRO stages 1 to 3, `PlainEngine` for stage 0; both with a torch AdamW."""
    optimizer = optimiser(model, recipe.optimiser, stage.learning_rate)
    config = recipe.deepspeed_config(stage, world_size)
    if recipe.zero_stage == 0:
        num_micro = config["gradient_accumulation_steps"]
        return PlainEngine(model, optimizer, recipe.precision == "bf16", recipe.optimiser.max_grad_norm, num_micro)
    import deepspeed

    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
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
    model = engine.module
    full = full_precision(model.temp, None)
    if full is None:
        model.clamp_temperature_()
    elif float(full) < model.config.min_temperature:
        put(engine, model.temp, None, torch.full_like(full, model.config.min_temperature))
