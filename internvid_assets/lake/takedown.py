"""Takedown in the tables: what an item is, every row that tells of it, and the tombstones that keep it out.

Which rows those are follows from the names of columns, in all tables that are there, so that a new table is not forgotten.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from internvid_assets.lake.catalog import Lake
from internvid_assets.lake.changes import Append, Change, Replace, Write

SALT = "internvid-takedown:"
_SPAN_OF_CLIP = r"_\d+_\d+$"
ID_COLUMNS = ("video_id", "duplicate_of", "like_video_id", "clip_id", "like_clip_id", "source_uri", "item_id")
"""Names of columns, of fields of structs and, with an s, of lists, that say whose a row is."""
_MAX_RANGES = 8
_KNOWN = {
    "video_id": ("videos.raw_videos", "clips.clips", "release.released_pairs", "release.shard_samples"),
    "clip_id": ("clips.clips", "release.released_pairs", "release.shard_samples"),
    "source_uri": ("videos.sources", "videos.raw_videos"),
}


@dataclass(frozen=True)
class Target:
    """What is to go: whole videos with all that was made of them, single clips of others, and addresses."""

    videos: tuple[str, ...]
    clips: tuple[str, ...]
    sources: tuple[str, ...]
    hashes: tuple[str, ...] = ()
    """content_sha256 of the videos."""
    unheld: tuple[str, ...] = ()
    """The addresses whose bytes were never held."""

    def names(self) -> tuple[str, ...]:
        """Every string that tells of it."""
        return (*self.videos, *self.clips, *self.sources, *self.hashes)


def tombstone_key(text: str) -> str:
    """What is left of an id, an address or a content hash: enough to know it again, not to read it."""
    return hashlib.sha256(f"{SALT}{text}".encode()).hexdigest()


def tombstones(lake: Lake) -> dict[str, str]:
    """The keys of all that was taken down whole, to the takedown."""
    rows = lake.rows("select takedown_id, item_key, content_key from lineage.takedowns where kind <> 'clip'")
    return {key: row["takedown_id"] for row in rows for key in (row["item_key"], row["content_key"]) if key}


def earlier_takedown(lake: Lake, item: str) -> str | None:
    """The takedown that removed this item, if one did."""
    rows = lake.rows(
        "select takedown_id from lineage.takedowns where $key in (item_key, content_key) limit 1",
        {"key": tombstone_key(item)},
    )
    return rows[0]["takedown_id"] if rows else None


def resolve(lake: Lake, items: Sequence[str]) -> Target:
    """What the items name: video ids, clip ids, addresses, folders of addresses (a channel), or content hashes.

    Raises: ValueError naming items that the lake does not know.
    """
    videos: set[str] = set()
    clips: set[str] = set()
    sources: set[str] = set()
    unknown = []
    for item in items:
        found = _named(lake, item)
        if not any(found):
            unknown.append(item)
        videos |= found[0]
        clips |= found[1] if not found[0] else set()
        sources |= found[2]
    if unknown:
        raise ValueError(
            f"nothing is known as {', '.join(map(repr, unknown))}: give a video id, clip id, address or sha256"
        )
    return _whole(lake, videos, clips, sources)


def is_known(lake: Lake, item: str) -> bool:
    """Whether the lake has anything under this name."""
    return any(_named(lake, item))


def _named(lake: Lake, item: str) -> tuple[set[str], set[str], set[str]]:
    """The videos, clips and addresses that an item names. What is an id, and known as one, is not looked for as an address."""
    videos, clips = _videos(lake, item), _ids(lake, "clip_id", item)
    is_id = (videos or clips) and re.fullmatch(r"[\w-]+", item)
    return videos, clips, set() if is_id else _addresses(lake, item)


def _videos(lake: Lake, item: str) -> set[str]:
    if re.fullmatch(r"[0-9a-f]{64}", item):
        rows = lake.rows("select video_id from videos.raw_videos where content_sha256 = ?", [item])
        return {row["video_id"] for row in rows}
    return _ids(lake, "video_id", item)


def _ids(lake: Lake, column: str, item: str) -> set[str]:
    return (
        {item}
        if any(lake.rows(f"select 1 from {t} where {column} = ? limit 1", [item]) for t in _KNOWN[column])
        else set()
    )


def _addresses(lake: Lake, item: str) -> set[str]:
    """Addresses that are the item, or lie below it."""
    path = str(Path(item).resolve()) if "://" not in item else item
    select = " union ".join(
        f"select source_uri from {table} where source_uri in ($1, $2) or starts_with(source_uri, $3) "
        "or starts_with(source_uri, $4)"
        for table in _KNOWN["source_uri"]
    )
    return {
        row["source_uri"] for row in lake.rows(select, [item, path, item.rstrip("/") + "/", path.rstrip("/") + "/"])
    }


def _whole(lake: Lake, videos: set[str], clips: set[str], sources: set[str]) -> Target:
    """With every video of the addresses, every address of the videos (exact copies included), and their hashes."""
    held = lake.rows(
        f"select video_id, source_uri, content_sha256 from videos.raw_videos where video_id in {_list(videos)} "
        f"or source_uri in {_list(sources)}"
    )
    addresses = sources | {row["source_uri"] for row in held if row["source_uri"]}
    copies = lake.rows(
        "select source_uri from videos.quarantine where reason = 'exact_duplicate' "
        f"and detail in {_list({f'same bytes as {address}' for address in addresses})}"
    )
    whole = videos | {row["video_id"] for row in held}
    every = addresses | {row["source_uri"] for row in copies}
    return Target(
        tuple(sorted(whole)),
        tuple(sorted(clip for clip in clips if _video_of(clip) not in whole)),
        tuple(sorted(every)),
        tuple(sorted({row["content_sha256"] for row in held if row["content_sha256"]})),
        tuple(sorted(every - {row["source_uri"] for row in held} - {row["source_uri"] for row in copies})),
    )


def _video_of(clip_id: str) -> str:
    return re.sub(_SPAN_OF_CLIP, "", clip_id)


def conditions(lake: Lake, target: Target) -> dict[str, str]:
    """Every table of the lake that can tell of an item, to the SQL condition that its rows meet."""
    columns = lake.rows(
        "select table_schema || '.' || table_name as name, column_name, data_type from information_schema.columns "
        "where table_catalog = 'lake' order by all"
    )
    tables: dict[str, dict[str, str]] = {}
    for column in columns:
        tables.setdefault(column["name"], {})[column["column_name"]] = column["data_type"]
    found = {table: table_conditions(target, kinds) for table, kinds in tables.items()}
    return {table: " or ".join(parts) for table, parts in found.items() if parts}


def table_conditions(target: Target, columns: Mapping[str, str]) -> list[str]:
    """SQL conditions of which one holds for a row that tells of the target; none for a table that cannot.

    A clip id says whose a row is, so it is the only one asked where there is one: one range of it reads few pages.
    """
    clips = {name: kind for name, kind in columns.items() if name in ("clip_id", "like_clip_id")}
    chosen = clips if "clip_id" in clips else columns
    return [condition for name, kind in chosen.items() for condition in column_conditions(target, name, kind)]


def column_conditions(target: Target, name: str, kind: str) -> list[str]:
    """SQL conditions under which one column tells of the target; none for a column that cannot.

    Worked example: `video_ids varchar[]` gives one on its elements, `items struct(clip_id varchar, …)[]` one on a field.
    """
    if name in ID_COLUMNS:
        return [_belongs(target, name, name)]
    if not kind.endswith("[]"):
        return [_belongs(target, field, f"{name}.{field}") for field in ID_COLUMNS if f"({field} " in kind.lower()]
    if name.removesuffix("s") in ID_COLUMNS:
        return [_any_element(name, _belongs(target, name.removesuffix("s"), "x"))]
    fields = [field for field in ID_COLUMNS if re.search(rf'\b"?{field}"? ', kind.lower())]
    return [_any_element(name, _belongs(target, field, f"x.{field}")) for field in fields]


def _any_element(name: str, condition: str) -> str:
    return f"len(list_filter({name}, lambda x: {condition})) > 0"


def _belongs(target: Target, name: str, value: str) -> str:
    """Whether a value that goes by a column's name belongs to the target."""
    of_video, of_source = f"{value} in {_list(target.videos)}", f"{value} in {_list(target.sources)}"
    of_clip = f"({' or '.join(_clip_conditions(target, value)) or 'false'})"
    of_shot = f"split_part({value}, ':', 1) in {_list(target.videos)}"
    return {
        "video_id": of_video,
        "duplicate_of": of_video,
        "like_video_id": of_video,
        "clip_id": of_clip,
        "like_clip_id": of_clip,
        "source_uri": of_source,
        "item_id": f"({of_clip} or {of_video} or {of_source} or {of_shot})",
    }[name]


