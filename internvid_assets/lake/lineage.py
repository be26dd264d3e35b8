"""Questions of where something came from and what was made of it, answered from the tables."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from internvid_assets.lake.catalog import Lake
from internvid_assets.lake.takedown import tombstone_key

CLIP_ID = re.compile(r".+_\d{8,}_\d{8,}")


def explain(lake: Lake, item: str) -> list[str]:
    """Everything known of an id: backward to the source bytes, forward to releases, shards and checkpoints.

    Args:
        item: a clip, video, release, shard set, checkpoint or takedown id, a captioner version, or a `schema.table` name.

    Returns: printable lines; none when the lake does not know the item.
    """
    explanations: list[Callable[[Lake, str], list[str]]] = [
        _checkpoint, _release, _shards, _clip, _video, _captioner, _takedown, _table
    ]  # fmt: skip
    if CLIP_ID.fullmatch(item):
        explanations.sort(key=lambda explanation: explanation is not _clip)
    for explanation in explanations:
        if lines := explanation(lake, item):
            return lines
    return []


def _checkpoint(lake: Lake, item: str) -> list[str]:
    rows = lake.rows("select * from viclip.viclip_checkpoint where checkpoint_id = ?", [item])
    if not rows:
        return []
    row = rows[0]
    metrics = lake.rows(
        "select model, benchmark, metric, value from viclip.viclip_evaluation where checkpoint_id = ? order by all",
        [item],
    )
    return [
        f"checkpoint {item}",
        f"  recipe {row['recipe']}, seed {row['seed']}, {row['num_steps']} steps, {row['num_samples_seen']} samples seen, "
        f"git commit {row['git_commit']}",
        f"  weights sha256 {row['weights_sha256']} in {row['checkpoint_key']}",
        *[f"  evaluated: {m['model']} {m['benchmark']} {m['metric']} = {m['value']:.4f}" for m in metrics],
        *_written(lake, "viclip.viclip_checkpoint", None),
        *_indented(_shards(lake, row["shards_id"])),
    ]


def _release(lake: Lake, item: str) -> list[str]:
    rows = lake.rows("select * from release.dataset_release where release_id = ?", [item])
    if not rows:
        return []
    row = rows[0]
    return [
        f"release {item}",
        f"  {row['num_pairs']} pairs of {row['num_videos']} videos, subset {row['subset']} at snapshot {row['snapshot_id']}",
        f"  manifest {row['manifest_key']}, sha256 {row['manifest_sha256']}",
        *_withdrawn(row),
        *_written(lake, "release.dataset_release", None),
        *_sources(lake, "select video_id from release.released_pairs where release_id = ?", [item]),
    ]


def _shards(lake: Lake, item: str) -> list[str]:
    rows = lake.rows("select * from release.training_shards where shards_id = ? order by shard_key", [item])
    if not rows:
        return []
    trained = lake.rows("select checkpoint_id from viclip.viclip_checkpoint where shards_id = ?", [item])
    return [
        f"shards {item}: {sum(r['num_samples'] for r in rows)} samples in {len(rows)} shards, "
        f"subset {rows[0]['subset']} at snapshot {rows[0]['snapshot_id']}",
        *_withdrawn(rows[0]),
        *[f"  {r['shard_key']} sha256 {r['sha256']}" for r in rows],
        *[f"  trained: {r['checkpoint_id']}" for r in trained],
        *_written(lake, "release.training_shards", None),
        *_sources(lake, "select video_id from release.shard_samples where shards_id = ?", [item]),
    ]


def _withdrawn(row: dict[str, Any]) -> list[str]:
    return [f"  withdrawn by takedown {row['withdrawn_by']}"] if row["withdrawn_by"] else []


def _clip(lake: Lake, item: str) -> list[str]:
    rows = lake.rows("select * from clips.clips where clip_id = ?", [item])
    if not rows:
        return []
    row = rows[0]
    of_clip = "where clip_id = ? and batch = ?"  # the batch says in which files they lie
    given = [item, row["batch"]]
    texts = lake.rows(f"select * from captions.captions {of_clip} order by captioner_version", given)
    scores = lake.rows(f"select * from scores.clip_scores {of_clip} order by scorer, scorer_version", given)
    uses = lake.rows(
        "with samples as materialized (select shards_id, shard_key from release.shard_samples where clip_id = $1) "
        "select 'release ' || release_id as used from release.released_pairs where clip_id = $1 "
        "union all select 'shards ' || shards_id || ' ' || shard_key from samples "
        "union all select 'checkpoint ' || checkpoint_id from viclip.viclip_checkpoint join samples using (shards_id) "
        "order by 1",
        [item],
    )
    return [
        f"clip {item}",
        f"  frames [{row['start_frame']}, {row['end_frame']}), seconds [{row['start_seconds']:.3f}, "
        f"{row['end_seconds']:.3f}), frame pack {row['frame_pack_key']}",
        *_written(lake, "clips.clips", row["batch"]),
        *[f"  caption by {t['captioner']} {t['captioner_version']}: {t['text']}" for t in texts],
        *[f"  {s['scorer']} by {s['scorer_backend']} {s['scorer_version']}: {s['value']:.4f}" for s in scores],
        *[f"  in {use['used']}" for use in uses],
        *_indented(_video(lake, row["video_id"], row["batch"])),
    ]


def _video(lake: Lake, item: str, batch: str | None = None) -> list[str]:
    """By its id, or its content hash; the batch, when known, says in which files it lies."""
    name = "content_sha256" if re.fullmatch("[0-9a-f]{64}", item) else "video_id"
    of_batch, given = (" and batch = ?", [item, batch]) if batch else ("", [item])
    rows = lake.rows(f"select * from videos.raw_videos where {name} = ?{of_batch}", given)
    if not rows:
        return []
    row = rows[0]
    clips = lake.value(
        "select count(*) from clips.clips where video_id = ? and batch = ?", [row["video_id"], row["batch"]]
    )
    return [
        f"video {row['video_id']}",
        f"  from {row['source_uri']}",
        f"  sha256 {row['content_sha256']}, {row['num_bytes']} bytes in {row['media_key']}",
        f"  {row['width']}x{row['height']} {row['video_codec']}, {row['duration_seconds']:.2f} s, {clips} clips",
        *_written(lake, "videos.raw_videos", row["batch"]),
    ]


def _captioner(lake: Lake, item: str) -> list[str]:
    rows = lake.rows("select * from captions.captioners where captioner_version = ?", [item])
    if not rows:
        return []
    step, spec = rows[0]["step"], json.loads(rows[0]["spec"])
    table = "captions.captions" if step == "merge" else f"captions.{step}_captions"
    num_texts = lake.value(f"select count(*) from {table} where captioner_version = ?", [item])
    costs = lake.rows(
        "select item, sum(amount) as amount from lineage.costs join lineage.materializations using (materialization_id) "
        "where asset = ? and config_hash = ? group by item order by item",
        [table, item],
    )
    spent = ", ".join(f"{cost['amount']:g} {cost['item']}" for cost in costs)
    read = [spec[name] for name in ("coarse_version", "fine_version") if spec.get(name)]
    return [
        f"captioner version {item}: the {step} step of {rows[0]['captioner']}, {num_texts} texts in {table}",
        *[f"  {name}: {' '.join(str(v).split())}" for name, v in sorted(spec.items()) if v not in (None, "")],
        *([f"  cost: {spent}"] if spent else []),
        *[line for version in read for line in _indented(_captioner(lake, version))],
    ]


def _takedown(lake: Lake, item: str) -> list[str]:
    """A takedown by its id, or by anything that it removed."""
    rows = lake.rows(
        "select *, (select count(*) from lineage.taken_clips as clips where clips.item_key = items.item_key "
        "and clips.takedown_id = items.takedown_id) as num_clips from lineage.takedowns as items "
        "where takedown_id = $item or $key in (item_key, content_key) or (takedown_id, item_key) in "
        "(select (takedown_id, item_key) from lineage.taken_clips where clip_key = $key) order by takedown_id, item_key",
        {"item": item, "key": tombstone_key(item)},
    )
    lines = [f"{item} was taken down" if row["takedown_id"] != item else f"takedown {item}" for row in rows[:1]]
    return lines + [
        f"  {row['kind']} of {row['num_clips']} clips, reason: {row['reason'] or 'none given'}, receipt "
        f"takedowns/{row['takedown_id']}/receipt.json"
        for row in rows
    ]


def _table(lake: Lake, item: str) -> list[str]:
    if item.count(".") != 1:
        found = lake.rows("select distinct asset from lineage.materializations where asset like ?", [f"%.{item}"])
        return _table(lake, found[0]["asset"]) if found else []
    lines = _written(lake, item, None, limit=10)
    inputs = lake.rows(
        "select distinct input from lineage.inputs join lineage.materializations using (materialization_id) "
        "where asset = ? order by input",
        [item],
    )
    return [f"table {item}", *[f"  reads {row['input']}" for row in inputs], *lines] if lines else []


def _written(lake: Lake, asset: str, batch: str | None, limit: int = 1) -> list[str]:
    """The newest writes of a table (or of one of its partitions) that changed content."""
    rows: list[dict[str, Any]] = lake.rows(
        "select * from lineage.materializations where asset = ? and changed and (?::varchar is null or partition_key = ?) "
        "order by written_at desc limit ?",
        [asset, batch, batch, limit],
    )
    return [
        f"  written {row['written_at']:%Y-%m-%d %H:%M:%S} to {asset}{' ' + row['partition_key'] if row['partition_key'] else ''} "
        f"by run {row['run_id']}, code version {row['code_version']}, configuration {row['config_hash'] or '-'}, "
        f"read snapshot {row['read_snapshot_id']}"
        for row in rows
    ]


def _sources(lake: Lake, select: str, parameters: list[Any], limit: int = 20) -> list[str]:
    rows = lake.rows(
        f"select video_id, source_uri, content_sha256, count(*) over () as num_all from videos.raw_videos "
        f"where video_id in ({select}) order by source_uri limit {limit}",
        parameters,
    )
    lines = [f"  source {r['source_uri']} (video {r['video_id']}, sha256 {r['content_sha256']})" for r in rows]
    if rows and rows[0]["num_all"] > limit:
        lines.append(f"  and {rows[0]['num_all'] - limit} more sources")
    return lines


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]
