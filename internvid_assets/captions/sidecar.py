"""Text that came with the source: alt text or title, as it is."""

from __future__ import annotations

from collections.abc import Sequence

from internvid_assets.captions.base import ClipInput, CoarseCaption, FineCaption, MergeInput
from internvid_assets.lake.stage import Refusal, short_hash

CODE_VERSION = "1"


class SidecarCaptioner:
    """Every clip of a video gets the caption of the source, or else its title."""

    name = "sidecar"
    version = short_hash(CODE_VERSION)

    def coarse(self, clips: Sequence[ClipInput]) -> list[CoarseCaption | Refusal]:
        """The source's text; `no_source_text` when it brought none."""
        return [CoarseCaption(text) if (text := _text(c.source_caption, c.title)) else _missing() for c in clips]

    def fine(self, clips: Sequence[ClipInput]) -> list[FineCaption | Refusal]:
        """Nothing is known of single frames."""
        return [FineCaption((), ()) for _ in clips]

    def merge(self, clips: Sequence[MergeInput]) -> list[str | Refusal]:
        """The coarse text."""
        return [clip.coarse.text for clip in clips]


def _text(caption: str | None, title: str | None) -> str:
    return " ".join((caption or title or "").split())


def _missing() -> Refusal:
    return Refusal("no_source_text", "the source came with neither caption nor title")
