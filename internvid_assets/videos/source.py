"""One thing to ingest, and what is known about it before its bytes are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any


class SourceError(ValueError):
    """A source the user named cannot be used; the message says which, why and how to mend it."""


@dataclass(frozen=True, slots=True)
class Source:
    """One video to ingest and what is known about it; the fields are those of `videos.sources`.

    Sections are wanted spans [section_starts[i], section_ends[i]) in seconds, in order; none: the whole video.
    `subtitles` are addresses; the expected size and hashes are what a manifest promises of the bytes.
    """

    source_uri: str
    youtube_id: str | None = None
    title: str | None = None
    description: str | None = None
    tags: tuple[str, ...] = ()
    query: str | None = None
    language: str | None = None
    license: str | None = None
    caption: str | None = None
    section_starts: tuple[float, ...] | None = None
    section_ends: tuple[float, ...] | None = None
    section_captions: tuple[str | None, ...] | None = None
    subtitles: tuple[str, ...] = ()
    expected_bytes: int | None = None
    expected_sha256: str | None = None
    expected_md5: str | None = None

    def row(self, batch: str) -> dict[str, Any]:
        """The source as a row of `videos.sources`."""
        return {"batch": batch, **{name: _listed(getattr(self, name)) for name in _NAMES}}


_NAMES = tuple(field.name for field in fields(Source))


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def described(info: dict[str, Any]) -> dict[str, Any]:
    """What a sidecar or a row of metadata says of its video, by the names of `Source`.

    Raises: ValueError naming a field of the wrong kind.
    """
    found: dict[str, Any] = {}
    for name in ("title", "description", "query", "language", "license", "caption"):
        value = info.get(name)
        if name == "license" and value is None:
            value = info.get("licence")
        if value not in (None, ""):
            found[name] = str(value).strip() or None
    if tags := as_tags(info.get("tags")):
        found["tags"] = tags
    return found


def as_tags(value: Any) -> tuple[str, ...]:
    """Tags of a list, of a JSON list, or of words with commas between. Raises: ValueError for anything else."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = json.loads(value)
    if isinstance(value, str):
        value = value.split(",")
    if value is None:
        return ()
    if not isinstance(value, Sequence):
        raise ValueError(f"tags {value!r} must be a list or words with commas between")
    return tuple(text for tag in value if (text := str(tag).strip()))
