"""Training clips from a shard folder: random access inside a shuffle window, exact and elastic to resume.

F stored frames, T frames that the model reads, C channels, H W pixels, B clips.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.recipe import DataConfig

FORMAT = "internvid-shards/1"


@dataclass(frozen=True)
class ShardManifest:
    """`manifest.json` of a shard folder: what to train on, by hash."""

    folder: Path
    shards_id: str
    subset: str
    snapshot_id: int
    num_frames: int
    names: tuple[str, ...]
    num_samples: tuple[int, ...]
    sha256: str  # of the manifest file

    @classmethod
    def read(cls, folder: str | Path) -> ShardManifest:
        """Read and check the manifest. Raises: ValueError naming what is missing or torn."""
        path = Path(folder) / "manifest.json"
        if not path.exists():
            raise ValueError(f"no shards in {folder}: it lacks manifest.json; make them with the asset training_shards")
        text = path.read_bytes()
        values = json.loads(text)
        if values.get("format") != FORMAT:
            raise ValueError(f"{path} has format {values.get('format')!r}; this code reads {FORMAT!r}")
        for shard in values["shards"]:
            size = (path.parent / shard["name"]).stat().st_size if (path.parent / shard["name"]).exists() else None
            if size != shard["num_bytes"]:
                raise ValueError(
                    f"shard {path.parent / shard['name']} has {size} bytes, the manifest says {shard['num_bytes']}: copy it again"
                )
        return cls(
            folder=path.parent,
            shards_id=values["shards_id"],
            subset=values["subset"],
            snapshot_id=values["snapshot_id"],
            num_frames=values["frames"]["num_frames"],
            names=tuple(shard["name"] for shard in values["shards"]),
            num_samples=tuple(shard["num_samples"] for shard in values["shards"]),
            sha256=hashlib.sha256(text).hexdigest(),
        )

    @property
    def total(self) -> int:
        """Samples in all shards."""
        return sum(self.num_samples)


@dataclass(frozen=True)
class Sample:
    """One stored clip: `frames` are JPEGs, uniform over its length."""

    clip_id: str
    video_id: str
    caption: str
    frames: tuple[bytes, ...]


class ShardReader:
    """Any sample of a shard folder by number. A shard's tar is indexed when first touched."""

    def __init__(self, manifest: ShardManifest):
        self.manifest = manifest
        self._ends = np.cumsum(manifest.num_samples)
        self._index = lru_cache(maxsize=256)(self._read_index)

    def __len__(self) -> int:
        return self.manifest.total

    def __getitem__(self, number: int) -> Sample:
        shard = int(np.searchsorted(self._ends, number, side="right"))
        key, members = self._index(shard)[number - int(self._ends[shard] - self.manifest.num_samples[shard])]
        with (self.manifest.folder / self.manifest.names[shard]).open("rb") as file:
            parts = {suffix: _at(file, *place) for suffix, place in members.items()}
        frames = tuple(parts[suffix] for suffix in sorted(parts) if suffix.endswith(".jpg"))
        return Sample(key, json.loads(parts["json"])["video_id"], parts["txt"].decode(), frames)

    def _read_index(self, shard: int) -> list[tuple[str, dict[str, tuple[int, int]]]]:
        """Per sample its key and, by suffix, offset and length of each member."""
        samples: dict[str, dict[str, tuple[int, int]]] = {}
        with tarfile.open(self.manifest.folder / self.manifest.names[shard]) as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                samples.setdefault(key, {})[suffix] = (member.offset_data, member.size)
        return list(samples.items())

    def __getstate__(self) -> dict[str, Any]:
        return {"manifest": self.manifest}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["manifest"])  # type: ignore[misc]


def _at(file: Any, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)


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
        start, stop = place * self._batch_size, (place + 1) * self._batch_size
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


def choose_frames(num_stored: int, num_wanted: int, rng: np.random.Generator | None) -> list[int]:
    """One frame of each of `num_wanted` equal spans: a random one in training, the middle one (rng None) otherwise.

    Short clips repeat frames. Source: InternVid's released code (one frame in each of 8 equal spans).
    """
    edges = np.linspace(0, num_stored, num_wanted + 1)
    if rng is None:
        return [min(num_stored - 1, int((a + b) / 2)) for a, b in pairwise(edges)]
    return [min(num_stored - 1, int(rng.uniform(a, b))) for a, b in pairwise(edges)]


