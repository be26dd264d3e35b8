"""Scores: numbers of clips and captions (P§3.3)."""

import dagster as dg

from internvid_assets.lake import Lake
from internvid_assets.lake.assets import StageRun, lake_asset
from internvid_assets.lake.stage import short_hash
from internvid_assets.progress import bar
from internvid_assets.scores.base import load_scorers
from internvid_assets.scores.semantic import CODE_VERSION as SEMANTIC_CODE_VERSION
from internvid_assets.scores.semantic import find_semantic_duplicates
from internvid_assets.scores.write import CODE_VERSION, score_histograms, score_parts
from internvid_assets.settings import Settings
from internvid_assets.store import ObjectStore


@lake_asset(
    "scores.clip_scores",
    kinds={"python", "onnx"},
    code_version=CODE_VERSION,
    deps=("clips.clips", "captions.captions", "captions.coarse_captions", "captions.fine_captions"),
)
def clip_scores(
    context: dg.AssetExecutionContext,
    lake: dg.ResourceParam[Lake],
    store: dg.ResourceParam[ObjectStore],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult:
    """One row is one number of one clip, or of one clip and caption, by one scorer version."""
    stage = StageRun(context, lake)
    scorers = load_scorers(settings, lake, store)
    versions = {scorer.name: f"{scorer.backend} {scorer.version}" for scorer in scorers}
    done = stage.finish_parts(
        score_parts(lake, store, scorers, stage.batch, bar), short_hash(versions), scorer_versions=versions
    )
    preview = dg.MetadataValue.md(score_histograms(lake, stage.batch))
    return done._replace(metadata={**(done.metadata or {}), "preview": preview})


@lake_asset(
    "scores.semantic_duplicates",
    kinds={"python", "onnx"},
    code_version=SEMANTIC_CODE_VERSION,
    deps=("clips.clips",),
    batched=False,
)
def semantic_duplicates(
    context: dg.AssetExecutionContext,
    lake: dg.ResourceParam[Lake],
    store: dg.ResourceParam[ObjectStore],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult:
    """One row is a clip whose pictures mean the same as another's; none unless `duplicates.semantic` is set."""
    stage = StageRun(context, lake)
    parts = find_semantic_duplicates(lake, store, settings.duplicates, bar)
    return stage.finish_parts(parts, short_hash(settings.duplicates.model_dump()))


assets = [clip_scores, semantic_duplicates]
