"""Saved states: weights and optimiser by parameter name in float32, so any number of processes and any ZeRO stage can go on.

A state is a folder `stageN-stepM`; it is written beside and renamed when whole, so a killed run leaves no torn one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

MOMENTS = ("exp_avg", "exp_avg_sq")
"""Of AdamW; its count of updates is kept beside them."""


def full_state(engine: Any) -> dict[str, Tensor]:
    """All weights in float32; whole on the first process only, but every process must ask."""
    import deepspeed

    state: dict[str, Tensor] = {}
    for name, parameter in engine.module.named_parameters():
        full = full_precision(parameter, None) if parameter.requires_grad else None
        with deepspeed.zero.GatheredParameters([parameter], enabled=full is None and hasattr(parameter, "ds_id")):
            value = parameter if full is None else full
            if dist.get_rank() == 0:
                state[name] = value.detach().float().cpu().clone().view(_shape(parameter))
    return state


def save_state(engine: Any, folder: Path, stage: int, step: int) -> None:
    """Save everything needed to go on after `step` steps of a stage, then drop all but the two newest."""
    tensors = full_state(engine)
    _link_moments(engine)
    for name, parameter in _trained(engine):
        for moment in MOMENTS:
            value = _moment(engine, parameter, moment)
            if dist.get_rank() == 0:
                tensors[f"{moment}/{name}"] = value.detach().float().cpu().clone().view(_shape(parameter))
    if dist.get_rank() == 0:
        _write(folder, _tag(stage, step), tensors, _num_updates(engine))
    dist.barrier()


def _write(folder: Path, tag: str, tensors: dict[str, Tensor], num_updates: int) -> None:
    draft = folder / ".writing"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    save_file(tensors, draft / "state.safetensors")
    (draft / "state.json").write_text(json.dumps({"num_updates": num_updates}) + "\n")
    for file in draft.iterdir():
        with file.open("rb") as written:
            os.fsync(written.fileno())
    shutil.rmtree(folder / tag, ignore_errors=True)
    draft.rename(folder / tag)
    for old in _tags(folder)[:-2]:
        shutil.rmtree(folder / old, ignore_errors=True)


def saved_state(folder: Path) -> tuple[int, int] | None:
    """(stage, step) of the newest state that the first process sees; None when there is none.

    What it sees counts for all: the folders of other nodes may be older, or empty.
    """
    tags = _from_first(_tags(folder) if dist.get_rank() == 0 else None)
    if not tags:
        return None
    stage, step = tags[-1].removeprefix("stage").split("-step")
    return int(stage), int(step)


def saved_weights(folder: Path, stage: int, step: int) -> dict[str, Tensor]:
    """The model's part of a state."""
    return _read(folder / _tag(stage, step), lambda name: "/" not in name)


def load_state(engine: Any, folder: Path, stage: int, step: int) -> None:
    """Take weights and optimiser from a saved state, whatever engine and number of processes wrote it."""
    path = folder / _tag(stage, step)
    tensors = _read(path, lambda name: True)
    num_updates = _from_first(
        json.loads((path / "state.json").read_text())["num_updates"] if dist.get_rank() == 0 else None
    )
    _make_moments(engine)
    _link_moments(engine)
    for name, parameter in _trained(engine):
        for key in (None, *MOMENTS):
            put(engine, parameter, key, tensors[name if key is None else f"{key}/{name}"])
    for state in _torch_optimiser(engine).state.values():
        state["step"].fill_(num_updates)
    if not _is_sharded(engine):
        engine.module.load_state_dict({name: tensors[name] for name, _ in engine.module.named_parameters()})


