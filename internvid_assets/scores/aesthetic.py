"""How pleasing a clip looks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from internvid_assets.lake.stage import Refusal, short_hash
from internvid_assets.scores.base import Reads, ScoreItem, Scorer, four_uniform
from internvid_assets.scores.image_text import OPENAI_CLIP, ImageTextModel
from internvid_assets.scores.weights import weights_sha256


class ImageStatistics(Scorer):
    """0..10 from sharpness, contrast, colourfulness and exposure; the maximum over four frames, as P§3.3.

    A documented stand-in for the LAION predictor: it ranks dull, blurred and badly lit pictures low, and knows nothing
    of composition. Production uses a CLIP-based head.

    Source: colourfulness from Hasler and Suesstrunk, Measuring Colourfulness in Natural Images, 2003.
    """

    name, backend, reads = "aesthetic", "embedded", Reads.FRAMES
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


class LaionAesthetic(Scorer):
    """About 1..10: a linear head on unit CLIP embeddings, the maximum over four frames (P§3.3).

    `head` is a file with `weight` [1, D] and `bias` [1], such as `sa_0_4_vit_l_14_linear.pth`, for the CLIP that `model` names.

    Source: LAION-AI/aesthetic-predictor (V1), to which InternVid's README points; which CLIP the authors took is not said.
    """

    name, backend, reads = "aesthetic", "laion", Reads.FRAMES

    def __init__(
        self,
        head: str = "",
        model: str = OPENAI_CLIP,
        revision: str = "main",
        device: str = "",
        batch_size: str = "32",
    ):
        if not head or not Path(head).is_file():
            raise ValueError(
                f"head = {head!r} is no file: name a linear head of LAION-AI/aesthetic-predictor, such as sa_0_4_vit_l_14_linear.pth"
            )
        self.head = Path(head)
        self._model = ImageTextModel(model, revision, device, batch_size)

    @cached_property
    def version(self) -> str:
        """See `Scorer.version`."""
        return short_hash("1", "laion", self._model.identity(), weights_sha256(self.head))

    def score(self, items: Sequence[ScoreItem]) -> list[float | Refusal]:
        """One number per clip."""
        pictures = self._model.pictures([frame.rgb() for item in items for frame in four_uniform(item.frames)])
        weight_D, bias = self._weights
        if pictures.shape[1] != len(weight_D):
            raise ValueError(
                f"head = {str(self.head)!r} is for embeddings of {len(weight_D)} numbers, "
                f"model = {self._model.checkpoint.model!r} gives {pictures.shape[1]}: name the head of this CLIP"
            )
        return (pictures @ weight_D + bias).reshape(len(items), 4).max(axis=1).tolist()

    @cached_property
    def _weights(self) -> tuple[np.ndarray, float]:
        """float32 [D] and the bias. Raises: ValueError for a file that is not such a head."""
        import torch
        from safetensors.torch import load_file

        load = load_file if self.head.suffix == ".safetensors" else _load_torch
        state = load(self.head)
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}
        if shapes.keys() != {"weight", "bias"} or len(shapes["weight"]) != 2 or shapes["weight"][0] != 1:
            raise ValueError(f"head = {str(self.head)!r} holds {shapes}, not weight [1, D] and bias [1]")
        return state["weight"][0].float().numpy(), float(state["bias"])


def _load_torch(path: Path) -> dict:
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)
