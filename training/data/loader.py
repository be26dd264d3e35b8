"""Batches as a training step takes them: put together by worker processes or a thread, exact and elastic to resume.

B clips, T frames, C channels, H W pixels of a frame, S pixels of the model's side, L tokens.
"""

from __future__ import annotations

import mmap
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.data.clips import Drawn, TrainingClips
from training.data.crops import Crop, Window, max_bytes, resize_on_device
from training.data.order import Order
from training.data.shards import BrokenSample
from training.viclip.tokenizer import clean_caption, tokenize

_AHEAD = 2
_MAX_REPLACEMENTS = 16
"""Broken samples in a row before the shards are taken to be broken as a whole."""


@dataclass(frozen=True)
class Batch:
    """This process's share of a global batch. Its pixels are good until the next batch is asked for: `video` copies them."""

    pixels: np.ndarray  # uint8, flat: the clips one after the other, in memory that a later batch uses again
    shapes: list[tuple[int, ...]]  # T, H, W, 3 of each clip
    windows: list[Window]
    flips: list[bool]
    image_size: int
    captions: list[str]
    tokens_BL: Tensor  # of the cleaned captions
    video_ids_B: Tensor
    text_ids_B: Tensor
    broken: list[tuple[str, str]]  # (clip id, reason) of samples left out on the way

    @property
    def num_frames(self) -> int:
        """T, the same for all clips."""
        return self.shapes[0][0]

    def video(self, device: torch.device | str = "cpu") -> Tensor:
        """uint8 [B, T, C, S, S] on the device, cut, flipped and resized there: about 1 ms a clip on a CPU."""
        if torch.device(device).type == "cpu":
            video_BTSSC = torch.empty((len(self.shapes), self.num_frames, self.image_size, self.image_size, 3), dtype=torch.uint8)  # fmt: skip
            for number, crop in enumerate(self._crops()):
                crop.write(video_BTSSC[number].numpy())
            return video_BTSSC.permute(0, 1, 4, 2, 3)
        sizes = [prod(shape) for shape in self.shapes]
        parts = torch.from_numpy(self.pixels[: sum(sizes)]).to(device).split(sizes)
        crops = zip(parts, self.shapes, self.windows, self.flips, strict=True)
        return torch.stack([
            resize_on_device(window.of(part.view(shape)), flip, self.image_size) for part, shape, window, flip in crops
        ])  # fmt: skip

    def _crops(self) -> Iterator[Crop]:
        begin = 0
        for shape, window, flip in zip(self.shapes, self.windows, self.flips, strict=True):
            yield Crop(self.pixels[begin : begin + prod(shape)].reshape(shape), window, flip)
            begin += prod(shape)


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
        places = range(self.rank * size, (self.rank + 1) * size)
        broken: list[tuple[str, str]] = []
        # All are read before any is decoded: turn by turn, each pushes the other's code and data out of the CPU's caches.
        drawn = [self._drawn(keys[place], broken) for place in places]
        clips, crops, memory = [], [], self.slots[slot]
        for place, first in zip(places, drawn, strict=True):
            clip, crop = self._sound(first, step, place, keys, broken, memory)
            clips.append(clip)
            crops.append(crop)
            memory = memory[crop.frames_THWC.size :]
        captions = [clip.caption for clip in clips]
        return {
            "shapes": [crop.frames_THWC.shape for crop in crops],
            "windows": [crop.window for crop in crops],
            "flips": [crop.flip for crop in crops],
            "image_size": self.clips.image_size,
            "captions": captions,
            "tokens_BL": tokenize([clean_caption(caption) for caption in captions], self.clips.context_length).numpy(),
            "video_ids_B": np.array([clip.video_id for clip in clips]),
            "text_ids_B": np.array([clip.text_id for clip in clips]),
            "broken": broken,
        }

    def _sound(
        self,
        drawn: Drawn | None,
        step: int,
        place: int,
        keys: list[tuple[int, int]],
        broken: list[tuple[str, str]],
        memory: np.ndarray,
    ) -> tuple[Drawn, Crop]:
        """What was drawn for a place, or the first substitute that is whole."""
        substitutes = self._substitutes(step, place, keys)
        while drawn is None or (crop := self._cropped(drawn, memory, broken)) is None:
            key = next(substitutes, None)
            if key is None:
                raise ValueError(f"too many broken samples in the shards; the last: {broken[-1]}")
            drawn = self._drawn(key, broken)
        return drawn, crop

    def _drawn(self, key: tuple[int, int], broken: list[tuple[str, str]]) -> Drawn | None:
        try:
            return self.clips.draw(key)
        except BrokenSample as error:
            broken.append((error.clip_id, error.reason))
            return None

    def _cropped(self, drawn: Drawn, memory: np.ndarray, broken: list[tuple[str, str]]) -> Crop | None:
        try:
            return self.clips.crop(drawn, memory)
        except BrokenSample as error:
            broken.append((error.clip_id, error.reason))
            return None

    def _substitutes(self, step: int, place: int, keys: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
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
