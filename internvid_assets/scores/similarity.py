"""How well a caption fits its clip: the role of UMT-SIM (P§3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from internvid_assets.captions import tagger, text_embedding
from internvid_assets.captions.embedded import shared_tagger
from internvid_assets.captions.text_embedding import TextEmbedder
from internvid_assets.lake.stage import Refusal, short_hash
from internvid_assets.scores.base import ScoreItem, four_uniform

_TOP = 10


class ConseSimilarity:
    """Cosine of the caption with the probability-weighted mean of its ten likeliest class names, in -1..1.

    Better than chance on photos of ImageNet-like things (AUC 0.88 to 0.97 on eleven); weak on all else.

    Source: Norouzi et al., Zero-Shot Learning by Convex Combination of Semantic Embeddings, arXiv 1312.5650.
    """

    name, backend, needs_caption = "similarity", "embedded", True
    version = short_hash("2", tagger.MODEL_ID, text_embedding.MODEL_ID, _TOP)

    def score(self, items: Sequence[ScoreItem]) -> list[float | Refusal]:
        """One cosine per item."""
        tags = shared_tagger()
        frames = [[item.frames.middle, *item.frames.seconds[:3]] for item in items]
        rows = iter(tags.probabilities([frame for group in frames for frame in group]))
        means = np.stack([np.mean([next(rows) for _ in group], axis=0) for group in frames])
        top = np.argsort(-means, axis=1)[:, :_TOP]
        weights = np.take_along_axis(means, top, axis=1)
        images = np.einsum("nk,nkd->nd", weights, self._class_embeddings[top])
        images /= np.linalg.norm(images, axis=1, keepdims=True)
        texts = self._embedder.embed([item.caption or "" for item in items])
        return [float(value) for value in (images * texts).sum(axis=1)]

    @cached_property
    def _embedder(self) -> TextEmbedder:
        return TextEmbedder()

    @cached_property
    def _class_embeddings(self) -> np.ndarray:
        return self._embedder.embed(shared_tagger().names)


class ClipSimilarity:
    """Cosine of the caption with the mean frame embedding of a CLIP model from the hub or a folder, in -1..1."""

    name, backend, needs_caption = "similarity", "hf", True

    def __init__(self, model: str = "openai/clip-vit-large-patch14"):
        self.model = model
        self.version = short_hash("1", model)

    def score(self, items: Sequence[ScoreItem]) -> list[float | Refusal]:
        """One cosine per item."""
        import torch

        processor, model = self._loaded
        results: list[float | Refusal] = []
        for item in items:
            pictures = [frame.rgb() for frame in four_uniform(item.frames)]
            inputs = processor(
                text=[item.caption or ""], images=pictures, return_tensors="pt", padding=True, truncation=True
            ).to(model.device)
            with torch.no_grad():
                output = model(**inputs)
            image_D = torch.nn.functional.normalize(output.image_embeds.mean(0), dim=0)
            results.append(float(image_D @ torch.nn.functional.normalize(output.text_embeds[0], dim=0)))
        return results

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        import torch
        from transformers import AutoProcessor, CLIPModel

        device = "cuda" if torch.cuda.is_available() else "cpu"
        return AutoProcessor.from_pretrained(self.model), CLIPModel.from_pretrained(self.model).eval().to(device)
