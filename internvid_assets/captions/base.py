"""What a captioner is: frames in, texts out, in three steps (P§3.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

from internvid_assets.clips.packs import ClipFrames
from internvid_assets.lake.stage import Refusal

_BACKENDS = {
    "embedded": "internvid_assets.captions.embedded:EmbeddedCaptioner",
    "endpoint": "internvid_assets.captions.endpoint:EndpointCaptioner",
    "hf": "internvid_assets.captions.hf:HfCaptioner",
    "sidecar": "internvid_assets.captions.sidecar:SidecarCaptioner",
}


@dataclass(frozen=True)
class ClipInput:
    """A clip to look at, with the text that came with its source."""

    frames: ClipFrames
    source_caption: str | None = None
    title: str | None = None


@dataclass(frozen=True)
class CoarseCaption:
    """A text of the middle frame; `labels` best first, with scores in 0..1, when the backend gives them."""

    text: str
    labels: tuple[str, ...] = ()
    label_scores: tuple[float, ...] = ()


@dataclass(frozen=True)
class FineCaption:
    """Texts of about one frame a second, and what moved over the clip (empty: not measured)."""

    frame_seconds: tuple[float, ...]
    frame_texts: tuple[str, ...]
    motion_text: str = ""
    motion_label: str = ""


@dataclass(frozen=True)
class MergeInput:
    """All texts of one clip, to be made into one caption."""

    clip_id: str
    coarse: CoarseCaption
    fine: FineCaption
    transcript: str = ""
    source_caption: str | None = None
    title: str | None = None


class Captioner(Protocol):
    """A backend. Every method returns one result per input, in order; a bad input gives a Refusal.

    `version` is 12 hex digits that change whenever the same frames may give another text.
    """

    name: str
    version: str

    def coarse(self, clips: Sequence[ClipInput]) -> list[CoarseCaption | Refusal]:
        """A text of each clip's middle frame."""

    def fine(self, clips: Sequence[ClipInput]) -> list[FineCaption | Refusal]:
        """Texts of each clip's frames at about one a second."""

    def merge(self, clips: Sequence[MergeInput]) -> list[str | Refusal]:
        """One caption for each clip from its coarse and fine texts."""


@dataclass(frozen=True)
class FramePolicy:
    """Which frames are looked at; part of the version."""

    max_second_frames: int = 8

    def seconds(self, frames: ClipFrames) -> list[int]:
        """Indices into the per-second frames, evenly thinned to `max_second_frames`."""
        count = len(frames.seconds)
        if count <= self.max_second_frames:
            return list(range(count))
        return sorted({round(i * (count - 1) / (self.max_second_frames - 1)) for i in range(self.max_second_frames)})


def captioner_names() -> list[str]:
    """The backends that can be chosen."""
    return sorted(_BACKENDS)


def load_captioner(name: str, options: Mapping[str, str] | None = None) -> Captioner:
    """Make a captioner; models load when first used.

    Raises: ValueError for an unknown name or option.
    """
    if name not in _BACKENDS:
        raise ValueError(f"captioner {name!r} does not exist: choose one of {', '.join(captioner_names())}")
    module, _, kind = _BACKENDS[name].partition(":")
    try:
        return getattr(import_module(module), kind)(**(options or {}))
    except TypeError as error:
        raise ValueError(f"captions.options for {name}: {error}") from error
