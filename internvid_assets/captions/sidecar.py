"""Text that came with the source: alt text, title, subtitles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from internvid_assets.captions.base import Captioner, ClipInput, CoarseCaption, FineCaption, MergeInput
from internvid_assets.lake.stage import Refusal

CODE_VERSION = "2"
FIELDS = ("caption", "subtitles", "title")


class SidecarCaptioner(Captioner):
    """Every clip gets the first of `fields` that its source has: the video's `caption` (alt text) or `title`, or the
    `subtitles` shown during the clip.
    """

    name = "sidecar"
    reads_transcript = True

    def __init__(self, fields: str = "caption,title,subtitles"):
        self._fields = tuple(part.strip() for part in fields.split(",") if part.strip())
        unknown = [field for field in self._fields if field not in FIELDS]
        if unknown or not self._fields:
            raise ValueError(f"fields = {fields!r} must name some of {', '.join(FIELDS)}, with commas between")

    def spec(self, step: str) -> dict[str, Any]:
        """See `Captioner.spec`."""
        return {"code_version": CODE_VERSION} | ({} if step == "fine" else {"fields": self._fields})

    def coarse(self, clips: Iterable[ClipInput]) -> Iterator[tuple[str, CoarseCaption | Refusal]]:
        """The text of the whole video; empty when only subtitles may be known."""
        for clip in clips:
            text = self._first({"caption": clip.source_caption, "title": clip.title})
            yield clip.clip_id, CoarseCaption(text) if text or "subtitles" in self._fields else _missing(self._fields)

    def fine(self, clips: Iterable[ClipInput]) -> Iterator[tuple[str, FineCaption | Refusal]]:
        """Nothing is known of single frames."""
        for clip in clips:
            yield clip.clip_id, FineCaption((), ())

    def merge(self, clips: Iterable[MergeInput]) -> Iterator[tuple[str, str | Refusal]]:
        """The first text there is; `no_source_text` when the source brought none."""
        for clip in clips:
            subtitles = clip.transcript if clip.subtitles else None
            text = self._first({"caption": clip.source_caption, "title": clip.title, "subtitles": subtitles})
            yield clip.clip_id, text or _missing(self._fields)

    def _first(self, given: dict[str, str | None]) -> str:
        found = (" ".join((given.get(field) or "").split()) for field in self._fields)
        return next((text for text in found if text), "")


def _missing(fields: tuple[str, ...]) -> Refusal:
    return Refusal("no_source_text", f"the source came with none of {', '.join(fields)}")
