"""`internvid stale`: the assets as they now are, held against what the lake was made from."""

from __future__ import annotations

from collections.abc import Callable

from internvid_assets.captions import write as captions
from internvid_assets.captions.recipe import load_recipe
from internvid_assets.clips.cut import scan_version
from internvid_assets.lake import Lake
from internvid_assets.lake.assets import table_name
from internvid_assets.lake.models import discover
from internvid_assets.lake.stale import Asset, Stale, stale
from internvid_assets.scores.base import load_scorers
from internvid_assets.scores.todo import missing_by_batch
from internvid_assets.settings import Settings
from internvid_assets.subsets.build import model_config
from internvid_assets.viclip.launch import evaluation_key, run_key
from internvid_assets.viclip.train import newest_shards
from internvid_assets.videos.ingest import gate_version

_SCORES = "scores.clip_scores"


def stale_assets(lake: Lake, settings: Settings) -> list[Stale]:
    """Every table and batch that a run would make again. Raises: ValueError for a wrong captioner or scorer."""
    scorers = load_scorers(settings, lake)
    missing = captions.missing_by_batch(lake, load_recipe(settings.captions))
    missing |= {(_SCORES, batch): count for batch, count in missing_by_batch(lake, scorers).items()}
    return stale(lake, assets_now(lake, settings), missing)


def assets_now(lake: Lake, settings: Settings) -> list[Asset]:
    """In the order of the data path."""
    from internvid_assets.definitions import defs

    graph = defs.resolve_asset_graph()
    hashes = _config_hashes(lake, settings)
    found = []
    for key in (key for key in graph.toposorted_asset_keys if key in graph.materializable_asset_keys):
        node, table = graph.get(key), table_name(key)
        config_hash = hashes[table]() if table in hashes else None
        reads = tuple(sorted(table_name(parent) for parent in node.parent_keys))
        found.append(Asset(table, node.code_version or "", config_hash, reads, node.is_partitioned))
    return found


def _config_hashes(lake: Lake, settings: Settings) -> dict[str, Callable[[], str | None]]:
    """As the assets store them; texts and scores carry versions in their rows instead."""

    def run_key_now() -> str | None:
        try:
            return run_key(settings.viclip, newest_shards(lake, settings.release.training_subset))
        except ValueError:
            return None

    return {
        "videos.raw_videos": lambda: gate_version(settings),
        "clips.clips": lambda: scan_version(settings.clips),
        **{model.table: lambda model=model: model_config(lake, model, settings) for model in discover()},  # type: ignore[misc]
        "viclip.viclip_checkpoint": run_key_now,
        "viclip.viclip_evaluation": lambda: evaluation_key(settings.viclip),
    }
