"""Videos of sites, by yt-dlp: streams, metadata and subtitles; and the entries of playlists, channels and searches."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from internvid_assets.settings import FetchSettings
from internvid_assets.videos.fetch.failures import FetchFailure, failure_of_site_status, failure_of_words

_MEDIA = "media"
_NUMBERS = ("ratelimit", "throttledratelimit", "sleep_interval", "max_sleep_interval", "sleep_interval_requests")


@dataclass(frozen=True)
class SiteVideo:
    """A fetched file with what the site says of it, and its subtitle files by language tag."""

    path: Path
    num_bytes: int
    metadata: dict[str, Any]
    subtitles: dict[str, Path] = field(default_factory=dict)


def fetch_site_video(address: str, folder: Path, fetch: FetchSettings, language: str) -> SiteVideo:
    """The video behind a page's address, with subtitles in the language (uploaded, else automatic).

    yt-dlp goes on with a partial file of its own in `folder`.

    Raises: FetchFailure; OSError of this machine.
    """
    import yt_dlp

    guard = _Guard(fetch)
    options = _options(fetch) | {
        "outtmpl": str(folder / f"{_MEDIA}.%(ext)s"),
        "format": fetch.site_format,
        "noplaylist": True,
        "writesubtitles": True,
        "writeautomaticsub": True,
        "subtitleslangs": [language, f"{language}-.*"],
        "subtitlesformat": "vtt/srt/best",
        "progress_hooks": [guard.progress],
        "overwrites": False,
        "merge_output_format": "mp4/mkv",
    }
    try:
        with yt_dlp.YoutubeDL(options) as downloader:
            info = downloader.extract_info(address)
    except FetchFailure:
        raise
    except Exception as error:
        raise _failure(error) from error
    if not info or info.get("_type") == "playlist":
        raise FetchFailure("unsupported", "the page holds a list of videos: give the list as a source of its own")
    return _found(info, folder)


def _found(info: dict[str, Any], folder: Path) -> SiteVideo:
    files = [Path(item["filepath"]) for item in info.get("requested_downloads") or () if item.get("filepath")]
    path = next((file for file in files if file.is_file()), None)
    if path is None:
        raise FetchFailure("site_error", "yt-dlp gave no file")
    if not path.stat().st_size:
        raise FetchFailure("wrong_length", "the file is empty")
    subtitles = {
        tag: Path(item["filepath"])
        for tag, item in (info.get("requested_subtitles") or {}).items()
        if item.get("filepath") and Path(item["filepath"]).suffix in (".vtt", ".srt")
    }
    return SiteVideo(
        path, path.stat().st_size, site_metadata(info), {t: p for t, p in subtitles.items() if p.is_file()}
    )


def site_metadata(info: dict[str, Any]) -> dict[str, Any]:
    """What a site says of a video, by our names; without what it does not say."""
    found = {
        "title": info.get("title") if info.get("extractor") != "generic" else None,
        "description": info.get("description"),
        "tags": list(info.get("tags") or ()),
        "language": (info.get("language") or "").split("-")[0] or None,
        "license": info.get("license"),
    }
    return {name: value for name, value in found.items() if value}


def list_entries(address: str, fetch: FetchSettings) -> Iterator[dict[str, Any]]:
    """The entries of a playlist, channel or search (`ytsearch20:words`), as yt-dlp lists them without asking for each.

    Raises: FetchFailure.
    """
    import yt_dlp

    options = _options(fetch) | {"extract_flat": "in_playlist", "playlistend": fetch.max_listed, "lazy_playlist": True}
    try:
        with yt_dlp.YoutubeDL(options) as downloader:
            info = downloader.extract_info(address, download=False, process=True) or {}
            yield from (entry for entry in info.get("entries") or () if entry)
    except Exception as error:
        raise _failure(error) from error


def has_extractor(address: str) -> bool:
    """Whether yt-dlp knows the site of an address by name."""
    from yt_dlp.extractor import gen_extractor_classes

    return any(known.IE_NAME != "generic" and known.suitable(address) for known in gen_extractor_classes())


def _options(fetch: FetchSettings) -> dict[str, Any]:
    """Quiet, impatient (we repeat ourselves), and the user's own parameters last."""
    own = {name: float(value) if name in _NUMBERS else value for name, value in fetch.site_options.items()}
    return {
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "logger": _Silent(),
        "retries": 0,
        "extractor_retries": 1,
        "fragment_retries": 3,
        "socket_timeout": fetch.idle_seconds,
        "cachedir": False,
        **own,
    }


class _Silent:
    """yt-dlp's messages come as errors; its lines go nowhere."""

    def debug(self, message: str) -> None:
        """Nothing."""

    info = warning = error = debug


class _Guard:
    """Limits of time and size while yt-dlp downloads."""

    def __init__(self, fetch: FetchSettings):
        self._fetch, self._ends_at = fetch, time.monotonic() + fetch.seconds_limit

    def progress(self, status: dict[str, Any]) -> None:
        """Called by yt-dlp at every chunk. Raises: FetchFailure beyond a limit."""
        expected = max(status.get("downloaded_bytes") or 0, status.get("total_bytes") or 0)
        if expected > self._fetch.max_bytes:
            raise FetchFailure("too_big", f"{expected} bytes, fetch.max_bytes is {self._fetch.max_bytes}")
        if time.monotonic() > self._ends_at:
            raise FetchFailure("timeout", f"not done after fetch.seconds_limit = {self._fetch.seconds_limit:g} s")


def _failure(error: BaseException) -> FetchFailure | OSError:
    """What yt-dlp's error means; an error of this machine's disk as it is."""
    from yt_dlp.networking.exceptions import HTTPError, TransportError
    from yt_dlp.utils import GeoRestrictedError, UnsupportedError

    for inner in _chain(error):
        if isinstance(inner, FetchFailure):
            return inner
        if isinstance(inner, OSError) and inner.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            return inner
        if isinstance(inner, HTTPError):
            return failure_of_site_status(inner.status, inner.reason or "", dict(inner.response.headers))
        if isinstance(inner, GeoRestrictedError):
            return FetchFailure("geo_blocked", str(inner)[:300])
        if isinstance(inner, UnsupportedError):
            return FetchFailure("unsupported", str(inner)[:300])
    told = failure_of_words(str(error))
    if told.name == "site_error" and any(isinstance(inner, TransportError) for inner in _chain(error)):
        return FetchFailure("connection", told.detail)
    return told


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it, as Python and as yt-dlp keep it."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        if (inner := waiting.pop(0)) is None or any(inner is other for other in seen):
            continue
        seen.append(inner)
        kept = getattr(inner, "exc_info", None)
        waiting += [inner.__cause__, kept[1] if kept else None, getattr(inner, "cause", None), inner.__context__]
    yield from seen
