"""One batch of videos becomes clips and frame packs, or quarantine rows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from internvid_assets.clips.scan import CODE_VERSION, ScanOptions
from internvid_assets.clips.workers import ScanLimits, Scanned, scan_videos
from internvid_assets.lake import Lake, Replace
from internvid_assets.lake.stage import Quarantined, StageResult, count_reasons, quarantine_change, short_hash
from internvid_assets.settings import ClipSettings
from internvid_assets.store import ObjectStore, file_sha256


def scan_options(settings: ClipSettings) -> ScanOptions:
    """The scanner's options from the settings."""
    return ScanOptions(
        detector=settings.detector,
        threshold=settings.threshold,
        adaptive_ratio=settings.adaptive_ratio,
        neural_threshold=settings.neural_threshold,
        min_shot_frames=settings.min_shot_frames,
        min_clip_seconds=settings.min_clip_seconds,
        max_clip_seconds=settings.max_clip_seconds,
        trim_start_frames=settings.trim_start_frames,
        trim_end_frames=settings.trim_end_frames,
        short_side=settings.short_side,
        num_uniform=settings.num_frames,
        exact=settings.exact,
        fast=settings.fast,
        decoder=settings.decoder,
    )


def check_settings(settings: ClipSettings) -> None:
    """Raises: ValueError when the settings contradict each other or want what is not on this machine."""
    scan_options(settings).require()


def scan_version(settings: ClipSettings) -> str:
    """Changes when a scan of the same bytes may give other rows."""
    return short_hash(CODE_VERSION, scan_options(settings))


def cut_batch(
    lake: Lake,
    store: ObjectStore,
    settings: ClipSettings,
    workers: int,
    batch: str,
    progress: Callable[..., Any],
) -> StageResult:
    """Scan every video of the batch that this scan version has not scanned yet; keep the rows of the others."""
    check_settings(settings)
    videos = lake.rows("select * from videos.raw_videos where batch = ? order by video_id", [batch])
    kept_rows, kept_refusals = _already_scanned(lake, settings, batch, {v["video_id"] for v in videos})
    done = {row["video_id"] for row in kept_rows} | {item.item_id for item in kept_refusals}
    todo = [v for v in videos if v["video_id"] not in done]
    uris = {v["video_id"]: v["source_uri"] for v in videos}
    rows, refused, num_errors, cpu_seconds = list(kept_rows), list(kept_refusals), 0, 0.0
    limits = ScanLimits(settings.seconds_limit, settings.memory_limit_mib, settings.output_limit_mib)
    with tempfile.TemporaryDirectory() as folder:
        pairs = [(v["video_id"], store.local_path(v["media_key"])) for v in todo]
        sections = {
            v["video_id"]: list(zip(v["section_starts"] or (), v["section_ends"] or (), strict=True)) for v in todo
        }
        outcomes = scan_videos(pairs, scan_options(settings), limits, workers, Path(folder), sections)
        for scanned in progress(outcomes, "clips", total=len(pairs)):
            num_errors += scanned.num_decode_errors
            cpu_seconds += scanned.cpu_seconds
            rows += _stored(scanned, store, batch)
            refused += _refusals(scanned, uris[scanned.video_id])
    rows.sort(key=lambda row: (row["video_id"], row["clip_index"]))
    refused.sort(key=lambda item: (item.item_id, item.reason))
    return StageResult(
        changes=[
            Replace("clips.clips", lake.to_arrow("clips.clips", rows), f"batch = '{batch}'"),
            quarantine_change(lake, batch, "clips", refused),
        ],
        num_in=len(videos),
        num_out=len(rows),
        drops=count_reasons(refused),
        metadata={
            "videos_scanned_now": len(todo),
            "decode_errors": num_errors,
            "clip_seconds": sum(row["end_seconds"] - row["start_seconds"] for row in rows),
        },
        costs={"cpu_seconds": cpu_seconds},
    )


def _already_scanned(
    lake: Lake, settings: ClipSettings, batch: str, video_ids: set[str]
) -> tuple[list[dict[str, Any]], list[Quarantined]]:
    """Rows and refusals of this batch that the current scan version made and whose videos are still there."""
    last = lake.rows(
        "select config_hash from lineage.materializations where asset = 'clips.clips' and partition_key = ? "
        "order by written_at desc limit 1",
        [batch],
    )
    if not last or last[0]["config_hash"] != scan_version(settings):
        return [], []
    rows = lake.rows("select * from clips.clips where batch = ?", [batch])
    refused = lake.rows("select * from videos.quarantine where batch = ? and stage = 'clips'", [batch])
    return (
        [row for row in rows if row["video_id"] in video_ids],
        [
            Quarantined(r["item_id"], r["reason"], r["detail"], r["source_uri"])
            for r in refused
            if r["item_id"].partition(":")[0] in video_ids
        ],
    )


def _stored(scanned: Scanned, store: ObjectStore, batch: str) -> list[dict[str, Any]]:
    """The clip rows of one video, with its frame pack put into the store."""
    if scanned.pack is None or not scanned.clips:
        return []
    digest = file_sha256(scanned.pack)
    key = f"frames/{scanned.video_id}/{digest[:16]}.tar"
    store.put_file(key, scanned.pack, digest)
    scanned.pack.unlink()
    return [{"batch": batch, "frame_pack_key": key, **row} for row in scanned.clips]


def _refusals(scanned: Scanned, uri: str) -> list[Quarantined]:
    if scanned.reason is not None:
        return [Quarantined(scanned.video_id, scanned.reason, scanned.detail, uri)]
    return [
        *(Quarantined(scanned.video_id, reason, detail, uri) for reason, detail in scanned.damage),
        *(
            Quarantined(f"{scanned.video_id}:{start}-{end}", "shot_too_short", f"frames [{start}, {end})", uri)
            for start, end in scanned.too_short
        ),
    ]
