"""Training clips from the videos of a benchmark, with its captions or labels.

T frames, C channels, H W pixels.
"""

from __future__ import annotations

import numpy as np

from training.benchmarks import Benchmark
from training.data.clips import Drawn, TrainingClips
from training.data.frames import choose_frames
from training.data.order import EpochOrder, Order
from training.data.video import read_frames
from training.recipe import DataConfig


class AnnotatedClips(TrainingClips):
    """(epoch, number) to one cropped clip. Numbers from the number of samples on are further copies of them.

    For retrieval every pair of a video and one of its captions is a sample; for action recognition every video is, its
    caption is the name of its class and its `text_id` the class's number.
    """

    def __init__(
        self, benchmark: Benchmark, config: DataConfig, num_frames: int, image_size: int, seed: int, context_length: int
    ):
        super().__init__([], config, num_frames, image_size, seed, context_length)
        self.benchmark = benchmark
        if benchmark.task == "action":
            self._texts = [(n, benchmark.classes[label], label) for n, label in enumerate(benchmark.labels)]
        else:
            pairs = [(n, caption) for n, captions in enumerate(benchmark.captions) for caption in captions]
            self._texts = [(video, caption, number) for number, (video, caption) in enumerate(pairs)]

    def __len__(self) -> int:
        return len(self._texts)

    def draw(self, key: tuple[int, int]) -> Drawn:
        """As of a shard; the video is read later, so that those of a batch are not in memory at once."""
        epoch, number = key
        rng = np.random.default_rng([self.seed, epoch, number])
        video, text, text_id = self._texts[number % len(self)]
        path, max_seconds = self.benchmark.videos[video], self.benchmark.max_seconds

        def frames() -> list[np.ndarray]:
            return read_frames(path, lambda count: choose_frames(count, self.num_frames, rng), max_seconds)

        return Drawn(str(path), frames, text, video, text_id, rng)

    def num_frames_of(self, number: int) -> int:
        """The same for all."""
        return self.num_frames


class RepeatedOrder:
    """Every sample of a batch several times in a row, each time under a number of its own.

    Source: repeated augmentation (arXiv 1901.09335).
    """

    def __init__(self, order: EpochOrder, repeats: int, num_samples: int):
        self._order, self._repeats, self._num_samples = order, repeats, num_samples
        self.steps_per_epoch = order.steps_per_epoch

    def batch(self, step: int) -> list[tuple[int, int]]:
        """(epoch, number) of each clip of the global batch of a step."""
        copies = range(self._repeats)
        return [(epoch, n + copy * self._num_samples) for epoch, n in self._order.batch(step) for copy in copies]


def make_order(num_samples: int, batch_size: int, repeats: int, seed: int) -> Order:
    """Raises: ValueError when the samples do not fill a batch, or the batch cannot hold whole repeats."""
    if batch_size % repeats:
        raise ValueError(f"stages.0.batch_size = {batch_size} must be a multiple of repeats = {repeats}")
    return RepeatedOrder(EpochOrder((num_samples,), batch_size // repeats, seed, 1), repeats, num_samples)
