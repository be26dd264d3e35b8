"""People judge a sample of captions: which ones, what they said, and the precision that follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scipy.stats import binomtest

from internvid_assets.lake import Append, Lake, Write

VERDICTS = ("accept", "reject")
KEY = ("clip_id", "captioner", "captioner_version", "reviewer", "sample", "position")


def draw_sample(lake: Lake, captioner_version: str, size: int, seed: int) -> list[dict[str, Any]]:
    """Captions of one version drawn uniformly, with the texts that they were made from; the same for the same seed.

    Raises: ValueError when the version has no captions, naming those that have.
    """
    rows = lake.rows(
        "select c.clip_id, c.captioner, c.captioner_version, c.text as caption, k.video_id, k.start_seconds, "
        "k.end_seconds, v.source_uri, v.title, coalesce(t.text, '') as transcript from captions.captions as c "
        "join clips.clips as k on k.clip_id = c.clip_id and k.batch = c.batch "
        "join videos.raw_videos as v on v.video_id = k.video_id and v.batch = k.batch "
        "left join (select clip_id, any_value(text) as text from captions.transcripts group by clip_id) as t "
        "on t.clip_id = c.clip_id where c.captioner_version = $version order by md5(c.clip_id || $seed) limit $size",
        {"version": captioner_version, "seed": f"/{seed}", "size": size},
    )
    if not rows:
        known = [f"{r['captioner_version']} ({r['captioner']}, {r['num']} captions)" for r in _versions(lake)]
        raise ValueError(
            f"no caption is by version {captioner_version}: give --captioner-version one of {', '.join(known) or 'none yet'}"
        )
    return rows


def _versions(lake: Lake) -> list[dict[str, Any]]:
    return lake.rows(
        "select captioner, captioner_version, count(*) as num from captions.captions group by all order by num desc limit 10"
    )


def texts_behind(lake: Lake, clip_id: str) -> list[tuple[str, str]]:
    """(step and captioner, text) of a clip's coarse and fine texts by every version."""
    coarse = lake.rows("select captioner, text from captions.coarse_captions where clip_id = ? order by all", [clip_id])
    fine = lake.rows(
        "select captioner, list_distinct(frame_texts) as texts, motion_text from captions.fine_captions "
        "where clip_id = ? order by all",
        [clip_id],
    )
    told = [
        (f"fine, {row['captioner']}", " · ".join(filter(None, [*sorted(row["texts"]), row["motion_text"]])))
        for row in fine
    ]
    return [*((f"coarse, {row['captioner']}", row["text"]) for row in coarse), *told]


def record_verdict(lake: Lake, pair: dict[str, Any], reviewer: str, sample: str, verdict: str) -> None:
    """Append one judgement. Raises: ValueError for a verdict that is none of `VERDICTS`."""
    if verdict not in VERDICTS:
        raise ValueError(f"verdict = {verdict!r} must be one of {', '.join(VERDICTS)}")
    position = lake.value("select coalesce(max(position) + 1, 0) from captions.reviews where reviewer = ?", [reviewer])
    row = {name: pair[name] for name in ("clip_id", "captioner", "captioner_version")}
    row |= {"reviewer": reviewer, "sample": sample, "verdict": verdict, "position": position}
    rows = lake.to_arrow("captions.reviews", [row])
    write = Write(
        "captions.reviews", f"review by {reviewer}", inputs=[("captions.captions", None)], num_in=1, num_out=1
    )
    lake.commit(write, [Append("captions.reviews", rows, KEY)])


def verdicts_of(lake: Lake, reviewer: str, captioner_version: str) -> dict[str, str]:
    """A reviewer's newest verdict on each clip's caption by a version."""
    rows = lake.rows(f"select clip_id, verdict from ({_NEWEST}) where reviewer = ? and captioner_version = ?", [
        reviewer, captioner_version
    ])  # fmt: skip
    return {row["clip_id"]: row["verdict"] for row in rows}


_NEWEST = (
    "select * from captions.reviews qualify row_number() over "
    "(partition by clip_id, captioner, captioner_version, reviewer order by position desc) = 1"
)


def precisions(lake: Lake) -> list[dict[str, Any]]:
    """For each captioner version that was reviewed: num, num_accepted, num_reviewers, precision and its 95 % Wilson
    interval low..high. The interval holds for the whole version as far as the pairs were drawn by `draw_sample`."""
    rows = lake.rows(
        "select captioner, captioner_version, count(*) as num, count(*) filter (verdict = 'accept') as num_accepted, "
        f"count(distinct reviewer) as num_reviewers from ({_NEWEST}) group by captioner, captioner_version order by all"
    )
    return [row | _with_interval(row["num_accepted"], row["num"]) for row in rows]


def _with_interval(num_accepted: int, num: int) -> dict[str, float]:
    interval = binomtest(num_accepted, num).proportion_ci(method="wilson")
    return {"precision": num_accepted / num, "low": float(interval.low), "high": float(interval.high)}


def precision_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The precisions for a terminal."""
    return [
        f"{row['captioner']} {row['captioner_version']}: {row['num_accepted']} of {row['num']} accepted, precision "
        f"{row['precision']:.2f} (95 % interval {row['low']:.2f} to {row['high']:.2f}), {row['num_reviewers']} reviewers"
        for row in rows
    ] or ["nothing has been reviewed yet"]