def _read(path: Path, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    """The wanted tensors of a state on every process: the first reads the file, so only it needs to have it."""
    held: dict[str, Tensor] = {}
    if dist.get_rank() == 0:
        held = {name: t for name, t in load_file(path / "state.safetensors").items() if wanted(name)}
    if dist.get_world_size() == 1:
        return held
    device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
    received = {}
    for name, shape in _from_first([(name, tensor.shape) for name, tensor in held.items()]):
        tensor = held[name].to(device) if held else torch.empty(shape, device=device)
        dist.broadcast(tensor, 0)
        received[name] = tensor.cpu()
    return received


def _from_first(value: Any) -> Any:
    """The first process's value, on every process."""
    shared = [value]
    dist.broadcast_object_list(shared, 0)
    return shared[0]


def _make_moments(engine: Any) -> None:
    """Let the optimiser make its empty moments: a step with a learning rate and gradients of zero changes no weight."""
    rates = [group["lr"] for group in engine.optimizer.param_groups]
    for group in engine.optimizer.param_groups:
        group["lr"] = 0.0
    if _is_sharded(engine):
        vision = engine.module.config.vision
        video = torch.zeros(1, vision.num_frames, 3, vision.image_size, vision.image_size, dtype=torch.uint8)
        tokens = torch.ones(1, 2, dtype=torch.long)
        for _ in range(engine.gradient_accumulation_steps()):
            outputs = engine(video.to(engine.device), tokens.to(engine.device), 0.0)
            engine.backward(sum(output.sum() for output in outputs) * 0.0)
            engine.step()
    else:
        for _, parameter in _trained(engine):
            parameter.grad = torch.zeros_like(parameter)
        engine.optimizer.step()
        engine.optimizer.zero_grad()
    for group, rate in zip(engine.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def _link_moments(engine: Any) -> None:
    """Tell ZeRO 1 and 2 where the moments of every parameter group are.

    DeepSpeed 0.19 does so after the first group's first step, when the other groups have none yet.
    """
    from deepspeed.utils import lazy_init_hp_params_optimizer_state

    optimizer = engine.optimizer
    flats = getattr(optimizer, "single_partition_of_fp32_groups", [])
    for parameters, flat in zip(getattr(optimizer, "bit16_groups", []), flats, strict=True):
        lazy_init_hp_params_optimizer_state(parameters, flat, optimizer.optimizer.state)


def put(engine: Any, parameter: Tensor, key: str | None, value: Tensor) -> None:
    """Write one weight (key None) or moment into every process's part of it."""
    from deepspeed.utils import (
        safe_set_full_fp32_param,
        safe_set_full_optimizer_state,
        safe_set_local_fp32_param,
        safe_set_local_optimizer_state,
    )

    value = value.to(engine.device)
    if hasattr(parameter, "ds_id"):
        part = _part(value, dist.get_rank(), dist.get_world_size())
        _ = safe_set_local_fp32_param(parameter, part) if key is None else safe_set_local_optimizer_state(parameter, part, key)  # fmt: skip
    elif hasattr(parameter, "_hp_mapping"):
        _ = safe_set_full_fp32_param(parameter, value) if key is None else safe_set_full_optimizer_state(parameter, value, key)  # fmt: skip
        if key is None:
            parameter.data.copy_(value)
    elif key is not None:
        engine.optimizer.state[parameter][key].copy_(value)


def _part(value: Tensor, rank: int, world_size: int) -> Tensor:
    """A process's part of a tensor as ZeRO-3 cuts it: equal lengths, the last padded with zeros."""
    length = -(-value.numel() // world_size)
    padded = torch.nn.functional.pad(value.flatten(), (0, length * world_size - value.numel()))
    return padded[rank * length : (rank + 1) * length]


def full_precision(parameter: Tensor, key: str | None) -> Tensor | None:
    """The full-precision weight or moment that ZeRO keeps; None where it keeps none."""
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    return safe_get_full_fp32_param(parameter) if key is None else safe_get_full_optimizer_state(parameter, key)


def _moment(engine: Any, parameter: Tensor, key: str) -> Tensor:
    full = full_precision(parameter, key)
    return engine.optimizer.state[parameter][key] if full is None else full


def _trained(engine: Any) -> list[tuple[str, Tensor]]:
    return [(name, p) for name, p in engine.module.named_parameters() if p.requires_grad]


def _torch_optimiser(engine: Any) -> torch.optim.AdamW:
    """The AdamW inside ZeRO's optimiser, or the optimiser itself."""
    return getattr(engine.optimizer, "optimizer", engine.optimizer)


def _is_sharded(engine: Any) -> bool:
    return hasattr(engine.optimizer, "optimizer")


def _num_updates(engine: Any) -> int:
    return int(next(iter(_torch_optimiser(engine).state.values()))["step"])


def _shape(parameter: Tensor) -> torch.Size:
    return getattr(parameter, "ds_shape", parameter.shape)


def _tag(stage: int, step: int) -> str:
    return f"stage{stage}-step{step:08d}"


def _tags(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("stage*-step*"))
