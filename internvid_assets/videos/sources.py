"""Where videos come from: whatever a user names becomes a stream of sources, and these become batches."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from internvid_assets.lake import Append, Lake, Write
from internvid_assets.lake.stage import short_hash
from internvid_assets.settings import Settings
from internvid_assets.store.objects import s3_client
from internvid_assets.videos.addresses import MEDIA_SUFFIXES, AddressError, canonical, is_list, is_remote, youtube_id
from internvid_assets.videos.buckets import bucket_sources
from internvid_assets.videos.fetch.download import Limits, download
from internvid_assets.videos.fetch.failures import FetchFailure
from internvid_assets.videos.fetch.http import HtmlPage, HttpRemote, http_pool
from internvid_assets.videos.fetch.s3 import S3Remote
from internvid_assets.videos.folders import file_source, folder_files
from internvid_assets.videos.manifests import MANIFEST_SUFFIXES, manifest_sources
from internvid_assets.videos.site_lists import listed_sources
from internvid_assets.videos.source import Source, SourceError
from internvid_assets.videos.tars import tar_sources

__all__ = ["Source", "SourceError", "discover", "open_batches"]
_CHUNK_SOURCES = 50_000
"""Sources that are compared with the lake at once."""


def discover(locations: Iterable[str | Path], settings: Settings | None = None) -> Iterator[Source]:
    """The sources of every location, one after the other, with the metadata that came with them.

    A location is a folder, a file, `s3://bucket/prefix`, an `http(s)://` address of a file or of a site's page,
    `youtube:ID`, a search (`ytsearch20:words`), a playlist or channel, or a manifest: `.csv`, `.tsv`, `.jsonl`, `.parquet`,
    `.txt` (a line an address), a WebDataset `.tar`, each on this machine or (but for `.tar`) elsewhere. In a folder every
    file that is no sidecar is a source: what is not a video is refused by the gate, with a reason.

    Raises: SourceError when a location is missing, unreadable or wrong; of all locations before the first source.
    """
    settings = settings or Settings()
    readers = [_reader(str(location), settings) for location in locations]
    return (found for read in readers for source in read() for found in _expanded(source, settings))


def _expanded(source: Source, settings: Settings) -> Iterator[Source]:
    """The source, or the videos of the list that it names."""
    if is_list(source.source_uri):
        yield from listed_sources(source, settings.fetch, settings.cache_folder / "listings")
    else:
        yield source


def _reader(location: str, settings: Settings) -> Callable[[], Iterator[Source]]:
    """What gives the location's sources. Raises: SourceError when it cannot be there."""
    try:
        address = canonical(location)
    except AddressError as error:
        raise SourceError(f"source {error}") from error
    if not is_remote(address) and not is_list(address):
        return _local_reader(Path(address), location)
    suffix = Path(urlsplit(address).path).suffix.lower()
    if suffix == ".tar":
        raise SourceError(f"source {location}: shards are read from this machine only: copy it, and give the copy")
    if suffix in MANIFEST_SUFFIXES and not is_list(address):
        return lambda: manifest_sources(_local_copy(address, suffix, settings), address)
    if address.startswith("s3://") and suffix not in MEDIA_SUFFIXES:
        return lambda: bucket_sources(s3_client(settings.s3), address)
    return lambda: iter([Source(address, youtube_id=youtube_id(address))])


def _local_reader(path: Path, location: str) -> Callable[[], Iterator[Source]]:
    suffix = path.suffix.lower()
    try:
        if path.is_dir():
            next(path.iterdir(), None)
            return lambda: _folder_sources(path)
        if not path.is_file():
            raise SourceError(
                f"source {location} does not exist: give a folder of videos, a video file, a manifest or an address"
            )
        path.open("rb").close()
    except PermissionError as error:
        raise SourceError(f"source {location} cannot be read: {error.strerror}; mend its permissions") from error
    if suffix == ".tar":
        return lambda: tar_sources(path)
    if suffix in MANIFEST_SUFFIXES:
        return lambda: manifest_sources(path, path.parent)
    return lambda: iter([file_source(path)])


