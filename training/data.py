"""Training clips from shard folders: decoded, cropped and put together by the step, exact and elastic to resume.

F stored frames, T frames that the model reads, C channels, H W pixels, B clips, L tokens.
"""

from __future__ import annotations

import hashlib
import mmap
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from math import prod
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from training.batch import MAX_AREA, Batch, Crop
from training.order import EpochOrder, MixedOrder, Order, Source
from training.recipe import DataConfig
from training.shards import BrokenSample, Sample, ShardManifest, ShardReader
from training.viclip.tokenizer import clean_caption, tokenize

__all__ = [
    "Batch", "BrokenSample", "Crop", "EpochOrder", "MixedOrder", "Order", "Sample", "ShardManifest", "ShardReader",
    "Source", "TrainingClips", "augmented", "batches", "choose_frames", "decode", "decode_small", "resized", "stable_id",
]  # fmt: skip

_REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
_LOG_ASPECTS = (np.log(3 / 4), np.log(4 / 3))
_AHEAD = 2
_MAX_REPLACEMENTS = 16
"""Broken samples in a row before the shards are taken to be broken as a whole."""


def choose_frames(num_stored: int, num_wanted: int, rng: np.random.Generator | None) -> list[int]:
    """One frame of each of `num_wanted` equal spans: a random one in training, the middle one (rng None) otherwise.

    Short clips repeat frames. Source: InternVid's released code (one frame in each of 8 equal spans).
    """
    edges = np.linspace(0, num_stored, num_wanted + 1)
    places = (edges[:-1] + edges[1:]) / 2 if rng is None else rng.uniform(edges[:-1], edges[1:])
    return [min(num_stored - 1, int(place)) for place in places.tolist()]


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


def augmented(
    frames: Iterable[np.ndarray],
    num_frames: int,
    size: int,
    config: DataConfig,
    rng: np.random.Generator,
    memory: np.ndarray,
) -> Crop:
    """A random crop and flip, the same for all frames, written to the first bytes of `memory`: `max_bytes` are enough.

    Each frame is copied while it is still in the processor's cache. Crops of many pixels are resized at once.

    Raises: ValueError when frames of a clip differ in size, and what taking them raises.
    Source: RandomResizedCrop with scale 0.5 to 1 and aspect 3/4 to 4/3, horizontal flip (R:V/dataset/__init__.py).
    """
    arriving = iter(frames)
    first = next(arriving)
    height, width = first.shape[:2]
    top, left, h, w = _crop(height, width, config.min_crop_area, rng)
    flip = config.horizontal_flip and rng.random() < 0.5
    is_large = h * w > MAX_AREA * size * size
    shape = (num_frames, size, size, 3) if is_large else (num_frames, h, w, 3)
    frames_THWC = memory[: prod(shape)].reshape(shape)
    arriving = chain([first], arriving)
    del first  # no frame outlives its copy, so that the next is decoded to the same memory, which is in the cache
    for place in frames_THWC:
        _cut_out(next(arriving), (height, width), (slice(top, top + h), slice(left, left + w)), flip, place)
    return Crop(frames_THWC, flip and not is_large)


def _cut_out(
    frame: np.ndarray, size: tuple[int, int], window: tuple[slice, slice], flip: bool, place: np.ndarray
) -> None:
    """Copy the window of a frame; where the place is for the model's size, flip and resize it too."""
    if frame.shape[:2] != size:
        raise ValueError(f"its frames differ in size: {size} and {frame.shape[:2]}")
    cut = frame[window]
    if cut.shape == place.shape:
        place[:] = cut
    else:
        flipped = cv2.flip(cut, 1) if flip else cut
        cv2.resize(flipped, place.shape[:2], dst=place, interpolation=_interpolation(cut, len(place)))


def max_bytes(num_frames: int, size: int) -> int:
    """Of memory that a crop takes."""
    return num_frames * int(MAX_AREA * size * size) * 3


def _crop(height: int, width: int, min_area: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """top, left, height, width; the whole picture when min_area is 1 or ten tries do not fit."""
    for _ in range(10 if min_area < 1.0 else 0):
        area = height * width * rng.uniform(min_area, 1.0)
        aspect = np.exp(rng.uniform(*_LOG_ASPECTS))
        w, h = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if w <= width and h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    return 0, 0, height, width


def stable_id(text: str) -> int:
    """A 63-bit number of a text, the same in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class TrainingClips(Dataset):
    """(epoch, number) to one cropped clip; crop and flip depend on the seed and these two only.

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
        return self.read(key, np.empty(max_bytes(self.num_frames, self.image_size), np.uint8))

    def read(self, key: tuple[int, int], memory: np.ndarray) -> dict[str, Any]:
        """The clip with its crop at the beginning of `memory`, flat uint8. Raises: BrokenSample."""
        epoch, number = key
        rng = np.random.default_rng([self.seed, epoch, number])
        sample, pictures = self._stored(number)
        if not sample.frames:
            raise BrokenSample(sample.clip_id, "it has no frames")
        chosen = choose_frames(len(sample.frames), self.num_frames_of(number), rng)
        frames = (pictures[i] if pictures else decode(sample.frames[i]) for i in chosen)
        try:
            crop = augmented(frames, len(chosen), self.image_size, self.config, rng, memory)
        except ValueError as error:
            raise BrokenSample(sample.clip_id, str(error)) from error
        return {
            "crop": crop,
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


def decode(jpeg: bytes | memoryview, reduced: int | None = None) -> np.ndarray:
    """uint8 RGB [H, W, 3]; `reduced` is one of OpenCV's flags for a fraction of the size."""
    flag = cv2.IMREAD_COLOR_RGB if reduced is None else reduced
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), flag) if jpeg else None
    if picture is None:
        raise ValueError("a stored frame is not a JPEG: the shard is damaged, copy it again")
    return picture if reduced is None else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def decode_small(jpegs: Sequence[bytes | memoryview], short_side: int) -> list[np.ndarray]:
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


