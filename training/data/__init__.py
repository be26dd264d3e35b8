"""Training data: shard folders, which of their samples a step takes, their frames cropped, and batches of them.

The path of a sample: `shards` reads it, `order` says when it is taken, `frames` decodes it, `crops` cuts and resizes it,
`clips` puts the clip together and `loader` the batch. `annotated` and `video` read the videos of benchmarks instead.
"""

from training.data.clips import TrainingClips
from training.data.frames import choose_frames, decode, resized
from training.data.loader import Batch, batches
from training.data.order import EpochOrder, MixedOrder, Order, Source
from training.data.shards import BrokenSample, Sample, ShardManifest, ShardReader

__all__ = [
    "Batch", "BrokenSample", "EpochOrder", "MixedOrder", "Order", "Sample", "ShardManifest", "ShardReader", "Source",
    "TrainingClips", "batches", "choose_frames", "decode", "resized",
]  # fmt: skip
