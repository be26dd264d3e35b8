"""What a captioner is: frames in, texts out, in three steps (P§3.2).

A backend does any of the steps; `recipe.py` says who does which and what the texts are called.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from inspect import signature
from itertools import islice
from typing import Any, ClassVar, TypeVar

from internvid_assets.captions.answers import AnswerLog
from internvid_assets.clips.packs import ClipFrames
from internvid_assets.lake.stage import Refusal

T = TypeVar("T")
STEPS = ("coarse", "fine", "merge")
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

    @property
    def clip_id(self) -> str:
        """The clip's id."""
        return self.frames.clip_id


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
    """All texts of one clip, to be made into one caption; `texts` are those that a language model is to read."""

    clip_id: str
    coarse: CoarseCaption
    fine: FineCaption
    transcript: str = ""
    subtitles: bool = False
    """Whether the transcript came with the source as subtitles, rather than from speech recognition."""
    source_caption: str | None = None
    title: str | None = None
    texts: tuple[str, ...] = field(default=())


class Captioner(ABC):
    """A backend. Every step gives each input's clip id with its result, lazily and in any order, once each.

    A bad input gives a Refusal; only what no input could mend (a server that is gone) is raised.
    """

    name: ClassVar[str]
    reads_transcript: ClassVar[bool] = False
    """Whether `merge` looks at the words spoken in the clip."""
    answers: AnswerLog | None = None
    """Where answers that cost money are kept until their rows are stored; the write path sets it."""

    @abstractmethod
    def spec(self, step: str) -> dict[str, Any]:
        """All that decides the texts of a step (`coarse`, `fine`, `merge`): model, revision, prompt, decoding
        parameters, frame policy and code version. Its hash is the step's version: what is not here must not
        change a text (addresses, keys, batch sizes)."""

    @abstractmethod
    def coarse(self, clips: Iterable[ClipInput]) -> Iterator[tuple[str, CoarseCaption | Refusal]]:
        """A text of each clip's middle frame."""

    @abstractmethod
    def fine(self, clips: Iterable[ClipInput]) -> Iterator[tuple[str, FineCaption | Refusal]]:
        """Texts of each clip's frames at about one a second."""

    @abstractmethod
    def merge(self, clips: Iterable[MergeInput]) -> Iterator[tuple[str, str | Refusal]]:
        """One caption for each clip from its texts."""

    def spent(self) -> dict[str, float]:
        """What was used since this was last asked, for the cost ledger: requests, retries, tokens, money."""
        return {}


@dataclass(frozen=True)
class FramePolicy:
    """Which frames are looked at; part of the version."""

    max_second_frames: int = 8

    def seconds(self, frames: ClipFrames) -> list[int]:
        """Indices into the per-second frames, evenly thinned to `max_second_frames`."""
        count = len(frames.seconds)
        if count <= self.max_second_frames:
            return list(range(count))
        if self.max_second_frames == 1:
            return [count // 2]
        return sorted({round(i * (count - 1) / (self.max_second_frames - 1)) for i in range(self.max_second_frames)})


def batched(items: Iterable[T], size: int) -> Iterator[Sequence[T]]:
    """Lists of up to `size` items, in order."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def captioner_names() -> list[str]:
    """The backends that can be chosen."""
    return sorted(_BACKENDS)


def load_captioner(name: str, options: Mapping[str, str] | None = None) -> Captioner:
    """Make a captioner; models load when first used.

    Raises: ValueError for an unknown name or option, or an option's wrong value.
    """
    if name not in _BACKENDS:
        raise ValueError(f"captioner {name!r} does not exist: choose one of {', '.join(captioner_names())}")
    module, _, kind = _BACKENDS[name].partition(":")
    captioner = getattr(import_module(module), kind)
    known = list(signature(captioner).parameters)
    for option in options or {}:
        if option not in known:
            raise ValueError(f"captions.options.{option} does not exist: {name} takes {', '.join(known)}")
    try:
        return captioner(**(options or {}))
    except ValueError as error:
        raise ValueError(f"captions.options for {name}: {error}") from error
