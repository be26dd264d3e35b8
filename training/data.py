"""Training clips from shard folders: decoded, augmented and put together by the step, exact and elastic to resume.

F stored frames, T frames that the model reads, C channels, H W pixels, B clips, L tokens.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from training.order import EpochOrder, MixedOrder, Order, Source
from training.recipe import DataConfig
from training.shards import BrokenSample, Sample, ShardManifest, ShardReader
from training.viclip.tokenizer import clean_caption, tokenize

__all__ = [
    "Batch", "BrokenSample", "EpochOrder", "MixedOrder", "Order", "Sample", "ShardManifest", "ShardReader", "Source",
    "TrainingClips", "augmented", "batches", "choose_frames", "decode", "decode_small", "resized", "stable_id",
]  # fmt: skip

_REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
_AHEAD = 2
_MAX_REPLACEMENTS = 16
"""Broken samples in a row before the shards are taken to be broken as a whole."""


def choose_frames(num_stored: int, num_wanted: int, rng: np.random.Generator | None) -> list[int]:
    """One frame of each of `num_wanted` equal spans: a random one in training, the middle one (rng None) otherwise.

    Short clips repeat frames. Source: InternVid's released code (one frame in each of 8 equal spans).
    """
    edges = np.linspace(0, num_stored, num_wanted + 1)
    if rng is None:
        return [min(num_stored - 1, int((a + b) / 2)) for a, b in pairwise(edges)]
    return [min(num_stored - 1, int(rng.uniform(a, b))) for a, b in pairwise(edges)]


def resized(frames: list[np.ndarray], size: int) -> np.ndarray:
    """uint8 RGB pictures of any size straight to [T, C, size, size], no crop (the evaluation protocol).

    The memory stays in [T, H, W, C] order: turning it round costs as much as resizing, and the model reads any order.
    """
    small_THWC = np.empty((len(frames), size, size, 3), np.uint8)
    for frame, small in zip(frames, small_THWC, strict=True):
        cv2.resize(frame, (size, size), dst=small, interpolation=_interpolation(frame, size))
    return small_THWC.transpose(0, 3, 1, 2)


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
    cropped = [f[top : top + h, left : left + w] for f in frames]
    return resized([cv2.flip(f, 1) for f in cropped] if flip else cropped, size)


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
    """(epoch, number) to one augmented clip; the augmentation depends on the seed and these two only.

    Several readers are numbered in a row. A folder of pictures gives clips of one frame to models that read such.
    """

    def __init__(
        self,
        readers: ShardReader | Sequence[ShardReader],
        config: DataConfig,
        num_frames: int,
        image_size: int,
        seed: int,
        context_length: int = 32,
        takes_images: bool = False,
    ):
        self.readers = [readers] if isinstance(readers, ShardReader) else list(readers)
        self.config, self.seed, self.context_length = config, seed, context_length
        self.num_frames, self.image_size, self.takes_images = num_frames, image_size, takes_images
        self._ends = np.cumsum([len(reader) for reader in self.readers])
        self._cache: dict[int, tuple[Sample, list[np.ndarray]]] = {}

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """Raises: BrokenSample."""
        epoch, number = key
        rng = np.random.default_rng([self.seed, epoch, number])
        sample, pictures = self._stored(number)
        if not sample.frames:
            raise BrokenSample(sample.clip_id, "it has no frames")
        chosen = choose_frames(len(sample.frames), self.num_frames_of(number), rng)
        try:
            frames = [pictures[i] if pictures else decode(sample.frames[i]) for i in chosen]
        except ValueError as error:
            raise BrokenSample(sample.clip_id, str(error)) from error
        return {
            "video": augmented(frames, self.image_size, self.config, rng),
            "caption": sample.caption,
            "video_id": stable_id(sample.video_id),
            "text_id": stable_id(sample.caption),
        }

    def num_frames_of(self, number: int) -> int:
        """Frames of the clip that the model gets: 1 of a picture where the model takes pictures."""
        return 1 if self.takes_images and self._reader(number)[0].is_image else self.num_frames

    def _reader(self, number: int) -> tuple[ShardReader, int]:
        place = int(np.searchsorted(self._ends, number, side="right"))
        return self.readers[place], number - int(self._ends[place]) + len(self.readers[place])

    def _stored(self, number: int) -> tuple[Sample, list[np.ndarray]]:
        if number in self._cache:
            return self._cache[number]
        reader, own_number = self._reader(number)
        sample = reader[own_number]
        if not self.config.cache_frames:
            return sample, []
        try:
            self._cache[number] = (sample, decode_small(sample.frames, 2 * self.image_size))
        except ValueError as error:
            raise BrokenSample(sample.clip_id, str(error)) from error
        return self._cache[number]


def decode(jpeg: bytes, reduced: int | None = None) -> np.ndarray:
    """uint8 RGB [H, W, 3]; `reduced` is one of OpenCV's flags for a fraction of the size."""
    flag = cv2.IMREAD_COLOR_RGB if reduced is None else reduced
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), flag) if jpeg else None
    if picture is None:
        raise ValueError("a stored frame is not a JPEG: the shard is damaged, copy it again")
    return picture if reduced is None else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def decode_small(jpegs: Sequence[bytes], short_side: int) -> list[np.ndarray]:
    """Pictures of one size, their short side at most that many pixels, by area means; smaller ones stay as they are.

    JPEG can leave out what a half, quarter or eighth of the size does not need, which is much faster.
    """
    if not jpegs:
        return []
    height, width = decode(jpegs[0]).shape[:2]
    scale = short_side / min(height, width)
    if scale >= 1:
        return [decode(jpeg) for jpeg in jpegs]
    reduced = next((flag for factor, flag in _REDUCED.items() if scale * factor <= 1), None)
    size = (round(width * scale), round(height * scale))
    pictures = [decode(jpeg, reduced) for jpeg in jpegs]
    return [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures]