def _clip_conditions(target: Target, value: str) -> list[str]:
    """Whether a clip id is one of the clips', or of the videos': a range of ids for each of a few, one lookup for many."""
    found = [f"{value} in {_list(target.clips)}"] if target.clips else []
    if len(target.videos) > _MAX_RANGES:
        return [*found, f"regexp_replace({value}, '{_SPAN_OF_CLIP}', '') in {_list(target.videos)}"]
    for video in target.videos:
        start = video.replace("'", "''") + "_"
        rest = f"regexp_full_match(substr({value}, {len(video) + 2}), '\\d+_\\d+')"
        found.append(f"({value} > '{start}' and {value} < '{start}:' and {rest})")  # a colon comes after the digits
    return found


def _list(values: Sequence[str] | set[str]) -> str:
    quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in sorted(values))
    return f"({quoted or 'null'})"


def count_rows(lake: Lake, target: Target) -> dict[str, int]:
    """How many rows of each table tell of the target; tables without any are left out."""
    counts = {t: lake.value(f"select count(*) from {t} where {c}") for t, c in conditions(lake, target).items()}
    return {table: count for table, count in counts.items() if count}


def delete_rows(lake: Lake, target: Target, takedown_id: str, reason: str, more: Sequence[Change] = ()) -> None:
    """Delete every row of the target, leave its tombstones, and make `more` changes, in one transaction."""
    where = conditions(lake, target)
    counts = count_rows(lake, target)
    gone = [Replace(table, lake.schema(table).empty_table(), where[table]) for table in counts]
    write = Write("lineage.takedowns", f"takedown {takedown_id}", num_in=sum(counts.values()))
    lake.commit(write, [*_tombstones(lake, target, takedown_id, reason), *more, *gone])


