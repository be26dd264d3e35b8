"""What a scorer is: a clip (and perhaps its caption) in, one number out. Decisions on the numbers are SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

from internvid_assets.clips.packs import ClipFrames, PackedFrame
from internvid_assets.lake.stage import Refusal
from internvid_assets.settings import ScoreSettings

_SCORERS = {
    ("similarity", "embedded"): "internvid_assets.scores.similarity:ConseSimilarity",
    ("similarity", "hf"): "internvid_assets.scores.similarity:ClipSimilarity",
    ("aesthetic", "embedded"): "internvid_assets.scores.aesthetic:ImageStatistics",
    ("overlay_text", "embedded"): "internvid_assets.scores.overlay_text:TextShare",
}


@dataclass(frozen=True)
class ScoreItem:
    """A clip's frames, and the caption to be judged when the scorer reads one."""

    frames: ClipFrames
    caption: str | None = None


class Scorer(Protocol):
    """One backend of one score. `version` changes whenever the same input may give another number."""

    name: str
    backend: str
    version: str
    needs_caption: bool

    def score(self, items: Sequence[ScoreItem]) -> list[float | Refusal]:
        """One number per item, in order."""


def load_scorer(name: str, backend: str) -> Scorer:
    """Make a scorer; models load when first used. Raises: ValueError for an unknown name or backend."""
    if (name, backend) not in _SCORERS:
        known = ", ".join(b for n, b in sorted(_SCORERS) if n == name)
        raise ValueError(f"scores.{name} = {backend!r} does not exist: choose one of {known or 'no backend'}")
    module, _, kind = _SCORERS[name, backend].partition(":")
    return getattr(import_module(module), kind)()


def load_scorers(settings: ScoreSettings) -> list[Scorer]:
    """One scorer for each score, by the backend that the settings name."""
    return [load_scorer(name, backend) for name, backend in settings.model_dump().items()]


def four_uniform(frames: ClipFrames) -> list[PackedFrame]:
    """Four frames spread over the clip, the middles of four equal spans (P§3.3)."""
    count = len(frames.uniform)
    return [frames.uniform[min(count - 1, int((i + 0.5) * count / 4))] for i in range(4)]