@dataclass(frozen=True)
class Batch:
    """This process's share of a global batch."""

    video_BTCHW: Tensor  # uint8
    captions: list[str]
    tokens_BL: Tensor  # of the cleaned captions
    video_ids_B: Tensor
    text_ids_B: Tensor
    broken: list[tuple[str, str]] = field(default_factory=list)  # (clip id, reason) of samples left out on the way

    def pin_memory(self) -> Batch:
        """For faster copies to a GPU."""
        return replace(self, video_BTCHW=self.video_BTCHW.pin_memory(), tokens_BL=self.tokens_BL.pin_memory())


class _Shares(Dataset):
    """A step's number to this process's share of its batch, of full size whatever is broken.

    A broken sample gives its place to the sample in the same place of the next batch that is not in this batch already:
    a function of the shards and the step alone, so the batch is the same on any number of processes and after a resume.
    """

    def __init__(self, clips: TrainingClips, order: Order, rank: int, world_size: int):
        self.clips, self.order, self.rank, self.world_size = clips, order, rank, world_size

    def __getitem__(self, step: int) -> Batch:
        keys = self.order.batch(step)
        size = len(keys) // self.world_size
        broken: list[tuple[str, str]] = []
        places = range(self.rank * size, (self.rank + 1) * size)
        items = [self._sound(step, place, keys, broken) for place in places]
        captions = [item["caption"] for item in items]
        return Batch(
            _stacked([item["video"] for item in items]),
            captions,
            tokenize([clean_caption(caption) for caption in captions], self.clips.context_length),
            torch.tensor([item["video_id"] for item in items]),
            torch.tensor([item["text_id"] for item in items]),
            broken,
        )

    def _sound(
        self, step: int, place: int, keys: list[tuple[int, int]], broken: list[tuple[str, str]]
    ) -> dict[str, Any]:
        for key in self._candidates(step, place, keys):
            try:
                return self.clips[key]
            except BrokenSample as error:
                broken.append((error.clip_id, error.reason))
        raise ValueError(f"too many broken samples in the shards; the last: {broken[-1]}")

    def _candidates(self, step: int, place: int, keys: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        yield keys[place]
        numbers, num_frames = {number for _, number in keys}, self.clips.num_frames_of(keys[place][1])
        later = [self.order.batch(step + more)[place] for more in range(1, 1 + _MAX_REPLACEMENTS)]
        fitting = [key for key in later if self.clips.num_frames_of(key[1]) == num_frames]
        yield from (key for key in fitting if key[1] not in numbers)
        yield from (key for key in fitting if key[1] in numbers)  # a set so small that all of it is in the batch


def _stacked(videos_TCHW: list[np.ndarray]) -> Tensor:
    """[B, T, C, H, W] with the memory in [B, T, H, W, C] order; a worker writes straight into memory that it shares."""
    videos_THWC = [torch.from_numpy(video.transpose(0, 2, 3, 1)) for video in videos_TCHW]
    video_BTHWC = torch.empty((len(videos_THWC), *videos_THWC[0].shape), dtype=torch.uint8)
    if get_worker_info() is not None:
        video_BTHWC.share_memory_()
    return torch.stack(videos_THWC, out=video_BTHWC).permute(0, 1, 4, 2, 3)


def batches(
    clips: TrainingClips, order: Order, steps: range, rank: int, world_size: int, workers: int
) -> Iterator[Batch]:
    """This process's batches for the given steps; each worker decodes whole batches, or a thread when there are none."""
    shares = _Shares(clips, order, rank, world_size)
    if workers == 0:
        return _by_a_thread(shares, steps)
    loader = DataLoader(
        shares,
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_one_thread,
    )
    return iter(loader)


def _by_a_thread(shares: _Shares, steps: range) -> Iterator[Batch]:
    """Reads ahead while the model computes; decoded frames stay in this process from stage to stage."""
    with ThreadPoolExecutor(1) as pool:
        arriving: deque[Future[Batch]] = deque()
        for step in steps:
            arriving.append(pool.submit(shares.__getitem__, step))
            if len(arriving) > _AHEAD:
                yield arriving.popleft().result()
        while arriving:
            yield arriving.popleft().result()


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)
