"""Captions: coarse, fine and spoken texts, merged into one per clip (P§3.2)."""

import dagster as dg

from internvid_assets.captions import write
from internvid_assets.captions.base import Captioner, load_captioner
from internvid_assets.lake import Lake
from internvid_assets.lake.assets import StageRun, lake_asset
from internvid_assets.progress import bar
from internvid_assets.settings import Settings
from internvid_assets.store import ObjectStore


def _captioner(settings: Settings) -> Captioner:
    return load_captioner(settings.captions.backend, settings.captions.options)


@lake_asset(
    "captions.coarse_captions", kinds={"python", "onnx"}, code_version=write.CODE_VERSION, deps=("clips.clips",)
)
def coarse_captions(
    context: dg.AssetExecutionContext,
    lake: dg.ResourceParam[Lake],
    store: dg.ResourceParam[ObjectStore],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult:
    """One row is a text of one clip's middle frame by one captioner version."""
    stage, captioner = StageRun(context, lake), _captioner(settings)
    return stage.finish(write.coarse_batch(lake, store, captioner, stage.batch, bar), captioner.version)


@lake_asset("captions.fine_captions", kinds={"python", "onnx"}, code_version=write.CODE_VERSION, deps=("clips.clips",))
def fine_captions(
    context: dg.AssetExecutionContext,
    lake: dg.ResourceParam[Lake],
    store: dg.ResourceParam[ObjectStore],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult:
    """One row is the texts of one clip's frames at one a second, and its motion, by one captioner version."""
    stage, captioner = StageRun(context, lake), _captioner(settings)
    return stage.finish(write.fine_batch(lake, store, captioner, stage.batch, bar), captioner.version)


@lake_asset(
    "captions.transcripts",
    kinds={"python", "whisper"},
    code_version=write.CODE_VERSION,
    deps=("videos.raw_videos", "clips.clips"),
)
def transcripts(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], store: dg.ResourceParam[ObjectStore]
) -> dg.MaterializeResult:
    """One row is the words spoken or subtitled in one clip; empty when nothing is said."""
    stage = StageRun(context, lake)
    return stage.finish(write.transcribe_batch(lake, store, stage.batch, bar), write.TRANSCRIBER_VERSION)


@lake_asset(
    "captions.captions",
    kinds={"python"},
    code_version=write.CODE_VERSION,
    deps=("captions.coarse_captions", "captions.fine_captions", "captions.transcripts"),
)
def captions(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], settings: dg.ResourceParam[Settings]
) -> dg.MaterializeResult:
    """One row is the caption of one clip by one captioner version, merged from its coarse, fine and spoken texts."""
    stage, captioner = StageRun(context, lake), _captioner(settings)
    return stage.finish(write.merge_batch(lake, captioner, stage.batch, bar), captioner.version)


assets = [coarse_captions, fine_captions, transcripts, captions]
