"""The videos of playlists, channels and searches as sources. A list that was fetched is kept, and not asked for again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from internvid_assets.lake.stage import short_hash
from internvid_assets.settings import FetchSettings
from internvid_assets.videos.addresses import AddressError, canonical, is_search, youtube_id
from internvid_assets.videos.fetch.failures import FetchFailure
from internvid_assets.videos.fetch.site import list_entries
from internvid_assets.videos.source import Source, SourceError

_SEARCH_HOST = "www.youtube.com"


def listed_sources(listing: Source, fetch: FetchSettings, cache: Path) -> Iterator[Source]:
    """Every video of the list that `listing` names, each with what the listing says (query, language, …).

    Args:
        cache: folder in which fetched lists are kept. Delete it to see what is new in a channel.

    Raises: SourceError when the list cannot be had.
    """
    address = listing.source_uri
    query = listing.query or (address.partition(":")[2] if is_search(address) else None)
    kept = cache / f"{short_hash(address, fetch.max_listed)}.jsonl"
    if not kept.is_file():
        _fetch(address, fetch, kept)
    for line in kept.read_text().splitlines():
        entry = json.loads(line)
        yield replace(
            listing, source_uri=entry["uri"], youtube_id=youtube_id(entry["uri"]), query=query,
            title=listing.title or entry["title"],
        )  # fmt: skip


def _fetch(address: str, fetch: FetchSettings, kept: Path) -> None:
    rate = fetch.host_requests_per_second.get(_SEARCH_HOST, fetch.requests_per_second)
    try:
        entries = [found for entry in list_entries(address, fetch) if (found := _entry(entry))]
    except FetchFailure as failure:
        raise SourceError(
            f"source {address} cannot be listed ({failure.name}): {failure.detail}; repeat later, the lists fetched before "
            "are kept, or leave it out"
        ) from failure
    if not entries:
        raise SourceError(f"source {address} lists no videos: give another search, playlist or channel")
    kept.parent.mkdir(parents=True, exist_ok=True)
    temporary = kept.with_suffix(".new")
    temporary.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    os.replace(temporary, kept)
    time.sleep(1 / rate if rate else 0.0)


def _entry(entry: dict[str, Any]) -> dict[str, Any] | None:
    """Address and title; None for what is no video, such as a list in a list."""
    try:
        uri = canonical(entry.get("webpage_url") or entry.get("url") or "")
    except AddressError:
        return None
    return {"uri": uri, "title": entry.get("title")} if entry.get("_type") != "playlist" else None