def _tombstones(lake: Lake, target: Target, takedown_id: str, reason: str) -> list[Append]:
    """One row for each item, and one for each clip that they have."""
    held = lake.rows(f"select video_id, content_sha256 from videos.raw_videos where video_id in {_list(target.videos)}")
    content = {row["video_id"]: row["content_sha256"] for row in held}
    kinds = {"video": target.videos, "clip": target.clips, "source": target.unheld}
    rows = [
        {"takedown_id": takedown_id, "kind": kind, "item_key": tombstone_key(name), "reason": reason,
         "content_key": tombstone_key(content[name]) if content.get(name) else None}
        for kind, names in kinds.items()
        for name in names
    ]  # fmt: skip
    return [
        Append("lineage.takedowns", lake.to_arrow("lineage.takedowns", rows), ("takedown_id", "item_key")),
        Append("lineage.taken_clips", _looks(lake, target, takedown_id), ("takedown_id", "clip_key")),
    ]


def _looks(lake: Lake, target: Target, takedown_id: str) -> pa.Table:
    """What is kept of the clips: place and perceptual hashes."""
    rows: list[dict[str, Any]] = lake.rows(
        "select clip_id, video_id, clip_index, start_seconds, end_seconds, perceptual_hash, hash_seconds, frame_hashes, "
        "frame_hash_details, "
        f"(select count(*) from clips.clips as k where k.video_id = clips.video_id)::integer as num_clips from clips.clips "
        f"where {_belongs(target, 'clip_id', 'clip_id')}"
    )
    whole = set(target.videos)
    for row in rows:
        clip_id, video_id = row.pop("clip_id"), row.pop("video_id")
        is_whole = video_id in whole
        item_key = tombstone_key(video_id if is_whole else clip_id)
        row |= {
            "takedown_id": takedown_id,
            "clip_key": tombstone_key(clip_id),
            "item_key": item_key,
            "is_whole": is_whole,
        }
    return lake.to_arrow("lineage.taken_clips", rows)
