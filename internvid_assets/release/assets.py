"""Release: a subset as citable files (P§3.1, App. A) and as training shards."""

import dagster as dg

from internvid_assets.lake import Lake
from internvid_assets.lake.assets import StageRun, lake_asset
from internvid_assets.lake.stage import short_hash
from internvid_assets.progress import bar
from internvid_assets.release.publish import CODE_VERSION, build_shards, publish_release
from internvid_assets.settings import Settings
from internvid_assets.store import ObjectStore

SUBSETS = tuple(
    f"subsets.{name}" for name in ("internvid_10m", "internvid_10m_div", "internvid_10m_flt", "internvid_18m_aes")
)


@lake_asset("release.dataset_release", kinds={"python", "json"}, code_version=CODE_VERSION, deps=SUBSETS, batched=False)
def dataset_release(
    context: dg.AssetExecutionContext,
    lake: dg.ResourceParam[Lake],
    store: dg.ResourceParam[ObjectStore],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult:
    """One row is a published state of a subset: JSONL and Parquet files, card, Croissant and checksums, never changed."""
    stage = StageRun(context, lake)
    result = publish_release(lake, store, settings)
    return stage.finish(result, short_hash(settings.release), [f"subsets.{settings.release.release_subset}"])


@lake_asset(
    "release.training_shards",
    kinds={"python", "webdataset"},
    code_version=CODE_VERSION,
    deps=(*SUBSETS, "clips.clips"),
    batched=False,
)
def training_shards(
    context: dg.AssetExecutionContext,
    lake: dg.ResourceParam[Lake],
    store: dg.ResourceParam[ObjectStore],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult:
    """One row is a WebDataset shard of clip frames and captions, listed by the manifest that training reads."""
    stage = StageRun(context, lake)
    result = build_shards(lake, store, settings.release, settings.cache_folder, bar)
    return stage.finish(
        result, short_hash(settings.release), [f"subsets.{settings.release.training_subset}", "clips.clips"]
    )


assets = [dataset_release, training_shards]
