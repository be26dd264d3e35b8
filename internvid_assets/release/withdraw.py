"""What a takedown removes beside the rows: objects of the media store, found and rewritten.

Shards and releases are known by their hashes, so what held the item is withdrawn, not mended: touched shards and the files
with a release's rows go, the rest stays as it was, and what must be made again is made anew under another id.
"""

from __future__ import annotations

import json
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from internvid_assets.lake import Lake, Replace
from internvid_assets.lake.takedown import Target, conditions
from internvid_assets.release.export import DATA_JSONL, DATA_PARQUET
from internvid_assets.store import ObjectStore, file_sha256

RELEASE_FILES = (DATA_JSONL, DATA_PARQUET, "availability.json")
"""The files of a release that name videos."""
_REPORT_FIGURES = ("accuracy.png", "training_curves.png", "confusion.png", "dataset.png")


def media_keys(lake: Lake, store: ObjectStore, target: Target) -> list[str]:
    """Objects that are the target's alone: videos, subtitles, and frame packs, those of earlier scans included."""
    where = conditions(lake, target)["videos.raw_videos"]
    rows = lake.rows(f"select media_key as key from videos.raw_videos where {where}") + lake.rows(
        f"{_packs(lake, target)} select key from packs except select key from shared"
    )
    prefixes = [f"frames/{video}/" for video in target.videos]
    prefixes += [prefix for h in target.hashes for prefix in (f"videos/{h[:2]}/{h}", f"subtitles/{h}/")]
    listed = {key for prefix in prefixes for key in store.keys(prefix)}
    return sorted(listed | {row["key"] for row in rows if row["key"]} | _old_packs(lake, store, target))


def _old_packs(lake: Lake, store: ObjectStore, target: Target) -> set[str]:
    """Frame packs that no clip needs any more, of the videos that single clips are taken from."""
    videos = {clip.rsplit("_", 2)[0] for clip in target.clips}
    keys = {key for video in videos for key in store.keys(f"frames/{video}/")}
    used = "select distinct frame_pack_key as key from clips.clips semi join given on given.key = frame_pack_key"
    return keys - {row["key"] for row in lake.joined(used, pa.table({"key": sorted(keys)}))} if keys else set()


def pack_keys(lake: Lake, target: Target) -> list[str]:
    """Frame packs that hold clips of the target beside others."""
    return [row["key"] for row in lake.rows(f"{_packs(lake, target)} select key from shared order by key")]


def _packs(lake: Lake, target: Target) -> str:
    """The beginning of a SELECT: `packs` that hold clips of the target, `shared` those of them that hold others too."""
    gone = conditions(lake, target)["clips.clips"]
    return (
        f"with packs as materialized (select distinct frame_pack_key as key from clips.clips where ({gone}) and "
        "frame_pack_key is not null), shared as (select distinct frame_pack_key as key from clips.clips "
        f"semi join packs on packs.key = frame_pack_key where not ({gone}))"
    )


def without_clips(lake: Lake, store: ObjectStore, target: Target, keys: Iterable[str]) -> list[Replace]:
    """Put each pack without the target's clips under a key of its own; the change that names it in the clips that stay."""
    gone, changes = conditions(lake, target)["clips.clips"], []
    for key in keys:
        where = f"frame_pack_key = '{key}'"
        clips = lake.rows(f"select *, ({gone}) as is_gone from clips.clips where {where}")
        names = {clip["clip_id"] for clip in clips if clip.pop("is_gone")}
        if not names:
            continue
        new = _put_pack(store, key, names)
        kept = [clip | {"frame_pack_key": new} for clip in clips if clip["clip_id"] not in names]
        changes.append(Replace("clips.clips", lake.to_arrow("clips.clips", kept), where))
    return changes


def _put_pack(store: ObjectStore, key: str, gone: set[str]) -> str:
    """Store a copy of a tar of samples without those of some clips, beside it; the new key."""
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        with tarfile.open(store.local_path(key)) as old, tarfile.open(fileobj=file, mode="w") as new:
            for member in old:
                if member.name.partition(".")[0] not in gone:
                    new.addfile(member, old.extractfile(member))
        file.flush()
        digest = file_sha256(Path(file.name))
        new_key = f"{key.rpartition('/')[0]}/{digest[:16]}.tar"
        store.put_file(new_key, Path(file.name), digest)
    return new_key


def answer_keys(store: ObjectStore, target: Target) -> list[str]:
    """Segments of paid answers, not yet stored as texts, that have some of the target's."""
    return [key for key in store.keys("answers/") if any(_tells(target, line) for line in _lines(store, key))]


