"""The stage of `clips.matches`: clips that are new are compared with all clips, what was taken down, and benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from internvid_assets.clips.lookup import find_matches
from internvid_assets.lake import Lake, Replace
from internvid_assets.lake.stage import StageResult
from internvid_assets.settings import DuplicateSettings

CODE_VERSION = "1"
_WORK = "internvid_work"
TAKEN = "taken"
BENCHMARK = "benchmark:"
"""Begins the source names of benchmarks in `clips.compared`; those of clips are their batches."""


@contextmanager
def match_batches(lake: Lake, settings: DuplicateSettings) -> Iterator[StageResult]:
    """The matches of every clip, to be stored inside; only batches with new content, and new references, are looked up.

    Memory stays within the settings' limit, beyond which the lookup uses a file in the cache folder.
    """
    with _work_database(lake, settings):
        run = lake.connection.execute
        run(f"create table {_WORK}.benchmark_clips as from clips.benchmark_clips")
        run(f"create table {_WORK}.compared as {_COMPARED}")
        is_same = lake.value(f"select not exists({_DIFFERENT})")
        if is_same:
            num_clips, num_matches = (lake.value(f"select count(*) from clips.{name}") for name in ("clips", "matches"))
            yield StageResult([], num_clips, num_matches, metadata={"clips_looked_up_now": 0})
            return
        _look_up(lake, f"source not in ({_SAME})")
        run(f"create table {_WORK}.all_matches as {_FOUND} union all {_KEPT} order by all")
        changes = [
            Replace("clips.matches", f"from {_WORK}.all_matches"),
            Replace("clips.compared", f"from {_WORK}.compared"),
        ]
        counts = lake.rows(f"select count(*) as num, count(*) filter (is_new) as num_new from {_WORK}.items")[0]
        num_matches = lake.value(f"select count(*) from {_WORK}.all_matches")
        yield StageResult(changes, counts["num"], num_matches, metadata={"clips_looked_up_now": counts["num_new"]})


def match_benchmark(lake: Lake, settings: DuplicateSettings, benchmark_clips: pa.Table) -> list[dict[str, Any]]:
    """The lake's clips that show what clips of a benchmark show, as rows of `clips.matches`, best first; stores nothing.

    Args:
        benchmark_clips: rows as in `clips.benchmark_clips`.
    """
    with _work_database(lake, settings):
        run = lake.connection.execute
        lake.connection.register("given_clips", benchmark_clips)
        try:
            run(f"create table {_WORK}.benchmark_clips as from given_clips")
        finally:
            lake.connection.unregister("given_clips")
        _look_up(lake, "kind = 'benchmark'")
        return lake.rows(
            f"{_FOUND} where other.kind = 'benchmark' order by num_frames desc, distance_bits, clip_id, reference_item"
        )


def _look_up(lake: Lake, is_new: str) -> None:
    """Number everything that has hashes and find the matches of what is new by a SQL condition."""
    run = lake.connection.execute
    run(f"create view {_WORK}.listed as {_LISTED}")
    run(f"create table {_WORK}.items as {_ITEMS.format(is_new=is_new)}")
    run("set preserve_insertion_order = false")
    try:
        find_matches(lake.connection, _WORK, _LOOKS)
    finally:
        run("reset preserve_insertion_order")


@contextmanager
def _work_database(lake: Lake, settings: DuplicateSettings) -> Iterator[None]:
    """A database file beside the lake's tables; the memory limit is that of the settings meanwhile."""
    before = lake.value("select current_setting('memory_limit')")
    lake.connection.execute(f"set memory_limit = '{settings.memory_limit_mib} MiB'")
    try:
        with lake.scratch_database(_WORK):
            yield
    finally:
        lake.connection.execute(f"set memory_limit = '{before}'")


_HASHES = "hash_seconds, frame_hashes, frame_hash_details"
_CONTENT_HASH = "sum(hash({columns}, frame_hashes, frame_hash_details))::varchar as content_hash"
_COMPARED = f"""
select batch as source, {_CONTENT_HASH.format(columns="clip_id, start_seconds")} from clips.clips group by batch
union all
select '{TAKEN}', {_CONTENT_HASH.format(columns="clip_key")} from lineage.taken_clips having count(*) > 0
union all
select '{BENCHMARK}' || benchmark, {_CONTENT_HASH.format(columns="item, start_seconds")}
from clips.benchmark_clips group by benchmark
"""
_LISTED = f"""
select 'clip' as kind, clips.batch as source, clips.clip_id as item, clips.video_id as video,
    null as reference, clips.start_seconds, {_HASHES}, coalesce(videos.width * videos.height, 0) as num_pixels
from lake.clips.clips as clips
left join lake.videos.raw_videos as videos on clips.video_id = videos.video_id and clips.batch = videos.batch
where len(frame_hashes) > 0
union all
select 'taken', '{TAKEN}', clip_key, item_key, item_key, start_seconds, {_HASHES}, 0
from (select distinct on (clip_key) * from lake.lineage.taken_clips where len(frame_hashes) > 0 order by clip_key, takedown_id)
union all
select 'benchmark', '{BENCHMARK}' || benchmark, item, '{BENCHMARK}' || benchmark || ':' || item, benchmark,
    start_seconds, {_HASHES}, 0
from {_WORK}.benchmark_clips where len(frame_hashes) > 0
"""
_SAME = f"select now.source from {_WORK}.compared as now semi join clips.compared using (source, content_hash)"
_DIFFERENT = f"""
(from {_WORK}.compared except from clips.compared) union all (from clips.compared except from {_WORK}.compared)
"""
_ITEMS = f"""
select row_number() over (order by kind = 'clip', num_pixels desc, source, item, start_seconds)::uinteger as no,
    kind, item, video, reference, start_seconds, len(hash_seconds)::integer as num_hashed, kind <> 'clip' as is_reference,
    {{is_new}} as is_new
from {_WORK}.listed
"""
_LOOKS = f"""
select wanted.no, listed.start_seconds, {_HASHES}
from {_WORK}.listed
inner join {_WORK}.wanted as wanted
    on listed.item = wanted.item and listed.video = wanted.video and listed.start_seconds = wanted.start_seconds
"""
_FOUND = f"""
select other.kind, one.item as clip_id, one.video as video_id,
    case when other.kind = 'clip' then other.item end as like_clip_id,
    case when other.kind = 'clip' then other.video end as like_video_id,
    other.reference, case when other.kind <> 'clip' then other.item end as reference_item,
    found.num_frames, one.num_hashed, other.num_hashed as like_num_hashed,
    found.distance_bits, found.offset_seconds
from {_WORK}.matches as found
inner join {_WORK}.items as one on found.a = one.no
inner join {_WORK}.items as other on found.b = other.no
"""
_OLD = f"(select distinct kind, case kind when 'benchmark' then reference else item end as item from {_WORK}.items where not is_new)"
_KEPT = f"""
select kept.* from clips.matches as kept
semi join {_OLD} as mine on mine.kind = 'clip' and mine.item = kept.clip_id
semi join {_OLD} as theirs on theirs.kind = kept.kind
    and theirs.item = case kept.kind when 'clip' then kept.like_clip_id when 'taken' then kept.reference_item
        else kept.reference end
"""
