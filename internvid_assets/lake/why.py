"""Why a clip is where it is: its whole life, with the numbers, rules and thresholds that decided, on one page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from internvid_assets.lake.catalog import Lake
from internvid_assets.lake.models import discover
from internvid_assets.lake.takedown import earlier_takedown, tombstone_key

RULES: dict[str, tuple[tuple[str, str], ...]] = {
    "black": (("black_share", "max_black_share"),),
    "slideshow": (("still_share", "min_slideshow_still_share"),),
    "still": (("still_share", "max_still_share"),),
    "screen_recording": (
        ("static_share", "min_screen_static_share"),
        ("flat_share", "min_screen_flat_share"),
        ("still_share", "min_screen_still_share"),
    ),
    "extreme_motion": (("motion_mean", "max_motion_mean"),),
    "letterbox": (("border_share", "max_border_share"),),
    "too_long": (("duration_seconds", "max_clip_seconds"),),
    "nsfw": (("nsfw", "max_nsfw"),),
    "overlay_text": (("overlay_text", "max_overlay_text"),),
    "caption_loop": (("loops", "max_caption_loops"),),
    "wrong_language": (("language_probability", "min_caption_language"),),
    "low_similarity": (("similarity", "min_similarity"),),
}
"""Drop reasons to the numbers that decide and the parameters that they are held against; see the SQL models."""


@cache
def _defaults() -> dict[str, str]:
    """Parameter to default, from the headers of the SQL models."""
    listed = ", ".join(dict(model.header).get("parameters", "") for model in discover())
    return dict(re.findall(r"(\w+) (-?[\d.]+)\b", listed))


def threshold(lake: Lake, parameter: str) -> float:
    """What a number is held against: the setting, else the model's default. Raises: KeyError for an unknown parameter."""
    return float(lake.settings.subsets.parameters.get(parameter, _defaults()[parameter]))


def why(lake: Lake, clip_id: str) -> list[str]:
    """Source, span, statistics, texts, scores, verdict and uses of a clip, as printable lines.

    Raises: ValueError when the lake does not know the clip, saying whether it was taken down.
    """
    rows = lake.rows("select * from clips.clips where clip_id = ?", [clip_id])
    if not rows:
        raise ValueError(_unknown(lake, clip_id))
    clip = rows[0]
    texts = _texts(lake, clip)
    verdict = _first(lake, "intermediate.int_pair_verdicts", clip_id)
    scores = {r["scorer"]: r for r in _scores(lake, clip) if r["captioner"] is None}
    values = clip | {"duration_seconds": clip["end_seconds"] - clip["start_seconds"]}
    values |= {name: row["value"] for name, row in scores.items()}
    values |= next((t for t in texts if t["speaks"]), {})
    return [
        f"clip {clip_id}",
        *_source(lake, clip),
        *_section("statistics", _statistics(lake, values)),
        *_section("texts", _told_texts(texts, _behind(lake, clip))),
        *_section(
            "scores",
            [f"{n} {_number(r['value'])} by {r['scorer_backend']} {r['scorer_version']}" for n, r in scores.items()],
        ),
        *_section("verdict", _verdict(lake, clip, verdict, values)),
        *_section("used in", _uses(lake, clip_id)),
    ]


def _unknown(lake: Lake, clip_id: str) -> str:
    key = [tombstone_key(clip_id)]
    taken = lake.rows("select takedown_id from lineage.taken_clips where clip_key = ? limit 1", key)
    takedown_id = taken[0]["takedown_id"] if taken else earlier_takedown(lake, clip_id)
    if takedown_id:
        return f"clip {clip_id} was taken down: takedown {takedown_id}"
    return f"no clip is known as {clip_id!r}: clip ids are VIDEO_STARTMS_ENDMS, see the table clips.clips"


def _first(lake: Lake, table: str, clip_id: str) -> dict[str, Any]:
    """A model's row of the clip; empty when the model has not been made, or has none."""
    rows = lake.rows(f"select * from {table} where clip_id = ?", [clip_id]) if lake.has_table(table) else []
    return rows[0] if rows else {}


