"""Captions: coarse, fine and spoken texts, merged into one per clip (P§3.2).

An asset's code version holds its recipe's version, so another prompt, model or parameter shows exactly the assets that it
makes stale.
"""

import dagster as dg

from internvid_assets.captions import write
from internvid_assets.captions.recipe import load_recipe
from internvid_assets.lake import Lake
from internvid_assets.lake.assets import StageRun, lake_asset
from internvid_assets.progress import bar
from internvid_assets.settings import Settings
from internvid_assets.store import ObjectStore

_CURRENT = load_recipe(Settings().captions)


@lake_asset(
    "captions.coarse_captions",
    kinds={"python", "onnx"},
    code_version=write.code_version(_CURRENT.version("coarse")),
    deps=("clips.clips",),
)
def coarse_captions(
    context: dg.AssetExecutionContext,
    lake: dg.ResourceParam[Lake],
    store: dg.ResourceParam[ObjectStore],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult:
    """One row is a text of one clip's middle frame by one captioner version."""
    stage, recipe = StageRun(context, lake), load_recipe(settings.captions)
    return stage.finish_parts(write.coarse_parts(lake, store, recipe, stage.batch, bar), recipe.version("coarse"))


@lake_asset(
    "captions.fine_captions",
    kinds={"python", "onnx"},
    code_version=write.code_version(_CURRENT.version("fine")),
    deps=("clips.clips",),
)
def fine_captions(
    context: dg.AssetExecutionContext,
    lake: dg.ResourceParam[Lake],
    store: dg.ResourceParam[ObjectStore],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult:
    """One row is the texts of one clip's frames at one a second, and its motion, by one captioner version."""
    stage, recipe = StageRun(context, lake), load_recipe(settings.captions)
    return stage.finish_parts(write.fine_parts(lake, store, recipe, stage.batch, bar), recipe.version("fine"))


@lake_asset(
    "captions.transcripts",
    kinds={"python", "whisper"},
    code_version=write.code_version(_CURRENT.transcriber.version),
    deps=("videos.raw_videos", "clips.clips"),
)
def transcripts(
    context: dg.AssetExecutionContext,
    lake: dg.ResourceParam[Lake],
    store: dg.ResourceParam[ObjectStore],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult:
    """One row is the words spoken or subtitled in one clip; empty when nothing is said."""
    stage, transcriber = StageRun(context, lake), load_recipe(settings.captions).transcriber
    return stage.finish_parts(write.transcript_parts(lake, store, transcriber, stage.batch, bar), transcriber.version)


@lake_asset(
    "captions.captions",
    kinds={"python"},
    code_version=write.code_version(_CURRENT.version("merge")),
    deps=("captions.coarse_captions", "captions.fine_captions", "captions.transcripts"),
)
def captions(
    context: dg.AssetExecutionContext,
    lake: dg.ResourceParam[Lake],
    store: dg.ResourceParam[ObjectStore],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult:
    """One row is the caption of one clip by one captioner version, merged from its coarse, fine and spoken texts."""
    stage, recipe = StageRun(context, lake), load_recipe(settings.captions)
    return stage.finish_parts(write.merge_parts(lake, store, recipe, stage.batch, bar), recipe.version("merge"))


assets = [coarse_captions, fine_captions, transcripts, captions]