class _Shares(Dataset):
    """(slot, step) to this process's share of the step's batch, of full size whatever is broken.

    The pixels are written to the slot of shared memory. The answer, all but the pixels of a `Batch`, holds no tensors, for
    each that a process sends is a file of its own.

    A broken sample gives its place to the sample in the same place of the next batch that is not in this batch already:
    a function of the shards and the step alone, so the batch is the same on any number of processes and after a resume.
    """

    def __init__(self, clips: TrainingClips, order: Order, rank: int, world_size: int, slots: np.ndarray):
        self.clips, self.order, self.rank, self.world_size, self.slots = clips, order, rank, world_size, slots

    def __getitem__(self, task: tuple[int, int]) -> dict[str, Any]:
        slot, step = task
        keys = self.order.batch(step)
        size = len(keys) // self.world_size
        broken: list[tuple[str, str]] = []
        items, memory = [], self.slots[slot]
        for place in range(self.rank * size, (self.rank + 1) * size):
            items.append(self._sound(step, place, keys, broken, memory))
            memory = memory[items[-1]["crop"].frames_THWC.size :]
        captions = [item["caption"] for item in items]
        return {
            "shapes": [item["crop"].frames_THWC.shape for item in items],
            "flips": [item["crop"].flip for item in items],
            "image_size": self.clips.image_size,
            "captions": captions,
            "tokens_BL": tokenize([clean_caption(caption) for caption in captions], self.clips.context_length).numpy(),
            "video_ids_B": np.array([item["video_id"] for item in items]),
            "text_ids_B": np.array([item["text_id"] for item in items]),
            "broken": broken,
        }

    def _sound(
        self,
        step: int,
        place: int,
        keys: list[tuple[int, int]],
        broken: list[tuple[str, str]],
        memory: np.ndarray,
    ) -> dict[str, Any]:
        for key in self._candidates(step, place, keys):
            try:
                return self.clips.read(key, memory)
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


def batches(
    clips: TrainingClips, order: Order, steps: range, rank: int, world_size: int, workers: int
) -> Iterator[Batch]:
    """This process's batches for the given steps; each worker decodes whole batches, or a thread when there are none.

    A batch's pixels are good until the next one is asked for: no more memory is used than for the batches on the way,
    and none is taken from the system or given back in between, which costs time.
    """
    if not steps:
        return iter(())
    on_the_way = workers * _AHEAD if workers else _AHEAD
    share_bytes = len(order.batch(steps[0])) // world_size * max_bytes(clips.num_frames, clips.image_size)
    slots = _shared_memory(on_the_way + 1, share_bytes)
    shares = _Shares(clips, order, rank, world_size, slots)
    tasks = [(number % len(slots), step) for number, step in enumerate(steps)]
    arriving = _by_processes(shares, tasks, workers) if workers else _by_a_thread(shares, tasks)
    return _with_pixels(arriving, tasks, slots)


def _with_pixels(
    arriving: Iterator[dict[str, Any]], tasks: list[tuple[int, int]], slots: np.ndarray
) -> Iterator[Batch]:
    """The batches, their memory pinned for as long as they arrive where there is a GPU."""
    is_pinned = torch.cuda.is_available() and _pin(slots)
    try:
        for (slot, _), share in zip(tasks, arriving, strict=True):
            yield _batch(slots[slot], share)
    finally:
        if is_pinned:
            torch.cuda.cudart().cudaHostUnregister(slots.ctypes.data)


def _batch(pixels: np.ndarray, share: dict[str, Any]) -> Batch:
    tensors = {name: torch.from_numpy(share[name]) for name in ("tokens_BL", "video_ids_B", "text_ids_B")}
    return Batch(pixels, **(share | tensors))


def _shared_memory(num_slots: int, slot_bytes: int) -> np.ndarray:
    """uint8 [slots, bytes] that processes forked later write to; what is never written takes no memory."""
    return np.frombuffer(mmap.mmap(-1, num_slots * slot_bytes), np.uint8).reshape(num_slots, slot_bytes)


def _pin(slots: np.ndarray) -> bool:
    """Whether copies to the GPU go straight from the memory that the workers write to; they are slower otherwise."""
    status = torch.cuda.cudart().cudaHostRegister(slots.ctypes.data, slots.nbytes, 0)
    if int(status) != 0:
        warnings.warn(
            f"the loader's memory cannot be pinned (CUDA error {int(status)}): copies are slower", stacklevel=2
        )
    return int(status) == 0


def _by_processes(shares: _Shares, tasks: list[tuple[int, int]], workers: int) -> Iterator[dict[str, Any]]:
    loader = DataLoader(
        shares,
        batch_size=None,
        sampler=tasks,
        num_workers=workers,
        prefetch_factor=_AHEAD,
        multiprocessing_context="fork",  # they inherit the slots
        collate_fn=_unchanged,
        worker_init_fn=_one_thread,
    )
    return iter(loader)


def _by_a_thread(shares: _Shares, tasks: list[tuple[int, int]]) -> Iterator[dict[str, Any]]:
    """Reads ahead while the model computes; decoded frames stay in this process from stage to stage."""
    with ThreadPoolExecutor(1) as pool:
        arriving: deque[Future[dict[str, Any]]] = deque()
        for task in tasks:
            arriving.append(pool.submit(shares.__getitem__, task))
            if len(arriving) > _AHEAD:
                yield arriving.popleft().result()
        while arriving:
            yield arriving.popleft().result()


def _unchanged(share: Any) -> Any:
    return share


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)