def forget_answers(store: ObjectStore, target: Target) -> None:
    """Put each segment without the target's answers in its place."""
    for key in answer_keys(store, target):
        rest = [line for line in _lines(store, key) if not _tells(target, line)]
        if rest:
            store.put_bytes(f"{key.removesuffix('.jsonl')}-t.jsonl", "".join(f"{line}\n" for line in rest).encode())
        store.delete(key)


def _lines(store: ObjectStore, key: str) -> list[str]:
    return store.get_bytes(key).decode().splitlines()


def _tells(target: Target, line: str) -> bool:
    """Whether an answer is of one of the target's clips."""
    clip_id = json.loads(line)[0]
    return clip_id in target.clips or clip_id.rsplit("_", 2)[0] in target.videos


def shard_sets(lake: Lake, target: Target) -> dict[str, list[str]]:
    """The shard sets that hold the target, to their touched shards."""
    where = conditions(lake, target)["release.shard_samples"]
    rows = lake.rows(f"select distinct shards_id, shard_key from release.shard_samples where {where} order by all")
    sets: dict[str, list[str]] = {}
    for row in rows:
        sets.setdefault(row["shards_id"], []).append(row["shard_key"])
    return sets


def release_ids(lake: Lake, target: Target) -> list[str]:
    """The releases that name the target."""
    where = conditions(lake, target)["release.released_pairs"]
    rows = lake.rows(f"select distinct release_id from release.released_pairs where {where} order by 1")
    return [row["release_id"] for row in rows]


def withdrawals(lake: Lake, takedown_id: str, sets: Iterable[str], releases: Iterable[str]) -> list[Replace]:
    """The changes that mark shard sets and releases as withdrawn."""
    changes = []
    marked = (("release.training_shards", "shards_id", sets), ("release.dataset_release", "release_id", releases))
    for table, column, names in marked:
        for name in names:
            where = f"{column} = '{name}'"
            rows = lake.rows(f"select * from {table} where {where}")
            for row in rows:
                row["withdrawn_by"] = row["withdrawn_by"] or takedown_id
            changes.append(Replace(table, lake.to_arrow(table, rows), where))
    return changes


def withdraw_shards(store: ObjectStore, takedown_id: str, sets: dict[str, list[str]]) -> None:
    """Delete the touched shards, and leave a manifest that no training accepts and that says why."""
    for shards_id, keys in sets.items():
        key = f"shards/{shards_id}/manifest.json"
        manifest: dict[str, Any] = json.loads(store.get_bytes(key)) if store.exists(key) else {"shards_id": shards_id}
        if "withdrawn_by" not in manifest:
            told = f"withdrawn by takedown {takedown_id} (make training_shards again for a set without what was taken down)"
            store.delete(key)
            store.put_bytes(
                key, json.dumps(manifest | {"format": told, "withdrawn_by": takedown_id}, indent=1).encode()
            )
        for shard in keys:
            store.delete(shard)


def withdraw_releases(store: ObjectStore, takedown_id: str, releases: Iterable[str]) -> None:
    """Delete the files with a release's rows; what remains says that it is withdrawn."""
    for release_id in releases:
        folder = f"releases/{release_id}"
        for name in RELEASE_FILES:
            store.delete(f"{folder}/{name}")
        if not store.exists(f"{folder}/WITHDRAWN"):
            told = f"Withdrawn by takedown {takedown_id}: its data files are deleted. Publish the subset again.\n"
            store.put_bytes(f"{folder}/WITHDRAWN", told.encode())


def report_keys(lake: Lake, store: ObjectStore, target: Target, checkpoints: Iterable[str]) -> list[str]:
    """Files of the checkpoints' reports that show or name the target: texts with its ids, and then every picture but figures."""
    found: list[str] = []
    for checkpoint in checkpoints:
        rows = lake.rows(
            "select distinct report_key from viclip.viclip_evaluation where checkpoint_id = ? order by 1", [checkpoint]
        )
        for row in rows:
            found += _showing(store, row["report_key"], target)
    return sorted(set(found))


def _showing(store: ObjectStore, folder: str, target: Target) -> Iterator[str]:
    keys = list(store.keys(f"{folder}/"))
    texts = [key for key in keys if key.endswith((".html", ".md", ".json"))]
    telling = [key for key in texts if any(name.encode() in store.get_bytes(key) for name in target.names())]
    yield from telling
    if telling:
        yield from (k for k in keys if k.endswith((".jpg", ".png")) and not k.endswith(_REPORT_FIGURES))
