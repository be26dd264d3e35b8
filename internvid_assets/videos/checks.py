"""Claims about videos that would be wrong to build on if false."""

import dagster as dg

from internvid_assets.lake import Lake
from internvid_assets.lake.assets import claim, table_key

RAW_VIDEOS = table_key("videos.raw_videos")


@dg.asset_check(asset=RAW_VIDEOS, blocking=True)
def video_ids_are_unique(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
    """No two held videos share an id, across all batches."""
    return claim(lake, "select video_id from videos.raw_videos group by video_id having count(*) > 1", "shared ids")


@dg.asset_check(asset=RAW_VIDEOS, blocking=True)
def every_source_is_accounted_for(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
    """Each source of an ingested batch is a video, a quarantine row, or waits for a retry: nothing was lost."""
    return claim(
        lake,
        "select source_uri from videos.sources where batch in (select partition_key from lineage.materializations "
        "where asset = 'videos.raw_videos') and source_uri not in (select source_uri from videos.raw_videos) "
        "and source_uri not in (select item_id from videos.quarantine where stage = 'videos') "
        "and source_uri not in (select source_uri from videos.items where state in ('pending', 'retryable'))",
        "lost sources",
    )


@dg.asset_check(asset=RAW_VIDEOS, blocking=True)
def the_ledger_agrees_with_what_is_held(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
    """Each item is there once, and is `held` exactly when it is a video."""
    return claim(
        lake,
        "select source_uri from videos.items left join (select source_uri, true as is_held from videos.raw_videos) "
        "using (source_uri) group by source_uri having count(*) > 1 "
        "or bool_or((state = 'held') <> coalesce(is_held, false))",
        "wrong items",
    )


checks = [video_ids_are_unique, every_source_is_accounted_for, the_ledger_agrees_with_what_is_held]
