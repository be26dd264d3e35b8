"""Claims about clips that would be wrong to build on if false."""

import dagster as dg

from internvid_assets.lake import Lake
from internvid_assets.lake.assets import claim, table_key

CLIPS = table_key("clips.clips")


@dg.asset_check(asset=CLIPS, blocking=True)
def clip_ids_are_unique(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
    """No two rows share a clip id, across all batches."""
    return claim(lake, "select clip_id from clips.clips group by clip_id having count(*) > 1", "shared ids")


@dg.asset_check(asset=CLIPS, blocking=True)
def clips_do_not_overlap(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
    """Within a video, each clip ends before the next begins; every span holds at least one frame."""
    return claim(
        lake,
        "select clip_id from (select clip_id, start_frame, end_frame, lead(start_frame) over "
        "(partition by video_id order by start_frame) as next_start from clips.clips) "
        "where start_frame >= end_frame or end_frame > next_start",
        "overlaps",
    )


@dg.asset_check(asset=CLIPS, blocking=True)
def every_video_is_accounted_for(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
    """Each video of a cut batch has clips or a quarantine row."""
    return claim(
        lake,
        "select video_id from videos.raw_videos where batch in (select partition_key from lineage.materializations "
        "where asset = 'clips.clips') and video_id not in (select video_id from clips.clips) and video_id not in "
        "(select split_part(item_id, ':', 1) from videos.quarantine where stage = 'clips')",
        "lost videos",
    )


checks = [clip_ids_are_unique, clips_do_not_overlap, every_video_is_accounted_for]
