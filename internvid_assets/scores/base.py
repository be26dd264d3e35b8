"""What a scorer is: a clip's frames, its caption, or the texts behind the caption in, one number out.

Decisions on the numbers are SQL.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Flag, auto
from importlib import import_module
from inspect import signature
from typing import ClassVar

from internvid_assets.clips.packs import ClipFrames, PackedFrame
from internvid_assets.lake import Lake
from internvid_assets.lake.stage import Refusal
from internvid_assets.settings import Settings
from internvid_assets.store import ObjectStore

NONE = "none"
_SCORERS = {
    "similarity": {
        "embedded": "internvid_assets.scores.similarity:ConseSimilarity",
        "hf": "internvid_assets.scores.similarity:ClipSimilarity",
        "viclip": "internvid_assets.scores.viclip_similarity:ViclipSimilarity",
    },
    "aesthetic": {
        "embedded": "internvid_assets.scores.aesthetic:ImageStatistics",
        "laion": "internvid_assets.scores.aesthetic:LaionAesthetic",
    },
    "overlay_text": {"embedded": "internvid_assets.scores.overlay_text:TextShare"},
    "nsfw": {"embedded": "internvid_assets.scores.nsfw:OpenNsfw"},
    "caption_loops": {"embedded": "internvid_assets.scores.caption_quality:CaptionLoops"},
    "caption_refusal": {"embedded": "internvid_assets.scores.caption_quality:CaptionRefusal"},
    "caption_language": {"embedded": "internvid_assets.scores.caption_quality:CaptionLanguage"},
    "scale_agreement": {"embedded": "internvid_assets.scores.caption_quality:ScaleAgreement"},
}
SCORES = tuple(_SCORERS)
"""The names of all scores, as in the settings."""


class Reads(Flag):
    """What a scorer looks at. Frame packs are opened only for clips that a scorer of FRAMES has yet to see."""

    FRAMES = auto()
    CAPTION = auto()
    SOURCES = auto()
    """The coarse and fine texts that the caption was made from."""


@dataclass(frozen=True)
class ScoreItem:
    """What is to be judged; holds what the scorer reads. A clip with several captions is several items."""

    frames: ClipFrames | None = None
    caption: str | None = None
    sources: tuple[str, ...] = ()


class Scorer(ABC):
    """One backend of one score. `name` and `backend` are those of the settings."""

    name: ClassVar[str]
    backend: ClassVar[str]
    reads: ClassVar[Reads]

    @property
    @abstractmethod
    def version(self) -> str:
        """Hash of all that decides a number: code version, model and its revision or content, parameters."""

    def attach(self, lake: Lake, store: ObjectStore | None) -> None:  # noqa: B027  (most need nothing)
        """Called once before use: a scorer that looks things up keeps its lake and store."""

    @abstractmethod
    def score(self, items: Sequence[ScoreItem]) -> list[float | Refusal]:
        """One number per item, in order; that of an item does not depend on the others."""


def load_scorer(name: str, backend: str, options: Mapping[str, str] | None = None) -> Scorer:
    """Make a scorer; models load when first used.

    Raises: ValueError for an unknown name, backend or option, or an option's wrong value.
    """
    if name not in _SCORERS:
        raise ValueError(f"score {name!r} does not exist: choose one of {', '.join(SCORES)}")
    if backend not in _SCORERS[name]:
        known = ", ".join([*_SCORERS[name], NONE])
        raise ValueError(f"scores.{name} = {backend!r} does not exist: choose one of {known}")
    module, _, kind = _SCORERS[name][backend].partition(":")
    scorer = getattr(import_module(module), kind)
    known_options = list(signature(scorer).parameters)
    for option in options or {}:
        if option not in known_options:
            known = f"choose one of {', '.join(known_options)}" if known_options else f"{backend} takes none"
            raise ValueError(f"scores.options.{name}.{option} does not exist: {known}")
    try:
        return scorer(**(options or {}))
    except ValueError as error:
        raise ValueError(f"scores.options.{name}: {error}") from error


def load_scorers(settings: Settings, lake: Lake | None = None, store: ObjectStore | None = None) -> list[Scorer]:
    """One scorer for each score that the settings do not leave out.

    Args:
        lake, store: where scorers look things up; without them they can be checked, not used.

    Raises: ValueError for an unknown score, backend or option.
    """
    chosen, options = settings.scores, {**settings.scores.options}
    if unknown := sorted(options.keys() - set(SCORES)):
        raise ValueError(f"scores.options.{unknown[0]} does not exist: choose one of {', '.join(SCORES)}")
    for name in [name for name in options if getattr(chosen, name) == NONE]:
        warnings.warn(f"scores.options.{name} has no effect: scores.{name} = {NONE!r}", stacklevel=2)
    options["caption_language"] = {"language": settings.captions.language, **options.get("caption_language", {})}
    backends = {name: getattr(chosen, name) for name in SCORES}
    scorers = [load_scorer(name, backend, options.get(name)) for name, backend in backends.items() if backend != NONE]
    for scorer in scorers if lake is not None else ():
        assert lake is not None
        scorer.attach(lake, store)
    return scorers


def four_uniform(frames: ClipFrames | None) -> list[PackedFrame]:
    """Four frames spread over the clip, the middles of four equal spans (P§3.3)."""
    assert frames is not None, "a scorer that reads frames was given none"
    count = len(frames.uniform)
    return [frames.uniform[min(count - 1, int((i + 0.5) * count / 4))] for i in range(4)]
