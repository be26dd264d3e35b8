"""Videos: sources become bytes that we hold (P§3.1)."""

import dagster as dg

from internvid_assets.lake import Lake
from internvid_assets.lake.assets import StageRun, lake_asset
from internvid_assets.progress import bar
from internvid_assets.settings import Settings
from internvid_assets.store import ObjectStore
from internvid_assets.videos.ingest import CODE_VERSION, gate_version, ingest_parts


@lake_asset("videos.raw_videos", kinds={"python", "ffmpeg"}, code_version=CODE_VERSION)
def raw_videos(
    context: dg.AssetExecutionContext,
    lake: dg.ResourceParam[Lake],
    store: dg.ResourceParam[ObjectStore],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult:
    """One row is a video whose bytes we hold, accepted by the gate; all others are quarantine rows or wait for a retry."""
    stage = StageRun(context, lake)
    return stage.finish_parts(ingest_parts(lake, store, settings, stage.batch, bar), gate_version(settings))


assets = [raw_videos]
