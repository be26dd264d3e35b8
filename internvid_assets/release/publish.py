"""A subset becomes a release, and training shards: read the pairs, write the files, put them into the store."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from internvid_assets.clips.frames import FrameSource
from internvid_assets.lake import Append, Lake
from internvid_assets.lake.stage import StageResult, short_hash
from internvid_assets.release.export import ReleaseFacts, write_release
from internvid_assets.release.shards import ShardOptions, shard_order, write_shards
from internvid_assets.settings import ReleaseSettings, Settings
from internvid_assets.store import ObjectStore
from internvid_assets.subsets.trust import captions_of_subset, findings

CODE_VERSION = "1"


def publish_release(lake: Lake, store: ObjectStore, every: Settings) -> StageResult:
    """Export the release subset; the same pairs under the same settings are published once.

    Raises: ValueError when the subset does not exist, is empty, or has captions that cannot be trusted.
    """
    settings, subset = every.release, every.release.release_subset
    pairs, snapshot_id = _subset(lake, subset)
    found = findings(lake, captions_of_subset(subset), every.trust, every.subsets.parameters)
    broken = [finding.told() for finding in found if not finding.passed]
    if broken:
        raise ValueError(f"{subset} is not released, since its captions break a claim: {'; '.join(broken)}")
    content_hash = _content_hash(pairs, CODE_VERSION, settings.title, settings.license)
    held = lake.rows("select * from release.dataset_release where content_hash = ?", [content_hash])
    if held:
        return _unchanged(pairs.num_rows, held[0]["release_id"], store.uri(held[0]["manifest_key"]))
    folder = _empty(every.cache_folder / "releases" / content_hash)
    digest = write_release(folder, pairs, _facts(lake, settings, subset, snapshot_id))
    release_id = f"{subset}-{digest[:12]}"
    store.put_folder(f"releases/{release_id}", folder)
    shutil.rmtree(folder)
    row = {
        "release_id": release_id, "subset": subset, "snapshot_id": snapshot_id, "num_pairs": pairs.num_rows,
        "num_videos": len(pairs["video_id"].unique()), "total_seconds": sum(pairs["duration_seconds"].to_pylist()),
        "manifest_key": f"releases/{release_id}/manifest.json", "manifest_sha256": digest, "content_hash": content_hash,
    }  # fmt: skip
    columns = ("clip_id", "video_id", "captioner", "captioner_version")
    released = pairs.select(columns).add_column(0, "release_id", pa.array([release_id] * pairs.num_rows))
    return StageResult(
        [
            Append("release.dataset_release", lake.to_arrow("release.dataset_release", [row]), ("release_id",)),
            Append("release.released_pairs", released, ("release_id", "clip_id")),
        ],
        num_in=pairs.num_rows,
        num_out=pairs.num_rows,
        metadata={"release_id": release_id, "where": store.uri(f"releases/{release_id}")},
    )


def build_shards(
    lake: Lake, store: ObjectStore, settings: ReleaseSettings, cache: Path, progress: Callable[..., Any]
) -> StageResult:
    """Write the training subset as WebDataset shards; a broken build goes on where it stopped.

    Raises: ValueError when the subset does not exist or is empty, or when frames are gone.
    """
    subset = settings.training_subset
    pairs, snapshot_id = _subset(lake, subset)
    options = ShardOptions(settings.shard_size, settings.shard_frames, settings.shard_short_side)
    content_hash = _content_hash(pairs, CODE_VERSION, options)
    held = lake.rows("select * from release.training_shards where content_hash = ? limit 1", [content_hash])
    if held:
        return _unchanged(pairs.num_rows, held[0]["shards_id"], store.uri(f"shards/{held[0]['shards_id']}"))
    rows = shard_order(pairs.to_pylist())
    folder = cache / "shards" / content_hash
    frames = FrameSource(lake, store)
    shards_id, shards = write_shards(folder, rows, frames.of_clips, options, subset, snapshot_id, progress)
    store.put_folder(f"shards/{shards_id}", folder)
    shutil.rmtree(folder)
    shard_rows = [
        {"shards_id": shards_id, "subset": subset, "snapshot_id": snapshot_id, "content_hash": content_hash,
         "shard_key": f"shards/{shards_id}/{shard.name}", "sha256": shard.sha256, "num_samples": shard.num_samples,
         "num_bytes": shard.num_bytes}
        for shard in shards
    ]  # fmt: skip
    samples = [
        {"shards_id": shards_id, "shard_key": f"shards/{shards_id}/train-{i // options.shard_size:06d}.tar",
         "clip_id": row["clip_id"], "video_id": row["video_id"]}
        for i, row in enumerate(rows)
    ]  # fmt: skip
    tables = {"release.training_shards": (shard_rows, ("shards_id", "shard_key")),
              "release.shard_samples": (samples, ("shards_id", "clip_id"))}  # fmt: skip
    return StageResult(
        [Append(table, lake.to_arrow(table, new), key) for table, (new, key) in tables.items()],
        num_in=pairs.num_rows,
        num_out=len(shards),
        metadata={
            "shards_id": shards_id,
            "num_samples": len(rows),
            "num_bytes": sum(shard.num_bytes for shard in shards),
            "where": store.uri(f"shards/{shards_id}"),
        },
    )


def _subset(lake: Lake, subset: str) -> tuple[pa.Table, int]:
    """The rows of a subset and the snapshot they were read at."""
    known = [
        row["table_name"]
        for row in lake.rows(
            "select table_name from information_schema.tables where table_catalog = 'lake' and table_schema = 'subsets'"
        )
    ]
    if subset not in known:
        raise ValueError(f"subset {subset!r} does not exist; there are {', '.join(sorted(known)) or 'none yet'}")
    snapshot_id = lake.snapshot_id()
    pairs = lake.query(f"select * from subsets.{subset} at (version => {snapshot_id}) order by clip_id")
    if pairs.num_rows == 0:
        raise ValueError(f"subset {subset} is empty: look into intermediate.int_pair_verdicts for the reasons")
    return pairs, snapshot_id


def _content_hash(pairs: pa.Table, *options: Any) -> str:
    """Of the rows in order and the options."""
    digest = hashlib.sha256()
    for row in pairs.to_pylist():
        digest.update(repr(sorted(row.items())).encode())
    return short_hash(digest.hexdigest(), *options)


def _facts(lake: Lake, settings: ReleaseSettings, subset: str, snapshot_id: int) -> ReleaseFacts:
    """What the card says of models and of refused sources."""
    captioners = lake.rows(
        f"select captioner, captioner_version, count(*) as num_pairs from subsets.{subset} group by all order by all"
    )
    scorers = lake.rows(
        f"select distinct scorer, scorer_backend, scorer_version from scores.clip_scores "
        f"semi join subsets.{subset} using (clip_id) order by all"
    )
    num_refused = lake.value("select count(*) from videos.quarantine where stage = 'videos'")
    return ReleaseFacts(
        subset, settings.title, settings.license, snapshot_id, CODE_VERSION, captioners, scorers, num_refused
    )


def _unchanged(num_pairs: int, identity: str, where: str) -> StageResult:
    return StageResult([], num_pairs, num_pairs, metadata={"unchanged": identity, "where": where})


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
