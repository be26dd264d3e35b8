"""Claims about what is published: a false one would put wrong or torn files into others' hands."""

import dagster as dg

from internvid_assets.lake import Lake
from internvid_assets.lake.assets import claim, table_key
from internvid_assets.release.verify import torn_releases, torn_shards
from internvid_assets.store import ObjectStore


@dg.asset_check(asset=table_key("release.dataset_release"), blocking=True)
def released_pairs_come_from_held_videos(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
    """Every released clip belongs to a video that the lake holds."""
    return claim(
        lake,
        "select clip_id from release.released_pairs anti join videos.raw_videos using (video_id)",
        "orphaned pairs",
    )


@dg.asset_check(asset=table_key("release.dataset_release"), blocking=True)
def released_files_have_their_hashes(
    lake: dg.ResourceParam[Lake], store: dg.ResourceParam[ObjectStore]
) -> dg.AssetCheckResult:
    """Every file of every release has the hash that its manifest gives."""
    torn = torn_releases(lake, store)
    return dg.AssetCheckResult(passed=not torn, metadata={"torn_files": torn[:5]})


@dg.asset_check(asset=table_key("release.training_shards"), blocking=True)
def shards_hold_what_the_manifest_says(
    lake: dg.ResourceParam[Lake], store: dg.ResourceParam[ObjectStore]
) -> dg.AssetCheckResult:
    """Every shard of the newest set is in the store with its size, and every sample is listed once."""
    torn = torn_shards(lake, store)
    return dg.AssetCheckResult(passed=not torn, metadata={"torn_shards": torn[:5]})


checks = [released_pairs_come_from_held_videos, released_files_have_their_hashes, shards_hold_what_the_manifest_says]
