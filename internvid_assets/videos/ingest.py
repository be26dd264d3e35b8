"""One batch of sources becomes videos whose bytes we hold, or quarantine rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from internvid_assets.lake import Lake, Replace
from internvid_assets.lake.stage import Quarantined, Refusal, StageResult, count_reasons, quarantine_change
from internvid_assets.settings import GateSettings
from internvid_assets.store import ObjectStore, file_sha256
from internvid_assets.videos.gate import Exclusions, exclusions, refusal
from internvid_assets.videos.probe import probe

CODE_VERSION = "2"
_CARRIED = ("title", "description", "tags", "query", "language", "license", "caption")


def ingest_batch(
    lake: Lake, store: ObjectStore, gate: GateSettings, batch: str, progress: Callable[[list[Any], str], Any]
) -> StageResult:
    """Read, hash, probe and store every source of the batch.

    The same bytes under two names are one video: the source that the lake held first keeps it, within a batch the
    first by address; the other is quarantined as `exact_duplicate`. What was taken down is refused as `taken_down`.
    """
    sources = lake.rows("select * from videos.sources where batch = ? order by source_uri", [batch])
    holders = {
        row["content_sha256"]: row["source_uri"]
        for row in lake.rows("select content_sha256, source_uri from videos.raw_videos where batch <> ?", [batch])
    }
    excluded = exclusions(lake, gate)
    accepted: list[dict[str, Any]] = []
    refused: list[Quarantined] = []
    for source in progress(sources, "raw_videos"):
        outcome = _ingest(source, store, gate, holders, excluded)
        if isinstance(outcome, Refusal):
            uri = source["source_uri"]
            refused.append(Quarantined(uri, outcome.reason, outcome.detail, uri))
        else:
            accepted.append({"batch": batch, **outcome})
    return StageResult(
        changes=[
            Replace("videos.raw_videos", lake.to_arrow("videos.raw_videos", accepted), f"batch = '{batch}'"),
            quarantine_change(lake, batch, "videos", refused),
        ],
        num_in=len(sources),
        num_out=len(accepted),
        drops=count_reasons(refused),
        metadata={"bytes": sum(row["num_bytes"] for row in accepted)},
    )


def _ingest(
    source: dict[str, Any], store: ObjectStore, gate: GateSettings, holders: dict[str, str], excluded: Exclusions
) -> dict | Refusal:
    path = Path(source["source_uri"])
    try:
        facts = probe(path)
        if isinstance(facts, Refusal):
            return facts
        if refused := refusal(facts, source["license"], gate):
            return refused
        digest = file_sha256(path)
    except FileNotFoundError:
        return Refusal("gone", "the source is no longer there")
    except PermissionError as error:
        return Refusal("permission_denied", str(error.strerror))
    video_id = source["youtube_id"] or digest[:16]
    if refused := excluded.refusal(digest, video_id, source["source_uri"]):
        return refused
    holder = holders.setdefault(digest, source["source_uri"])
    if holder != source["source_uri"]:
        return Refusal("exact_duplicate", f"same bytes as {holder}")
    media_key = f"videos/{digest[:2]}/{digest}{path.suffix.lower()}"
    store.put_file(media_key, path, digest)
    return {
        "video_id": video_id,
        "content_sha256": digest,
        "source_uri": source["source_uri"],
        "media_key": media_key,
        "num_bytes": path.stat().st_size,
        **asdict(facts),
        **{name: source[name] for name in _CARRIED},
    }