def _folder_sources(folder: Path) -> Iterator[Source]:
    """Files with what lies beside them, and the samples of shards."""
    for path, sidecars in folder_files(folder):
        if path.suffix.lower() == ".tar":
            yield from tar_sources(path)
        else:
            yield file_source(path, sidecars)


def _local_copy(address: str, suffix: str, settings: Settings) -> Path:
    """A manifest of another machine, fetched anew. Raises: SourceError when it cannot be had."""
    folder = settings.cache_folder / "manifests" / short_hash(address)
    shutil.rmtree(folder, ignore_errors=True)
    remote = (
        S3Remote(s3_client(settings.s3), address)
        if address.startswith("s3://")
        else HttpRemote(http_pool(1, settings.fetch.idle_seconds), address)
    )
    try:
        body = download(remote, address, folder, Limits(settings.fetch.max_bytes, settings.fetch.seconds_limit)).path
    except FetchFailure as failure:
        raise SourceError(f"source {address} cannot be fetched ({failure.name}): {failure.detail}") from failure
    except HtmlPage as error:
        raise SourceError(f"source {address} gives a web page, not a manifest: mend the address") from error
    target = folder / f"manifest{suffix}"
    os.replace(body, target)
    return target


def open_batches(lake: Lake, sources: Iterable[Source], batch_size: int, run_id: str = "cli") -> list[str]:
    """Assign sources that the lake does not know to new batches; all batches that hold any of the sources, in order.

    Known sources keep their batch, so repeating changes nothing. Sources are read, compared and stored in chunks, so
    memory does not grow with their number. The name carries a hash of the members, so two processes that open batches at
    once cannot give one name to two different batches.
    """
    batches: set[str] = set()
    waiting: dict[str, Source] = {}  # new to the lake, less than a batch
    for chunk in _chunks(sources, _CHUNK_SOURCES):
        held = _batches_of(lake, list(chunk))
        batches |= set(held.values())
        waiting |= {uri: source for uri, source in chunk.items() if uri not in held and uri not in waiting}
        whole = len(waiting) // batch_size * batch_size
        batches |= _assign(lake, list(waiting.values())[:whole], batch_size, run_id)
        waiting = dict(list(waiting.items())[whole:])
    return sorted(batches | _assign(lake, list(waiting.values()), batch_size, run_id))


def _chunks(sources: Iterable[Source], size: int) -> Iterator[dict[str, Source]]:
    """The sources by address, so many at a time; of one address the first."""
    chunk: dict[str, Source] = {}
    for source in sources:
        chunk.setdefault(source.source_uri, source)
        if len(chunk) == size:
            yield chunk
            chunk = {}
    if chunk:
        yield chunk


def _batches_of(lake: Lake, uris: list[str]) -> dict[str, str]:
    """Address to batch, of those that the lake knows."""
    given = lake.to_arrow("videos.sources", [{"source_uri": uri} for uri in uris]).select(["source_uri"])
    rows = lake.joined("select source_uri, batch from videos.sources join given using (source_uri)", given)
    return {row["source_uri"]: row["batch"] for row in rows}


def _assign(lake: Lake, new: list[Source], batch_size: int, run_id: str) -> set[str]:
    """Store the sources in batches; the batches that hold them, which another process may have opened meanwhile."""
    if not new:
        return set()
    first = lake.value("select coalesce(max(split_part(batch, '_', 2)::integer) + 1, 0) from videos.sources")
    rows = []
    for offset in range(0, len(new), batch_size):
        members = new[offset : offset + batch_size]
        batch = f"batch_{first + offset // batch_size:06d}_{short_hash([m.source_uri for m in members])[:8]}"
        rows += [member.row(batch) for member in members]
    write = Write(asset="videos.sources", run_id=run_id, num_in=len(new), num_out=len(rows))
    lake.commit(write, [Append("videos.sources", lake.to_arrow("videos.sources", rows), ("source_uri",))])
    return set(_batches_of(lake, [source.source_uri for source in new]).values())
