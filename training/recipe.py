"""What a training run is made of: typed, nested, and every number typed once."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, Union

from training.loss import SameVideo
from training.viclip import ViCLIPConfig


@dataclass(frozen=True)
class DataConfig:
    """How clips become inputs."""

    min_crop_area: float = 0.5  # share of the picture; 1.0: the whole picture, always
    horizontal_flip: bool = True  # the same for all frames; turn off where left and right are in the captions
    rand_augment: int = 0  # operations a clip; 0: off
    rand_augment_level: float = 7.0  # their mean strength, 0 to 10
    loader_workers: int = 8  # processes a rank; 0: none
    window_shards: int = 64  # shards that are shuffled together
    cache_frames: bool = False  # keep decoded frames in memory, at twice the model's size at most: for sets that fit


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW. Source: InternVid's released configs (R:VE/*/config.py)."""

    beta1: float = 0.9
    beta2: float = 0.98
    weight_decay: float = 0.2  # none on biases, norms, tables and the temperature
    max_grad_norm: float = 0.0  # 0: no clipping, as released


@dataclass(frozen=True)
class Stage:
    """One phase: a batch size, a length, a learning rate and how many tokens are dropped."""

    batch_size: int  # over all processes
    learning_rate: float
    epochs: float | None = None  # either epochs or steps
    steps: int | None = None
    warmup_share: float = 0.05
    final_share: float = 0.01  # of the learning rate, at the end of the cosine
    mask_ratio: float = 0.9
    micro_batch_size: int | None = None  # clips of one process at a time, to save memory; the loss sees the whole batch

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(f"a stage needs either epochs or steps; got epochs={self.epochs}, steps={self.steps}")


@dataclass(frozen=True)
class Recipe:
    """A whole run. `--set data.loader_workers=2` changes one value, `--set stages.0.steps=10` one of a stage."""

    name: str
    model: ViCLIPConfig
    stages: tuple[Stage, ...]
    data: DataConfig = field(default_factory=DataConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    world_size: int = 1
    freeze_text: bool = True
    freeze_words: bool = False  # only the word table: random vectors tell few words apart well, and need no gradient
    init_temporal_std: float = 0.0  # of the temporal table; 0 (the paper) needs weights that see without it
    same_video: SameVideo = "negatives"
    same_text_positives: bool = False
    loss_chunk_rows: int | None = None
    precision: Literal["fp32", "bf16"] = "bf16"
    zero_stage: Literal[0, 1, 2, 3] = 1
    checkpointing: bool = False
    log_every: int = 10  # steps
    save_every: int = 500  # steps

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)

    def deepspeed_config(self, stage: Stage, world_size: int) -> dict[str, Any]:
        """DeepSpeed's own configuration for one stage.

        Raises: ValueError when the batch cannot be shared evenly.
        """
        if stage.batch_size % world_size:
            raise ValueError(
                f"batch_size = {stage.batch_size} cannot be shared by {world_size} processes: "
                f"set stages.N.batch_size to a multiple of {world_size}"
            )
        share = stage.batch_size // world_size
        micro = min(share, stage.micro_batch_size or share)
        if micro < 1 or share % micro:
            raise ValueError(f"micro_batch_size = {micro} must divide the {share} clips of each process")
        return {
            "train_batch_size": stage.batch_size,
            "train_micro_batch_size_per_gpu": micro,
            "gradient_accumulation_steps": share // micro,
            "gradient_clipping": self.optimiser.max_grad_norm,
            "bf16": {"enabled": self.precision == "bf16"},
            "zero_optimization": {"stage": self.zero_stage},
            "zero_allow_untested_optimizer": True,
            "steps_per_print": 2**31,
        }


def with_overrides(recipe: Recipe, overrides: typing.Sequence[str]) -> Recipe:
    """The recipe with `path.to.field=value` settings applied.

    Raises: ValueError naming the setting that does not exist or has the wrong type.
    """
    for text in overrides:
        path, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"setting {text!r} must be of the form path.to.field=value")
        recipe = _replaced(recipe, path.split("."), value, path)
    return recipe


def _replaced(node: Any, path: list[str], value: str, whole: str) -> Any:
    name, rest = path[0], path[1:]
    if isinstance(node, tuple):
        if not (name.isdigit() and int(name) < len(node) and rest):
            raise ValueError(f"setting {whole!r} does not exist: there are {len(node)} stages, from 0")
        return tuple(_replaced(x, rest, value, whole) if i == int(name) else x for i, x in enumerate(node))
    fields = {f.name for f in dataclasses.fields(node)}
    if name not in fields:
        raise ValueError(f"setting {whole!r} does not exist: {name!r} is none of {', '.join(sorted(fields))}")
    old = getattr(node, name)
    if rest and not (dataclasses.is_dataclass(old) or isinstance(old, tuple)):
        raise ValueError(f"setting {whole!r} does not exist: {name} has no fields")
    kind = typing.get_type_hints(type(node))[name]
    new = _replaced(old, rest, value, whole) if rest else _parsed(value, kind, whole)
    return dataclasses.replace(node, **{name: new})


def _parsed(value: str, kind: Any, whole: str) -> Any:
    options = typing.get_args(kind) if typing.get_origin(kind) in (Union, types.UnionType) else (kind,)
    try:
        parsed = json.loads(value.lower() if value.lower() in ("true", "false", "none", "null") else value)
    except json.JSONDecodeError:
        parsed = value if value.lower() != "none" else None
    for option in options:
        if typing.get_origin(option) is Literal and parsed in typing.get_args(option):
            return parsed
        if option is float and isinstance(parsed, int | float) and not isinstance(parsed, bool):
            return float(parsed)
        if isinstance(option, type) and type(parsed) is option:
            return parsed
    raise ValueError(f"setting {whole} = {value!r} is not of type {kind}")