def _of(lake: Lake, table: str, clip: dict[str, Any], order: str = "all") -> list[dict[str, Any]]:
    """A table's rows of the clip; its batch says in which files they lie."""
    return lake.rows(
        f"select * from {table} where clip_id = ? and batch = ? order by {order}", [clip["clip_id"], clip["batch"]]
    )


def _source(lake: Lake, clip: dict[str, Any]) -> list[str]:
    rows = lake.rows(
        "select * from videos.raw_videos where video_id = ? and batch = ?", [clip["video_id"], clip["batch"]]
    )
    span = f"seconds [{clip['start_seconds']:.3f}, {clip['end_seconds']:.3f})"
    frames = f"frames [{clip['start_frame']}, {clip['end_frame']})"
    told = [f"  {span}, {frames}, number {clip['clip_index']} of its video, batch {clip['batch']}"]
    for video in rows:
        told += [
            f"  video {video['video_id']} from {video['source_uri']}",
            f"  title {video['title']!r}, licence {video['license'] or 'unknown'}, language {video['language'] or 'unknown'}, "
            f"{video['width']}x{video['height']} {video['video_codec']}, sha256 {video['content_sha256']}",
        ]
    return told


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [title, *(f"  {line}" for line in lines or ["none"])]


def _number(value: float | int | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _statistics(lake: Lake, values: dict[str, Any]) -> list[str]:
    """Every number that the clip itself is judged by, and the rule that it is held against."""
    lines = []
    for reason, parts in RULES.items():
        if all(column in values for column, _ in parts) and parts[0][0] not in (
            "similarity",
            "loops",
            "language_probability",
        ):
            told = " and ".join(f"{c} {_number(values[c])} (limit {threshold(lake, p):g})" for c, p in parts)
            lines.append(f"{reason}: {told}")
    return [*lines, f"runs without change {values['num_static_runs']}, brightness {_number(values['brightness'])}"]


def _texts(lake: Lake, clip: dict[str, Any]) -> list[dict[str, Any]]:
    """The captions of the clip with what is known of each; `speaks` marks the one that counts."""
    judged = lake.has_table("staging.stg_captions")
    rows = (
        lake.rows("select *, caption as text from staging.stg_captions where clip_id = ?", [clip["clip_id"]])
        if judged
        else _of(lake, "captions.captions", clip)
    )
    best = _first(lake, "intermediate.best_captions", clip["clip_id"])
    for row in rows:
        row["speaks"] = all(row[name] == best.get(name) for name in ("captioner", "captioner_version"))
        row["fault"] = best.get("fault") if row["speaks"] else None
    return sorted(rows, key=lambda row: (not row["speaks"], row["captioner_version"]))


def _behind(lake: Lake, clip: dict[str, Any]) -> list[str]:
    """The texts that captions were merged from."""
    coarse = _of(lake, "captions.coarse_captions", clip)
    fine = _of(lake, "captions.fine_captions", clip)
    said = [row for row in _of(lake, "captions.transcripts", clip) if row["text"]]
    return [
        *(f"middle frame, {row['captioner']} {row['captioner_version']}: {row['text']}" for row in coarse),
        *(
            f"every second, {row['captioner']} {row['captioner_version']}: "
            f"{' · '.join([*dict.fromkeys(row['frame_texts'] or []), *filter(None, [row['motion_text']])])}"
            for row in fine
        ),
        *(f"said, {row['captioner']} {row['captioner_version']}: {row['text']}" for row in said),
    ]


def _told_texts(texts: Sequence[dict[str, Any]], behind: Sequence[str]) -> list[str]:
    measures = ("similarity", "loops", "refusal", "language_probability", "scale_agreement")
    lines = []
    for row in texts:
        numbers = ", ".join(f"{name} {_number(row[name])}" for name in measures if row.get(name) is not None)
        lines += [
            f"{'speaks: ' if row['speaks'] else ''}{row['captioner']} {row['captioner_version']}: {row['text']}",
            *([f"  {numbers}"] if numbers else []),
            *([f"  {_reason_to_speak(row, texts)}"] if row["speaks"] else []),
        ]
    return [*lines, *behind]


def _reason_to_speak(best: dict[str, Any], texts: Sequence[dict[str, Any]]) -> str:
    """The rule of intermediate.best_captions in words."""
    if best["fault"]:
        return f"every text has a fault; this one's is {best['fault']}"
    if len(texts) == 1:
        return "it is the only text, and has no fault"
    if best.get("similarity") is None:
        return f"of {len(texts)} texts it is of the greatest version without a fault; none was scored"
    return f"of {len(texts)} texts it fits best of those without a fault; of equals the greatest version"


def _scores(lake: Lake, clip: dict[str, Any]) -> list[dict[str, Any]]:
    return _of(lake, "scores.clip_scores", clip, "scorer, scorer_version")


def _verdict(lake: Lake, clip: dict[str, Any], verdict: dict[str, Any], values: dict[str, Any]) -> list[str]:
    """Kept, or the rule that dropped it with the number and the limit."""
    if not verdict:
        return ["not judged yet: run the subsets"]
    reason = verdict["drop_reason"]
    if reason is None:
        return ["kept: no rule speaks against it"]
    if reason == "near_duplicate":
        return [f"dropped: near_duplicate {_original(lake, clip)}"]
    if reason == "semantic_duplicate":
        other = _first(lake, "scores.semantic_duplicates", clip["clip_id"])
        return [f"dropped: semantic_duplicate of clip {other['like_clip_id']}, cosine {other['cosine']:.3f}"]
    parts = [f"{c} {_number(values.get(c))}, {p} {threshold(lake, p):g}" for c, p in RULES.get(reason, ())]
    return [f"dropped: {reason}{': ' if parts else ''}{'; '.join(parts)}"]


def _original(lake: Lake, clip: dict[str, Any]) -> str:
    """The better clip or video that shows the same, with the evidence."""
    alike = _first(lake, "intermediate.int_duplicate_clips", clip["clip_id"])
    if alike:
        what = f"of clip {alike['like_clip_id']}, by {alike['distance_bits']:.0f} of 256 bits"
    else:
        alike = lake.rows("select * from intermediate.int_near_duplicates where video_id = ?", [clip["video_id"]])[0]
        what = f"as its video is one of video {alike['duplicate_of']}"
    return (
        f"{what}: {alike['num_frames']} of {alike['num_hashed']} frames agree, {alike['offset_seconds']:+.2f} s apart"
    )


def _uses(lake: Lake, clip_id: str) -> list[str]:
    """Subsets, releases, shards and checkpoints."""
    marts = [model.table for model in discover() if model.layer == "marts" and "clip_id" in model.columns]
    made = [table for table in marts if lake.has_table(table)]
    held = [t for t in made if lake.rows(f"select 1 from {t} where clip_id = ? limit 1", [clip_id])]
    uses = lake.rows(
        "with samples as materialized (select shards_id, shard_key from release.shard_samples where clip_id = $1) "
        "select distinct 'release ' || release_id || coalesce(' (withdrawn by takedown ' || withdrawn_by || ')', '') as used "
        "from release.released_pairs left join release.dataset_release using (release_id) where clip_id = $1 "
        "union all select distinct 'shard ' || s.shard_key || coalesce(' (withdrawn by takedown ' || withdrawn_by || ')', '') "
        "from samples as s left join release.training_shards as t using (shards_id, shard_key) "
        "union all select distinct 'checkpoint ' || checkpoint_id from viclip.viclip_checkpoint join samples "
        "using (shards_id) order by 1",
        [clip_id],
    )
    left_out = [f"not in {t}" for t in made if t not in held] if held else []
    return [*(f"subset {table}" for table in held), *left_out, *(use["used"] for use in uses)]
