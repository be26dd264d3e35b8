"""Which files tell of a video that lies beside them, in a folder, a bucket or a tar, and what they say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePath
from typing import Any

from internvid_assets.videos.source import SourceError, described

SIDECAR_SUFFIXES = frozenset({".srt", ".vtt", ".json", ".txt", ".description"})
SUBTITLE_SUFFIXES = frozenset({".srt", ".vtt"})
_YOUTUBE_ID = re.compile(r"\[([A-Za-z0-9_-]{11})\]$")


def split_sidecars(names: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Each file of one folder that is no sidecar, with the names of its sidecars; all in order.

    `clip.srt`, `clip.en.srt`, `clip.json`, `clip.info.json`, `clip.txt` and `clip.description` belong to `clip.mp4`.
    """
    names = sorted(names)
    stems = {_stem(name): name for name in reversed(names) if _suffix(name) not in SIDECAR_SUFFIXES}
    beside: dict[str, list[str]] = {name: [] for name in names}
    for name in names:
        if (owner := _owner(name, stems)) is not None:
            beside.pop(name)
            beside[owner].append(name)
    return sorted(beside.items())


def _owner(name: str, stems: dict[str, str]) -> str | None:
    """The file that a sidecar belongs to; None for a file that is none."""
    if _suffix(name) not in SIDECAR_SUFFIXES:
        return None
    bare = _stem(name)
    return stems.get(bare) or stems.get(_stem(bare))


def _suffix(name: str) -> str:
    return PurePath(name).suffix.lower()


def _stem(name: str) -> str:
    return str(PurePath(name).with_suffix(""))


def what_they_say(name: str, sidecars: Sequence[str], read: Callable[[str], bytes]) -> dict[str, Any]:
    """Metadata and caption of a file by its sidecars, by the names of `Source`, and the YouTube id that its name gives.

    Args:
        read: gives the bytes of a sidecar.

    Raises: SourceError for a sidecar that is broken.
    """
    infos = [sidecar for sidecar in sidecars if _suffix(sidecar) == ".json"]
    infos.sort(key=lambda sidecar: (".info." not in sidecar.lower(), sidecar))
    said = _info(infos[0], read(infos[0])) if infos else {}
    for sidecar in sidecars:
        if _suffix(sidecar) == ".txt" and _stem(sidecar) == _stem(name) and "caption" not in said:
            said["caption"] = read(sidecar).decode(errors="replace").strip() or None
    if match := _YOUTUBE_ID.search(PurePath(name).stem):
        said.setdefault("youtube_id", match[1])
    return said


def _info(name: str, data: bytes) -> dict[str, Any]:
    try:
        info = json.loads(data)
    except ValueError as error:
        raise SourceError(f"sidecar {name} is not JSON ({error}): mend or remove it") from error
    if not isinstance(info, dict):
        raise SourceError(f"sidecar {name} must hold one JSON object")
    try:
        said = described(info)
    except ValueError as error:
        raise SourceError(f"sidecar {name}: {error}; mend or remove it") from error
    return said | ({"youtube_id": str(info["youtube_id"])} if info.get("youtube_id") else {})


def subtitles_of(sidecars: Iterable[str]) -> list[str]:
    """The subtitle files among the sidecars."""
    return [name for name in sidecars if _suffix(name) in SUBTITLE_SUFFIXES]