def resized(frames: list[np.ndarray], size: int) -> np.ndarray:
    """uint8 RGB pictures of any size straight to [T, C, size, size], no crop (the evaluation protocol)."""
    small = [cv2.resize(f, (size, size), interpolation=_interpolation(f, size)) for f in frames]
    return np.stack(small).transpose(0, 3, 1, 2)


def _interpolation(picture: np.ndarray, size: int) -> int:
    """Bicubic as the paper, but area means when shrinking by two or more, where bicubic skips pixels."""
    return cv2.INTER_AREA if min(picture.shape[:2]) >= 2 * size else cv2.INTER_CUBIC


def augmented(frames: list[np.ndarray], size: int, config: DataConfig, rng: np.random.Generator) -> np.ndarray:
    """A random crop and flip, the same for all frames, as [T, C, size, size] uint8.

    Source: RandomResizedCrop with scale 0.5 to 1 and aspect 3/4 to 4/3, horizontal flip (R:V/dataset/__init__.py).
    """
    height, width = frames[0].shape[:2]
    top, left, h, w = _crop(height, width, config.min_crop_area, rng)
    flip = config.horizontal_flip and rng.random() < 0.5
    video_TCHW = resized([f[top : top + h, left : left + w] for f in frames], size)
    return video_TCHW[..., ::-1] if flip else video_TCHW


def _crop(height: int, width: int, min_area: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """top, left, height, width; the whole picture when min_area is 1 or ten tries do not fit."""
    for _ in range(10 if min_area < 1.0 else 0):
        area = height * width * rng.uniform(min_area, 1.0)
        aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if w <= width and h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    return 0, 0, height, width


def stable_id(text: str) -> int:
    """A 63-bit number of a text, the same in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class TrainingClips(Dataset):
    """(epoch, number) to one augmented clip; the augmentation depends on the seed and these two only."""

    def __init__(self, reader: ShardReader, config: DataConfig, num_frames: int, image_size: int, seed: int):
        self.reader, self.config, self.seed = reader, config, seed
        self.num_frames, self.image_size = num_frames, image_size
        self._cache: dict[int, tuple[Sample, list[np.ndarray]]] = {}

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, number = key
        rng = np.random.default_rng([self.seed, epoch, number])
        sample, pictures = self._stored(number)
        chosen = choose_frames(len(sample.frames), self.num_frames, rng)
        frames = [pictures[i] if pictures else decode(sample.frames[i]) for i in chosen]
        return {
            "video": augmented(frames, self.image_size, self.config, rng),
            "caption": sample.caption,
            "video_id": stable_id(sample.video_id),
            "text_id": stable_id(sample.caption),
        }

    def _stored(self, number: int) -> tuple[Sample, list[np.ndarray]]:
        if not self.config.cache_frames:
            return self.reader[number], []
        if number not in self._cache:
            sample = self.reader[number]
            self._cache[number] = (sample, [decode(jpeg) for jpeg in sample.frames])
        return self._cache[number]


def decode(jpeg: bytes) -> np.ndarray:
    """uint8 RGB [H, W, 3]."""
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError("a stored frame is not a JPEG: the shard is damaged, copy it again")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


@dataclass(frozen=True)
class Batch:
    """This process's share of a global batch."""

    video_BTCHW: Tensor  # uint8
    captions: list[str]
    video_ids_B: Tensor
    text_ids_B: Tensor


def _collate(items: list[dict[str, Any]]) -> Batch:
    return Batch(
        torch.from_numpy(np.stack([item["video"] for item in items])),
        [item["caption"] for item in items],
        torch.tensor([item["video_id"] for item in items]),
        torch.tensor([item["text_id"] for item in items]),
    )


def batches(
    clips: TrainingClips, order: EpochOrder, steps: range, rank: int, world_size: int, workers: int
) -> Iterator[Batch]:
    """This process's batches for the given steps."""
    loader = DataLoader(
        clips,
        batch_sampler=_Shares(order, steps, rank, world_size),
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
    )
    return iter(loader)


class _Shares:
    """The sample keys of this process, step by step."""

    def __init__(self, order: EpochOrder, steps: range, rank: int, world_size: int):
        self.order, self.steps, self.rank, self.world_size = order, steps, rank, world_size

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in self.steps:
            batch = self.order.batch(step)
            size = len(batch) // self.world_size
            yield batch[self.rank * size : (self.rank + 1) * size]
