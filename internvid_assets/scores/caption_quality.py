"""Scores of a caption's words alone; the functions are in `captions/text_quality.py`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from internvid_assets.captions import text_embedding, text_quality
from internvid_assets.captions.text_embedding import TextEmbedder
from internvid_assets.captions.text_quality import is_refusal, language_probability, loop_share
from internvid_assets.lake.stage import Refusal, short_hash
from internvid_assets.scores.base import Reads, ScoreItem, Scorer


class CaptionLoops(Scorer):
    """Share of the caption's words that lie in loops, 0..1."""

    name, backend, reads = "caption_loops", "embedded", Reads.CAPTION
    version = short_hash("1", text_quality.CODE_VERSION)

    def score(self, items: Sequence[ScoreItem]) -> list[float | Refusal]:
        """One share per caption."""
        return [loop_share(item.caption or "") for item in items]


class CaptionRefusal(Scorer):
    """1 where a model refuses or says that it sees nothing, instead of describing; else 0."""

    name, backend, reads = "caption_refusal", "embedded", Reads.CAPTION
    version = short_hash("1", text_quality.CODE_VERSION)

    def score(self, items: Sequence[ScoreItem]) -> list[float | Refusal]:
        """0 or 1 per caption."""
        return [float(is_refusal(item.caption or "")) for item in items]


class CaptionLanguage(Scorer):
    """Probability, 0..1, that the caption is in the wanted language rather than in another."""

    name, backend, reads = "caption_language", "embedded", Reads.CAPTION

    def __init__(self, language: str = "en"):
        language_probability("", language)  # raises for an unknown one
        self.language = language

    @cached_property
    def version(self) -> str:
        """See `Scorer.version`."""
        return short_hash("1", text_quality.CODE_VERSION, text_quality.LANGUAGE_MODEL, self.language)

    def score(self, items: Sequence[ScoreItem]) -> list[float | Refusal]:
        """One probability per caption."""
        return [language_probability(item.caption or "", self.language) for item in items]


class ScaleAgreement(Scorer):
    """Mean cosine, -1..1, of the caption with the distinct coarse and fine texts that it was made from.

    Low where the merge made up what no frame showed. A caption about motion or sound, which no frame's text names, is
    low too: compare versions by it, not captions.
    """

    name, backend, reads = "scale_agreement", "embedded", Reads.CAPTION | Reads.SOURCES
    version = short_hash("1", text_embedding.MODEL_ID)

    def score(self, items: Sequence[ScoreItem]) -> list[float | Refusal]:
        """One cosine per caption; items without sources are not given."""
        sources = [list(dict.fromkeys(item.sources)) for item in items]
        captions = [item.caption or "" for item in items]
        together = dict.fromkeys([*captions, *(text for texts in sources for text in texts)])
        distinct = {text: row for row, text in enumerate(together)}
        vectors = self._embedder.embed(list(distinct))
        return [
            float(np.mean([vectors[distinct[text]] @ vectors[distinct[caption]] for text in texts]))
            for caption, texts in zip(captions, sources, strict=True)
        ]

    @cached_property
    def _embedder(self) -> TextEmbedder:
        return TextEmbedder()
