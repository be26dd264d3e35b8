"""A SQL model becomes a table of the lake."""

from __future__ import annotations

from internvid_assets.lake import CreateAs, Lake
from internvid_assets.lake.models import SqlModel
from internvid_assets.lake.stage import StageResult, short_hash
from internvid_assets.scores.base import NONE, SCORES, load_scorers
from internvid_assets.settings import Settings

Parameters = dict[str, float | int | str]
_SCORED = "scores.clip_scores"


def build_model(lake: Lake, model: SqlModel, settings: Settings) -> StageResult:
    """The table anew from its SELECT, with the parameters of the settings."""
    lake.set_parameters(model_parameters(lake, model, settings))
    num_rows = lake.value(f"select count(*) from ({model.sql}) as model")
    return StageResult([CreateAs(model.table, model.sql)], num_in=num_rows, num_out=num_rows)


def model_config(lake: Lake, model: SqlModel, settings: Settings) -> str:
    """Hash of the parameters."""
    return short_hash(model_parameters(lake, model, settings))


def model_parameters(lake: Lake, model: SqlModel, settings: Settings) -> Parameters:
    """What the settings give, and for a model that reads scores which version of each score counts."""
    versions = _versions(lake, settings) if _SCORED in model.refs else {}
    return {**versions, **settings.subsets.parameters}


def _versions(lake: Lake, settings: Settings) -> Parameters:
    """`{score}_version`, by score: the current scorer's; none for a score that the settings leave out; empty, which leaves
    the choice to the model, where the current scorer has given no number yet."""
    held = {
        (row["scorer"], row["scorer_version"])
        for row in lake.rows(f"select distinct scorer, scorer_version from {_SCORED}")
    }
    current = {scorer.name: scorer.version for scorer in load_scorers(settings, lake)}
    return {
        f"{name}_version": NONE if name not in current else current[name] if (name, current[name]) in held else ""
        for name in SCORES
    }
