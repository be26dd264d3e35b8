"""Whether published files are still what their manifests say."""

from __future__ import annotations

import json

from internvid_assets.lake import Lake
from internvid_assets.store import ObjectStore
from internvid_assets.store.objects import file_sha256


def torn_releases(lake: Lake, store: ObjectStore) -> list[str]:
    """Keys of release files that are missing or have another hash than the manifest says; withdrawn ones are left out."""
    torn = []
    standing = "select manifest_key, manifest_sha256 from release.dataset_release where withdrawn_by is null order by 1"
    for row in lake.rows(standing):
        folder = row["manifest_key"].rpartition("/")[0]
        expected = [("manifest.json", row["manifest_sha256"])]
        if store.exists(row["manifest_key"]):
            manifest = json.loads(store.get_bytes(row["manifest_key"]))
            expected += [(file["name"], file["sha256"]) for file in manifest["files"]]
        torn += [f"{folder}/{name}" for name, digest in expected if not _has(store, f"{folder}/{name}", digest)]
    return torn


def torn_shards(lake: Lake, store: ObjectStore) -> list[str]:
    """Keys of shards that are missing, have another hash, or whose samples are not listed exactly once.

    Withdrawn sets are left out.
    """
    rows = lake.rows(
        "select shard_key, sha256, num_samples, (select count(distinct clip_id) from release.shard_samples as samples "
        "where samples.shard_key = shards.shard_key) as num_listed from release.training_shards as shards "
        "where withdrawn_by is null order by 1"
    )
    return [
        row["shard_key"]
        for row in rows
        if row["num_samples"] != row["num_listed"] or not _has(store, row["shard_key"], row["sha256"])
    ]


def _has(store: ObjectStore, key: str, digest: str) -> bool:
    return store.exists(key) and file_sha256(store.local_path(key)) == digest
