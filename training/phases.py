"""The stages of a run on given shards: lengths, sample orders and learning rates."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from training.data import EpochOrder, MixedOrder, Order, ShardManifest, Source
from training.recipe import Recipe, Stage


@dataclass(frozen=True)
class Shards:
    """A shard folder and its weight in a mixture; None: its number of samples."""

    manifest: ShardManifest
    weight: float | None = None

    @classmethod
    def read(cls, text: str) -> Shards:
        """From FOLDER or FOLDER=WEIGHT. Raises: ValueError for a weight that is no number, or shards that are torn."""
        folder, equals, weight = text.rpartition("=")
        if not equals:
            return cls(ShardManifest.read(text))
        try:
            return cls(ShardManifest.read(folder), float(weight))
        except ValueError as error:
            if "could not convert" in str(error):
                raise ValueError(f"the weight in --shards {text} is not a number") from error
            raise

    @property
    def source(self) -> Source:
        """For the order of samples."""
        weight = float(self.manifest.total) if self.weight is None else self.weight
        return Source(self.manifest.num_samples, weight, self.manifest.num_frames == 1)


@dataclass(frozen=True)
class Phase:
    """A stage with its sample order and its length in steps."""

    number: int
    stage: Stage
    order: Order
    num_steps: int

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then a cosine down to `final_share`."""
        warmup = max(1, round(self.stage.warmup_share * self.num_steps))
        if step < warmup:
            return self.stage.learning_rate * (step + 1) / warmup
        progress = (step - warmup) / max(1, self.num_steps - warmup)
        low = self.stage.final_share
        return self.stage.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress)))


def make_phases(recipe: Recipe, shards: Sequence[Shards], seed: int, world_size: int) -> list[Phase]:
    """One phase a stage."""
    phases = []
    for number, stage in enumerate(recipe.stages):
        stage = _fitted(stage, sum(one.manifest.total for one in shards), world_size)
        order = _order(shards, stage.batch_size, seed + 1000 * number, recipe)
        length = stage.steps if stage.steps is not None else round((stage.epochs or 0) * order.steps_per_epoch)
        phases.append(Phase(number, stage, order, max(1, length)))
    return phases


def _order(shards: Sequence[Shards], batch_size: int, seed: int, recipe: Recipe) -> Order:
    if len(shards) == 1:
        return EpochOrder(shards[0].manifest.num_samples, batch_size, seed, recipe.data.window_shards)
    if len({one.weight is None for one in shards}) > 1:
        raise ValueError("give a weight to every --shards folder of a mixture, or to none")
    return MixedOrder([one.source for one in shards], batch_size, seed, recipe.data.window_shards)


def _fitted(stage: Stage, num_samples: int, world_size: int) -> Stage:
    """The stage with a batch that the shards can fill; says so when that changes it."""
    if stage.batch_size <= num_samples:
        return stage
    fitting = num_samples // world_size * world_size
    if fitting < 2:
        raise ValueError(f"the shards hold {num_samples} samples, too few to contrast on {world_size} processes")
    print(f"training: batch_size {stage.batch_size} lowered to {fitting}: the shards hold no more", file=sys.stderr)
    return replace(stage, batch_size=fitting)
