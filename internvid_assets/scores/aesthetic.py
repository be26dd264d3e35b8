"""How pleasing a clip looks."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from internvid_assets.lake.stage import Refusal, short_hash
from internvid_assets.scores.base import ScoreItem, four_uniform


class ImageStatistics:
    """0..10 from sharpness, contrast, colourfulness and exposure; the maximum over four frames, as P§3.3.

    A documented stand-in for the LAION predictor: it ranks dull, blurred and badly lit pictures low, and knows nothing
    of composition. Production uses a CLIP-based head.

    Source: colourfulness from Hasler and Suesstrunk, Measuring Colourfulness in Natural Images, 2003.
    """

    name, backend, needs_caption = "aesthetic", "embedded", False
    version = short_hash("1")

    def score(self, items: Sequence[ScoreItem]) -> list[float | Refusal]:
        """One number per clip."""
        return [max(picture_score(frame.rgb()) for frame in four_uniform(item.frames)) for item in items]


def picture_score(rgb: np.ndarray) -> float:
    """0..10 for one picture, uint8 [H, W, 3]: the mean of four qualities, each 0..1."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    sharpness = min(1.0, float(np.log1p(cv2.Laplacian(grey, cv2.CV_32F).var())) / 7.5)
    contrast = min(1.0, float(grey.std()) / 64)
    red, green, blue = (rgb[..., i].astype(np.float32) for i in range(3))
    red_green, yellow_blue = red - green, 0.5 * (red + green) - blue
    spread = np.hypot(red_green.std(), yellow_blue.std())
    offset = np.hypot(red_green.mean(), yellow_blue.mean())
    colourfulness = min(1.0, float(spread + 0.3 * offset) / 80)
    exposure = 1.0 - abs(float(grey.mean()) / 255 - 0.5) * 2
    return 10 * (sharpness + contrast + colourfulness + exposure) / 4
