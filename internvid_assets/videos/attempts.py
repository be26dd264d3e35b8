"""Attempts at sources: fetch, probe, judge, store; patience with what may pass, none with what will not."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from internvid_assets.lake.stage import Refusal
from internvid_assets.settings import Settings
from internvid_assets.store import ObjectStore, file_sha256
from internvid_assets.videos.addresses import host_of, is_remote, split_member
from internvid_assets.videos.fetch.failures import RETRYABLE, FetchFailure
from internvid_assets.videos.fetch.fetcher import Fetched, Fetcher
from internvid_assets.videos.fetch.schedule import Again, Pace, paces, run_paced
from internvid_assets.videos.gate import Exclusions, refusal
from internvid_assets.videos.journal import Journal
from internvid_assets.videos.ledger import Outcome, utc_now
from internvid_assets.videos.probe import probe

_FIRST_PAUSE_SECONDS = 1.0
_CARRIED = ("title", "description", "tags", "query", "language", "license", "caption")
_SECTIONS = ("section_starts", "section_ends", "section_captions")


class Attempts:
    """One attempt at each of a batch's sources; what they end with is in the journal before it is given out."""

    def __init__(self, store: ObjectStore, settings: Settings, excluded: Exclusions, journal: Journal):
        self._store, self._settings, self._excluded, self._journal = store, settings, excluded, journal
        self._fetcher = Fetcher(settings)
        self._closed: dict[str, tuple[float, FetchFailure]] = {}
        """Hosts that want no request for longer than we wait: until when (monotonic), and what they said."""
        self._wasted: dict[str, int] = {}
        """Bytes that tries without success brought."""
        self._lock = threading.Lock()

    def run(self, sources: Sequence[Mapping[str, Any]]) -> Iterator[Outcome]:
        """The outcome of each source (a row of `videos.sources`), as they end. Raises: OSError such as a full disk."""
        fetch = self._settings.fetch
        by_host = paces(fetch.per_host, fetch.requests_per_second, fetch.host_requests_per_second)

        def pace(host: str) -> Pace:
            return by_host(host) if host else Pace(self._settings.workers)

        yield from run_paced(sources, lambda source: host_of(source["source_uri"]), self._once, pace, fetch.concurrency)

    def _once(self, source: Mapping[str, Any], number: int) -> Outcome | Again:
        """One try of one source; `Again` when it is worth another in this run."""
        uri, began = source["source_uri"], time.monotonic()
        if failure := self._host_is_closed(uri):
            return self._ended(_failed(uri, failure, number - 1), began)
        if refused := self._excluded.refusal("", source["youtube_id"] or "", uri):
            return self._ended(Outcome(uri, refused.reason, refused.detail, is_refusal=True), began)
        try:
            outcome = self._stored(source, self._fetcher.fetch(source))
        except FetchFailure as failure:
            self._wasted[uri] = self._wasted.get(uri, 0) + failure.num_bytes
            pause = self._pause(uri, failure, number)
            return pause or self._ended(_failed(uri, failure, number), began)
        except FileNotFoundError as error:
            if is_remote(uri):
                raise
            told = "the source is no longer there" if split_member(uri) is None else str(error.strerror)
            outcome = Outcome(uri, "gone", told)
        except PermissionError as error:
            if is_remote(uri):
                raise
            outcome = Outcome(uri, "permission_denied", str(error.strerror), is_refusal=True)
        return self._ended(replace(outcome, num_tries=number), began)

    def _ended(self, outcome: Outcome, began: float) -> Outcome:
        """With its times, kept in the journal; what lies in the cache for it goes, unless it is tried again."""
        num_bytes = outcome.num_bytes + self._wasted.pop(outcome.source_uri, 0)
        seconds = time.monotonic() - began
        outcome = replace(outcome, num_bytes=num_bytes, seconds=seconds, tried_at=utc_now().isoformat())
        if is_remote(outcome.source_uri):
            self._journal.add(outcome)
        if outcome.failure not in RETRYABLE:
            self._fetcher.forget(outcome.source_uri)
        return outcome

    def _pause(self, uri: str, failure: FetchFailure, number: int) -> Again | None:
        """Until the next try in this run; None when there is none. A host that asked for peace gets it, from all items."""
        fetch = self._settings.fetch
        wait = failure.wait_seconds
        if wait is not None and wait > fetch.max_wait_seconds:
            with self._lock:
                self._closed[host_of(uri)] = (time.monotonic() + wait, failure)
            return None
        if failure.name not in RETRYABLE or number >= fetch.max_tries:
            return None
        own = min(_FIRST_PAUSE_SECONDS * 2 ** (number - 1), fetch.max_wait_seconds) * random.uniform(0.5, 1.5)
        return Again(own if wait is None else wait, hold_host=wait is not None or failure.name == "rate_limited")

    def _host_is_closed(self, uri: str) -> FetchFailure | None:
        """The failure of an item whose host wants no request now."""
        with self._lock:
            until, failure = self._closed.get(host_of(uri), (0.0, None))
        left = until - time.monotonic()
        if failure is None or left <= 0:
            return None
        return FetchFailure(failure.name, f"not asked: the host wants no request for {left:.0f} s", left)

    def _stored(self, source: Mapping[str, Any], fetched: Fetched) -> Outcome:
        """The video, its bytes in the store, or why it is refused."""
        uri = source["source_uri"]
        facts = probe(fetched.path)
        license_name = source["license"] or fetched.metadata.get("license")
        refused = facts if isinstance(facts, Refusal) else refusal(facts, license_name, self._settings.gate)
        if refused is None:
            digest = fetched.sha256 or file_sha256(fetched.path)
            video_id = source["youtube_id"] or digest[:16]
            refused = self._excluded.refusal(digest, video_id, uri)
        if refused is not None:
            return Outcome(uri, refused.reason, refused.detail, is_refusal=True, num_bytes=fetched.num_bytes)
        assert not isinstance(facts, Refusal)
        video = {
            "video_id": video_id,
            "content_sha256": digest,
            "source_uri": uri,
            "media_key": self._kept(fetched, digest),
            "num_bytes": fetched.path.stat().st_size,
            **asdict(facts),
            **{name: source[name] or fetched.metadata.get(name) or source[name] for name in _CARRIED},
            **{name: source[name] for name in _SECTIONS},
            "subtitle_keys": self._kept_subtitles(fetched, digest) or None,
        }
        return Outcome(uri, video=video, num_bytes=fetched.num_bytes)

    def _kept(self, fetched: Fetched, digest: str) -> str:
        """The key under which the file is stored."""
        key = f"videos/{digest[:2]}/{digest}{fetched.suffix}"
        put = self._store.adopt_file if fetched.is_ours else self._store.put_file
        put(key, fetched.path, digest)
        return key

    def _kept_subtitles(self, fetched: Fetched, digest: str) -> list[str]:
        """The keys of the subtitle files: `subtitles/{content_sha256}/{hash}.{language tag}.srt|vtt`."""
        keys = []
        for tag, path in fetched.subtitles:
            found = file_sha256(path)
            suffix = path.suffix if path.suffix in (".srt", ".vtt") else _subtitle_suffix(path.read_bytes()[:16])
            keys.append(f"subtitles/{digest}/{found[:12]}.{tag}{suffix}")
            self._store.put_file(keys[-1], path, found)
        return keys


def _subtitle_suffix(head: bytes) -> str:
    return ".vtt" if head.lstrip(b"\xef\xbb\xbf").startswith(b"WEBVTT") else ".srt"


def _failed(uri: str, failure: FetchFailure, num_tries: int) -> Outcome:
    return Outcome(uri, failure.name, failure.detail, num_tries=num_tries, wait_seconds=failure.wait_seconds)
