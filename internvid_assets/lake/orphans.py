"""Objects that no table names: left behind by a killed run, or by rows that were replaced."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

import pyarrow as pa

from internvid_assets.lake.catalog import Lake
from internvid_assets.lake.changes import Replace, Write
from internvid_assets.store import ObjectStore

_NAMED = {
    "videos/": ("object_key", "select media_key as name from videos.raw_videos"),
    "subtitles/": ("object_key", "select unnest(subtitle_keys) as name from videos.raw_videos"),
    "frames/": ("object_key", "select frame_pack_key as name from clips.clips"),
    "releases/": ("folder", "select 'releases/' || release_id as name from release.dataset_release"),
    "shards/": ("folder", "select 'shards/' || shards_id as name from release.training_shards"),
    "checkpoints/": ("folder", "select checkpoint_key as name from viclip.viclip_checkpoint"),
    "reports/": ("folder", "select report_key as name from viclip.viclip_evaluation"),
}
"""Prefix to what a table names there, one object or all of a folder. Of other prefixes nothing is an orphan."""
_CHUNK = 100_000


def find_orphans(lake: Lake, store: ObjectStore) -> Iterator[str]:
    """Keys that no table names as it now is. Keys are listed by prefix and looked up in chunks: no list is held whole."""
    for prefix, (part, named) in _NAMED.items():
        listed = store.keys(prefix)
        while keys := list(islice(listed, _CHUNK)):
            folders = ["/".join(key.split("/")[:2]) for key in keys]
            given = pa.table({"object_key": keys, "folder": folders})
            sql = (
                f"select object_key from given where {part} not in (select name from ({named}) where name is not null)"
            )
            yield from (row["object_key"] for row in lake.joined(sql, given))


def sweep(lake: Lake, store: ObjectStore, keep_days: float, now: datetime | None = None) -> dict[str, int]:
    """Delete objects that no table has named for `keep_days`, by which time no snapshot names them either.

    When one was first found is kept in `lineage.orphans`; what a run has named since is forgotten there.

    Returns: how many were found, and how many deleted.
    """
    now = now or datetime.now(UTC)
    seen = {row["object_key"]: row["seen_at"] for row in lake.rows("select * from lineage.orphans")}
    found = {key: seen.get(key, now) for key in find_orphans(lake, store)}
    due = {key for key, seen_at in found.items() if now - seen_at >= timedelta(days=keep_days)}
    for key in sorted(due):
        store.delete(key)
    rows = [{"object_key": key, "seen_at": seen_at} for key, seen_at in found.items() if key not in due]
    write = Write("lineage.orphans", "maintain_lake", num_in=len(found), num_out=len(rows))
    lake.commit(write, [Replace("lineage.orphans", lake.to_arrow("lineage.orphans", rows))])
    return {"orphans_found": len(found), "orphans_deleted": len(due)}
