"""Clips: one decode pass per video gives spans, statistics and frame packs (P§3.1 Trimming)."""

import dagster as dg

from internvid_assets.clips.cut import cut_batch, scan_version
from internvid_assets.clips.frames import FrameSource
from internvid_assets.clips.matches import CODE_VERSION as MATCHES_CODE_VERSION
from internvid_assets.clips.matches import match_batches
from internvid_assets.clips.scan import CODE_VERSION
from internvid_assets.lake import Lake
from internvid_assets.lake.assets import StageRun, lake_asset, markdown_image
from internvid_assets.progress import bar
from internvid_assets.settings import Settings
from internvid_assets.store import ObjectStore


@lake_asset("clips.clips", kinds={"python", "ffmpeg", "opencv"}, code_version=CODE_VERSION, deps=("videos.raw_videos",))
def clips(
    context: dg.AssetExecutionContext,
    lake: dg.ResourceParam[Lake],
    store: dg.ResourceParam[ObjectStore],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult:
    """One row is a half-open span of one video between two cuts, with what was measured on its frames."""
    stage = StageRun(context, lake)
    result = cut_batch(lake, store, settings.clips, settings.workers, stage.batch, bar)
    done = stage.finish(result, scan_version(settings.clips))
    sheet = FrameSource(lake, store).sheet(stage.batch)
    return (
        done
        if sheet is None
        else done._replace(metadata={**(done.metadata or {}), "contact_sheet": markdown_image(sheet, "middle frames")})
    )


@lake_asset("clips.matches", kinds={"sql"}, code_version=MATCHES_CODE_VERSION, deps=("clips.clips",), batched=False)
def matches(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], settings: dg.ResourceParam[Settings]
) -> dg.MaterializeResult:
    """One row is a clip and another that shows the same frames, or one that was taken down, or one of a benchmark."""
    stage = StageRun(context, lake)
    with match_batches(lake, settings.duplicates) as result:
        return stage.finish(result)


assets = [clips, matches]
