"""Which samples each step takes: pure functions of the seed and the step, for one shard folder or a mixture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np


class Order(Protocol):
    """What the loader asks."""

    steps_per_epoch: int

    def batch(self, step: int) -> list[tuple[int, int]]:
        """(epoch, sample number) of each clip of the global batch of a step."""


class EpochOrder:
    """Which samples a global batch holds: a pure function of (seed, epoch, step), whatever the number of processes.

    Shards are shuffled, taken `window_shards` at a time, and the samples of a window are shuffled together; the last
    incomplete batch of an epoch is left out.
    """

    def __init__(self, num_samples: tuple[int, ...], batch_size: int, seed: int, window_shards: int):
        if sum(num_samples) < batch_size:
            raise ValueError(
                f"batch_size = {batch_size} is more than the {sum(num_samples)} samples of the shards: lower it, "
                "e.g. --set stages.0.batch_size=…"
            )
        self._num_samples = np.array(num_samples)
        self._starts = np.concatenate([[0], np.cumsum(num_samples)[:-1]])
        self._batch_size, self._seed, self._window_shards = batch_size, seed, window_shards
        self.steps_per_epoch = sum(num_samples) // batch_size
        self._window = lru_cache(maxsize=2)(self._read_window)

    def batch(self, step: int) -> list[tuple[int, int]]:
        """(epoch, sample number) of each clip of the global batch of a step, counted from 0 over all epochs."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return self._part(epoch, place * self._batch_size, (place + 1) * self._batch_size)

    def stream(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Samples start to stop of all epochs in a row; here no sample of an epoch is left out."""
        total, keys = int(self._num_samples.sum()), []
        while start < stop:
            epoch, place = divmod(start, total)
            keys += self._part(epoch, place, min(total, place + stop - start))
            start += min(total - place, stop - start)
        return keys

    def _part(self, epoch: int, start: int, stop: int) -> list[tuple[int, int]]:
        chosen: list[np.ndarray] = []
        offset = 0
        for window, shards in enumerate(self._windows(epoch)):
            size = int(self._num_samples[shards].sum())
            if offset < stop and offset + size > start:
                chosen.append(self._window(epoch, window)[max(0, start - offset) : stop - offset])
            offset += size
        return [(epoch, int(number)) for number in np.concatenate(chosen)]

    def _windows(self, epoch: int) -> list[np.ndarray]:
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._num_samples))
        return [order[i : i + self._window_shards] for i in range(0, len(order), self._window_shards)]

    def _read_window(self, epoch: int, window: int) -> np.ndarray:
        shards = self._windows(epoch)[window]
        numbers = np.concatenate([self._starts[s] + np.arange(self._num_samples[s]) for s in shards])
        return np.random.default_rng([self._seed, epoch, window]).permutation(numbers)


@dataclass(frozen=True)
class Source:
    """One folder of a mixture."""

    num_samples: tuple[int, ...]  # a shard
    weight: float  # relative to the other folders
    is_image: bool = False


class MixedOrder:
    """Every batch takes a fixed number of samples from each source, by weight, whatever their sizes.

    Pictures and videos have different shapes, so a batch holds one kind, and the steps are shared out by weight, evenly
    spread (as the released code alternates its loaders). Sample numbers count on from source to source. A source that ends
    starts its next epoch; an epoch of the mixture is as many steps as all samples fill.
    """

    def __init__(self, sources: Sequence[Source], batch_size: int, seed: int, window_shards: int):
        totals = [sum(source.num_samples) for source in sources]
        self._offsets = np.concatenate([[0], np.cumsum(totals)[:-1]])
        self._orders = [EpochOrder(s.num_samples, 1, seed + 7919 * i, window_shards) for i, s in enumerate(sources)]
        self._seed = seed
        weights = np.array([source.weight for source in sources])
        if weights.min() <= 0:
            raise ValueError(f"the weights of a mixture must be above 0; got {weights.tolist()}")
        is_image = np.array([source.is_image for source in sources])
        self._image_share = float(weights[is_image].sum() / weights.sum())
        self._quotas = {
            kind: _quotas(np.where(is_image == kind, weights, 0.0), batch_size) for kind in set(is_image.tolist())
        }
        self.steps_per_epoch = max(1, sum(totals) // batch_size)

    def batch(self, step: int) -> list[tuple[int, int]]:
        """(epoch of its source, sample number) of each clip of the global batch of a step."""
        num_images, until_next = (int(n * self._image_share) for n in (step, step + 1))
        is_image = until_next > num_images
        place = num_images if is_image else step - num_images
        keys = [
            (epoch, number + int(offset))
            for order, offset, quota in zip(self._orders, self._offsets, self._quotas[is_image], strict=True)
            for epoch, number in order.stream(place * quota, (place + 1) * quota)
        ]
        return [keys[i] for i in np.random.default_rng([self._seed, step]).permutation(len(keys))]


def _quotas(weights: np.ndarray, batch_size: int) -> list[int]:
    """Whole numbers in proportion to the weights that sum to the batch (largest remainders).

    Worked example: weights 2, 1, 0 and a batch of 4 give 3, 1, 0.

    Raises: ValueError when a weight is too small to get any.
    """
    exact = weights / weights.sum() * batch_size
    quotas = np.floor(exact).astype(int)
    quotas[np.argsort(quotas - exact, kind="stable")[: batch_size - quotas.sum()]] += 1
    if ((quotas == 0) & (weights > 0)).any():
        raise ValueError(f"a batch of {batch_size} is too small for the weights {weights.tolist()}: one gets no sample")
    return quotas.tolist()
