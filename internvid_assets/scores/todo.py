"""Which clips and captions lack which score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from internvid_assets.lake import Lake
from internvid_assets.scores.base import Reads, Scorer

_GROUP = 500
_WANTED = pa.schema(
    [
        *((name, pa.string()) for name in ("clip_id", "scorer", "scorer_backend", "scorer_version")),
        ("is_caption", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class Text:
    """A caption with the texts behind it; all empty: the clip itself."""

    captioner: str | None = None
    captioner_version: str | None = None
    caption: str | None = None
    sources: tuple[str, ...] = ()


Todo = dict[str, dict[str, list[Text]]]
"""Clip id to scorer name to what it lacks."""


def clip_groups(lake: Lake, batch: str) -> Iterator[list[str]]:
    """The clip ids of a batch, in groups of at least 500 but for the last; a frame pack is never cut in two."""
    rows = lake.query(
        "select clip_id, frame_pack_key from clips.clips where batch = ? order by frame_pack_key, start_frame, clip_id",
        [batch],
    )
    group: list[str] = []
    last = None
    for clip_id, pack in zip(rows["clip_id"], rows["frame_pack_key"], strict=True):
        if len(group) >= _GROUP and pack != last:
            yield group
            group = []
        group.append(clip_id.as_py())
        last = pack
    if group:
        yield group


def missing(lake: Lake, scorers: Sequence[Scorer], batch: str, clip_ids: Sequence[str]) -> tuple[Todo, set[str]]:
    """What the given clips lack by the current scorer versions, and which of them a scorer refused when last asked."""
    todo: Todo = {}
    by_name = {scorer.name: scorer for scorer in scorers}
    needs_sources = any(Reads.SOURCES in scorer.reads for scorer in scorers)
    sources = _sources(lake, batch, clip_ids) if needs_sources else {}
    for row in lake.joined(_MISSING.format(batch=batch), _wanted(scorers, clip_ids)):
        key = (row["clip_id"], row["captioner"], row["captioner_version"])
        if Reads.SOURCES not in by_name[row["scorer"]].reads:
            text = Text(*key[1:], row["text"])
        elif key in sources:
            text = Text(*key[1:], row["text"], sources[key])
        else:
            continue  # a caption of a captioner whose versions nobody recorded
        todo.setdefault(row["clip_id"], {}).setdefault(row["scorer"], []).append(text)
    refused = lake.joined(_REFUSED.format(batch=batch), pa.table({"clip_id": clip_ids}))
    return todo, {row["item_id"] for row in refused}


def missing_by_batch(lake: Lake, scorers: Sequence[Scorer]) -> dict[str, int]:
    """How many numbers the current scorers lack, by batch; 0 where none is lacking."""
    rows = lake.joined(_MISSING_BY_BATCH, _wanted(scorers, [""]))
    return {row["batch"]: row["num_missing"] for row in rows}


_MISSING_BY_BATCH = """
with items as (
    select batch, true as is_caption, count(distinct (clip_id, captioner, captioner_version)) as num_items
    from captions.captions group by batch
    union all
    select batch, false, count(*) from clips.clips group by batch
), held as (
    select batch, scorer, count(distinct (clip_id, captioner, captioner_version)) as num_held
    from scores.clip_scores semi join given using (scorer, scorer_backend, scorer_version) group by batch, scorer
)
select items.batch, sum(greatest(items.num_items - coalesce(held.num_held, 0), 0))::bigint as num_missing
from items inner join given on given.is_caption = items.is_caption
left join held on held.batch = items.batch and held.scorer = given.scorer
group by items.batch
"""
_MISSING = """
with items as (
    select clip_id, captioner, captioner_version, text, true as is_caption from captions.captions where batch = '{batch}'
    union all
    select clip_id, null, null, null, false from clips.clips where batch = '{batch}'
)
select wanted.scorer, items.clip_id, items.captioner, items.captioner_version, items.text
from given as wanted
inner join items on items.clip_id = wanted.clip_id and items.is_caption = wanted.is_caption
where not exists (
    select 1 from scores.clip_scores as held
    where held.batch = '{batch}' and held.clip_id = items.clip_id
        and held.captioner is not distinct from items.captioner
        and held.captioner_version is not distinct from items.captioner_version
        and held.scorer = wanted.scorer and held.scorer_backend = wanted.scorer_backend
        and held.scorer_version = wanted.scorer_version
)
order by items.clip_id, items.captioner, items.captioner_version
"""
_REFUSED = """
select distinct item_id from videos.quarantine
where batch = '{batch}' and stage = 'scores' and item_id in (select clip_id from given)
"""
_SOURCES = """
with versions as (
    select captioner, captioner_version, spec ->> 'coarse_version' as coarse_version, spec ->> 'fine_version' as fine_version
    from captions.captioners where step = 'merge'
)
select captions.clip_id, captions.captioner, captions.captioner_version,
    any_value(coarse.text) as coarse_text, any_value(fine.frame_texts) as frame_texts, any_value(fine.motion_text) as motion_text
from captions.captions as captions
semi join given on given.clip_id = captions.clip_id
inner join versions
    on versions.captioner = captions.captioner and versions.captioner_version = captions.captioner_version
left join captions.coarse_captions as coarse on coarse.batch = '{batch}' and coarse.clip_id = captions.clip_id
    and coarse.captioner_version = versions.coarse_version
left join captions.fine_captions as fine on fine.batch = '{batch}' and fine.clip_id = captions.clip_id
    and fine.captioner_version = versions.fine_version
where captions.batch = '{batch}'
group by captions.clip_id, captions.captioner, captions.captioner_version
"""


def _wanted(scorers: Sequence[Scorer], clip_ids: Sequence[str]) -> pa.Table:
    """Every clip with every scorer."""
    kinds: list[dict[str, Any]] = [
        {
            "scorer": scorer.name,
            "scorer_backend": scorer.backend,
            "scorer_version": scorer.version,
            "is_caption": Reads.CAPTION in scorer.reads,
        }
        for scorer in scorers
    ]
    return pa.Table.from_pylist([{"clip_id": clip_id, **kind} for kind in kinds for clip_id in clip_ids], _WANTED)


def _sources(lake: Lake, batch: str, clip_ids: Sequence[str]) -> dict[tuple[str, str, str], tuple[str, ...]]:
    """The distinct coarse and fine texts of each caption whose captioner version is recorded, in the order of the recipe."""
    found = {}
    for row in lake.joined(_SOURCES.format(batch=batch), pa.table({"clip_id": clip_ids})):
        texts = [row["coarse_text"], *(row["frame_texts"] or ()), row["motion_text"]]
        if kept := tuple(dict.fromkeys(filter(None, texts))):
            found[row["clip_id"], row["captioner"], row["captioner_version"]] = kept
    return found
