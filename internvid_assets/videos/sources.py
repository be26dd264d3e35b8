"""Where videos come from: folders and files, with the metadata that lies beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from internvid_assets.lake import Append, Lake, Write
from internvid_assets.lake.stage import short_hash

_SIDECAR_SUFFIXES = frozenset({".srt", ".vtt", ".json", ".txt", ".description"})
_YOUTUBE_ID = re.compile(r"\[([A-Za-z0-9_-]{11})\]$")


class SourceError(ValueError):
    """A source the user named cannot be used; the message says which, why and how to mend it."""


@dataclass(frozen=True)
class Source:
    """One file to ingest and what is known about it."""

    source_uri: str
    youtube_id: str | None = None
    title: str | None = None
    description: str | None = None
    tags: tuple[str, ...] = ()
    query: str | None = None
    language: str | None = None
    license: str | None = None
    caption: str | None = None


def discover(locations: Iterable[str | Path]) -> list[Source]:
    """Every file under the locations, in path order, with its sidecar metadata.

    A sidecar (`clip.json`, `clip.info.json` as yt-dlp writes it, `clip.txt`, `clip.srt`, `clip.vtt`) lies beside the
    file it describes. Any other file is a source: what is not a video is refused by the gate, with a reason.

    Raises: SourceError when a location is missing, unreadable or holds no file.
    """
    found: dict[str, Source] = {}
    for location in locations:
        for path in _files(Path(location)):
            found.setdefault(str(path), _described(path))
    return [found[uri] for uri in sorted(found)]


def _files(location: Path) -> Iterator[Path]:
    try:
        if location.is_file():
            yield location.resolve()
            return
        if not location.is_dir():
            raise SourceError(f"source {location} does not exist: give a folder of videos or video files")
        paths = sorted(p for p in location.resolve().rglob("*") if p.is_file() and not _hidden(p, location.resolve()))
        next(location.iterdir(), None)
    except PermissionError as error:
        raise SourceError(f"source {location} cannot be read: {error.strerror}; mend its permissions") from error
    stems = {p.with_suffix("") for p in paths if p.suffix.lower() not in _SIDECAR_SUFFIXES}
    videos = [p for p in paths if not _is_sidecar(p, stems)]
    if not videos:
        raise SourceError(f"source {location} holds no files: give a folder of videos or video files")
    yield from videos


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _is_sidecar(path: Path, stems: set[Path]) -> bool:
    if path.suffix.lower() not in _SIDECAR_SUFFIXES:
        return False
    bare = path.with_suffix("")
    return bare in stems or bare.with_suffix("") in stems  # clip.srt, or clip.en.srt and clip.info.json


def _described(path: Path) -> Source:
    info = _info(path)
    caption_file = path.with_suffix(".txt")
    caption = info.get("caption") or (caption_file.read_text().strip() if caption_file.is_file() else None)
    match = _YOUTUBE_ID.search(path.stem)
    return Source(
        source_uri=str(path),
        youtube_id=info.get("youtube_id") or (match.group(1) if match else None),
        title=info.get("title"),
        description=info.get("description"),
        tags=tuple(str(tag) for tag in info.get("tags") or ()),
        query=info.get("query"),
        language=info.get("language"),
        license=info.get("license"),
        caption=caption or None,
    )


def _info(path: Path) -> dict[str, Any]:
    for name in (path.with_suffix(".info.json"), path.with_suffix(".json")):
        if name.is_file():
            try:
                info = json.loads(name.read_text())
            except ValueError as error:
                raise SourceError(f"sidecar {name} is not JSON ({error}): mend or remove it") from error
            if not isinstance(info, dict):
                raise SourceError(f"sidecar {name} must hold one JSON object")
            return info
    return {}


def open_batches(lake: Lake, sources: Sequence[Source], batch_size: int, run_id: str = "cli") -> list[str]:
    """Assign sources that the lake does not know to new batches; all batches that hold any of the sources, in order.

    Known sources keep their batch, so repeating changes nothing. The name carries a hash of the members, so two
    processes that open batches at once cannot give one name to two different batches.
    """
    held = {row["source_uri"]: row["batch"] for row in lake.rows("select source_uri, batch from videos.sources")}
    new = [source for source in sources if source.source_uri not in held]
    first = 1 + max((int(batch.split("_")[1]) for batch in held.values()), default=-1)
    rows: list[dict[str, Any]] = []
    for offset in range(0, len(new), batch_size):
        members = new[offset : offset + batch_size]
        batch = f"batch_{first + offset // batch_size:06d}_{short_hash([m.source_uri for m in members])[:8]}"
        rows += [{"batch": batch, **asdict(member), "tags": list(member.tags)} for member in members]
    if rows:
        write = Write(asset="videos.sources", run_id=run_id, num_in=len(sources), num_out=len(rows))
        lake.commit(write, [Append("videos.sources", lake.to_arrow("videos.sources", rows), ("source_uri",))])
    held |= {row["source_uri"]: row["batch"] for row in rows}
    return sorted({held[source.source_uri] for source in sources})
