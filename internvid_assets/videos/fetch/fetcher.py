"""A source's bytes as a file on this machine, wherever they are."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from internvid_assets.settings import Settings
from internvid_assets.store import file_sha256
from internvid_assets.store.objects import s3_client
from internvid_assets.videos.addresses import MEDIA_SUFFIXES, is_remote, split_member, suffix_of, youtube_id
from internvid_assets.videos.fetch.download import Downloaded, Limits, Remote, download
from internvid_assets.videos.fetch.failures import RETRYABLE, FetchFailure
from internvid_assets.videos.fetch.http import HtmlPage, HttpRemote, http_pool
from internvid_assets.videos.fetch.s3 import S3Remote
from internvid_assets.videos.fetch.site import fetch_site_video, has_extractor
from internvid_assets.videos.tars import extract_member

_MAX_SUBTITLE_BYTES = 64 * 2**20
_TAG = re.compile(r"\.([A-Za-z]{2,3}(?:-[A-Za-z0-9]+)*)$")


@dataclass(frozen=True)
class Fetched:
    """A file with a source's bytes. `sha256` is None where it was not read yet; `num_bytes` came over the wire."""

    path: Path
    suffix: str
    sha256: str | None = None
    num_bytes: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)
    subtitles: tuple[tuple[str, Path], ...] = ()
    """(language tag or `und`, file)."""
    is_ours: bool = True
    """Whether the file is a copy that only we know."""


class Fetcher:
    """Fetches rows of `videos.sources`; threads may share it, for different sources. Partial files wait in the cache."""

    def __init__(self, settings: Settings):
        self._settings, self._fetch = settings, settings.fetch
        self._cache = settings.cache_folder / "fetch"

    @cached_property
    def _pool(self) -> Any:
        return http_pool(self._fetch.concurrency, self._fetch.idle_seconds)

    @cached_property
    def _s3(self) -> Any:
        seconds = self._fetch.idle_seconds
        return s3_client(
            self._settings.s3,
            max_pool_connections=self._fetch.concurrency,
            connect_timeout=seconds,
            read_timeout=seconds,
        )

    def fetch(self, source: Mapping[str, Any]) -> Fetched:
        """The source's file.

        Raises: FetchFailure; for a source of this machine FileNotFoundError and PermissionError; OSError such as a full disk.
        """
        uri = source["source_uri"]
        if not is_remote(uri) and split_member(uri) is None:
            return Fetched(Path(uri), Path(uri).suffix.lower(), is_ours=False)
        folder = self.folder(uri)
        folder.mkdir(parents=True, exist_ok=True)
        return self._fetch_into(source, folder)

    def folder(self, uri: str) -> Path:
        """Where the parts of a source wait."""
        return self._cache / hashlib.sha256(uri.encode()).hexdigest()[:32]

    def forget(self, uri: str) -> None:
        """Delete what waits of a source."""
        shutil.rmtree(self.folder(uri), ignore_errors=True)

    def _fetch_into(self, source: Mapping[str, Any], folder: Path) -> Fetched:
        uri = source["source_uri"]
        limits = Limits(
            self._fetch.max_bytes, self._fetch.seconds_limit,
            source["expected_bytes"], source["expected_sha256"], source["expected_md5"],
        )  # fmt: skip
        if self._is_of_site(uri):
            return self._site(source, folder, limits)
        try:
            done = self._file(uri, folder, limits)
        except HtmlPage:
            return self._site(source, folder, limits)
        return Fetched(
            done.path, suffix_of(uri), done.sha256, done.num_bytes, subtitles=self._subtitles(source, folder)
        )

    def _is_of_site(self, uri: str) -> bool:
        """Whether yt-dlp is asked at once; of other addresses only when a page comes instead of a file."""
        if not uri.startswith("http") or suffix_of(uri) in MEDIA_SUFFIXES:
            return False
        return youtube_id(uri) is not None or has_extractor(uri)

    def _file(self, uri: str, folder: Path, limits: Limits) -> Downloaded:
        if member := split_member(uri):
            target = folder / "body"
            folder.mkdir(parents=True, exist_ok=True)
            extract_member(*member, target)
            return Downloaded(target, file_sha256(target), 0)
        return download(self._remote(uri), uri, folder, limits)

    def _remote(self, uri: str) -> Remote:
        return S3Remote(self._s3, uri) if uri.startswith("s3://") else HttpRemote(self._pool, uri)

    def _site(self, source: Mapping[str, Any], folder: Path, limits: Limits) -> Fetched:
        wanted = source["language"] or self._settings.captions.language
        video = fetch_site_video(source["source_uri"], folder, self._fetch, wanted)
        if limits.expected_bytes not in (None, video.num_bytes):
            raise FetchFailure("wrong_length", f"{video.num_bytes} bytes, the manifest says {limits.expected_bytes}")
        digest = file_sha256(video.path)
        if limits.expected_sha256 not in (None, digest):
            raise FetchFailure("wrong_hash", f"the manifest says {limits.expected_sha256}, the file has {digest}")
        subtitles = (*video.subtitles.items(), *self._subtitles(source, folder))
        return Fetched(video.path, video.path.suffix.lower(), digest, video.num_bytes, video.metadata, subtitles)

    def _subtitles(self, source: Mapping[str, Any], folder: Path) -> tuple[tuple[str, Path], ...]:
        """The subtitle files that the source names; those that are not there are left out."""
        found = []
        for number, uri in enumerate(source["subtitles"] or ()):
            limits = Limits(_MAX_SUBTITLE_BYTES, self._fetch.seconds_limit)
            try:
                if not is_remote(uri) and split_member(uri) is None:
                    found.append((_tag(uri), Path(uri))) if Path(uri).is_file() else None
                else:
                    found.append((_tag(uri), self._file(uri, folder / f"subtitles-{number}", limits).path))
            except FetchFailure as failure:
                if failure.name in RETRYABLE:
                    raise
            except (HtmlPage, FileNotFoundError):
                continue
        return tuple(found)


def _tag(uri: str) -> str:
    """The language tag of `NAME.en.vtt`; `und` without one."""
    match = _TAG.search(Path(uri).with_suffix("").name)
    return match[1] if match else "und"
