"""How well a caption fits its clip: the role of UMT-SIM (P§3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from internvid_assets.captions import tagger, text_embedding
from internvid_assets.captions.embedded import shared_tagger
from internvid_assets.captions.text_embedding import TextEmbedder
from internvid_assets.lake.stage import Refusal, short_hash
from internvid_assets.scores.base import Reads, ScoreItem, Scorer, four_uniform
from internvid_assets.scores.image_text import OPENAI_CLIP, ImageTextModel, distinct_clips

_TOP = 10


class ConseSimilarity(Scorer):
    """Cosine of the caption with the probability-weighted mean of its ten likeliest class names, in -1..1.

    Better than chance on photos of ImageNet-like things (AUC 0.88 to 0.97 on eleven); weak on all else.

    Source: Norouzi et al., Zero-Shot Learning by Convex Combination of Semantic Embeddings, arXiv 1312.5650.
    """

    name, backend, reads = "similarity", "embedded", Reads.FRAMES | Reads.CAPTION
    version = short_hash("2", tagger.MODEL_ID, text_embedding.MODEL_ID, _TOP)

    def score(self, items: Sequence[ScoreItem]) -> list[float | Refusal]:
        """One cosine per item."""
        tags = shared_tagger()
        clips, place = distinct_clips(items)
        frames = [[clip.middle, *clip.seconds[:3]] for clip in clips]
        rows = iter(tags.probabilities([frame for group in frames for frame in group]))
        means = np.stack([np.mean([next(rows) for _ in group], axis=0) for group in frames])
        top = np.argsort(-means, axis=1)[:, :_TOP]
        weights = np.take_along_axis(means, top, axis=1)
        images = np.einsum("nk,nkd->nd", weights, self._class_embeddings[top])
        images /= np.linalg.norm(images, axis=1, keepdims=True)
        texts = self._embedder.embed([item.caption or "" for item in items])
        return [float(value) for value in (images[place] * texts).sum(axis=1)]

    @cached_property
    def _embedder(self) -> TextEmbedder:
        return TextEmbedder()

    @cached_property
    def _class_embeddings(self) -> np.ndarray:
        return self._embedder.embed(shared_tagger().names)


class ClipSimilarity(Scorer):
    """Cosine, in -1..1, of the caption with the mean of the unit embeddings of four frames, by CLIP or SigLIP.

    Differs: the paper has UMT, whose weights are in no package; four frames and the cosine are as there (P§3.3).
    """

    name, backend, reads = "similarity", "hf", Reads.FRAMES | Reads.CAPTION

    def __init__(self, model: str = OPENAI_CLIP, revision: str = "main", device: str = "", batch_size: str = "32"):
        self._model = ImageTextModel(model, revision, device, batch_size)

    @cached_property
    def version(self) -> str:
        """See `Scorer.version`."""
        return short_hash("2", self._model.identity())

    def score(self, items: Sequence[ScoreItem]) -> list[float | Refusal]:
        """One cosine per item."""
        clips, place = distinct_clips(items)
        frames = self._model.pictures([frame.rgb() for clip in clips for frame in four_uniform(clip)])
        means = frames.reshape(len(clips), 4, -1).mean(axis=1)
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        captions = {text: row for row, text in enumerate(dict.fromkeys(item.caption or "" for item in items))}
        texts = self._model.texts(list(captions))
        rows = [captions[item.caption or ""] for item in items]
        return [float(value) for value in (means[place] * texts[rows]).sum(axis=1)]
