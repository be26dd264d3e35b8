"""Training clips from shard folders: a sample's frames decoded, cropped and flipped, by number and epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from training.data.crops import Crop, Frame, augmented, max_bytes
from training.data.frames import choose_frames, decode_small
from training.data.shards import BrokenSample, Sample, ShardReader
from training.recipe import DataConfig


def stable_id(text: str) -> int:
    """A 63-bit number of a text, the same in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True)
class Drawn:
    """A clip of a batch before anything of it is decoded."""

    clip_id: str
    frames: Callable[[], Sequence[Frame]]  # in order; videos are decoded when it is called. Raises: ValueError
    caption: str
    video_id: int
    text_id: int
    rng: np.random.Generator  # which has drawn the frames, and draws the crop


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
        drawn = self.draw(key)
        crop = self.crop(drawn, np.empty(max_bytes(self.num_frames, self.image_size), np.uint8))
        return {"crop": crop, "caption": drawn.caption, "video_id": drawn.video_id, "text_id": drawn.text_id}

    def draw(self, key: tuple[int, int]) -> Drawn:
        """The clip as it is stored, its frames chosen. Raises: BrokenSample."""
        epoch, number = key
        rng = np.random.default_rng([self.seed, epoch, number])
        sample, pictures = self._stored(number)
        if not sample.frames:
            raise BrokenSample(sample.clip_id, "it has no frames")
        chosen = choose_frames(len(sample.frames), self.num_frames_of(number), rng)
        stored = pictures or sample.frames
        ids = stable_id(sample.video_id), stable_id(sample.caption)
        return Drawn(sample.clip_id, lambda: [stored[i] for i in chosen], sample.caption, *ids, rng)

    def crop(self, drawn: Drawn, memory: np.ndarray) -> Crop:
        """Its frames decoded to the beginning of `memory`, flat uint8. Raises: BrokenSample."""
        try:
            return augmented(drawn.frames(), self.image_size, self.config, drawn.rng, memory)
        except ValueError as error:
            raise BrokenSample(drawn.clip_id, str(error)) from error

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
