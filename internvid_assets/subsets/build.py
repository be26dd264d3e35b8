"""A SQL model becomes a table of the lake."""

from __future__ import annotations

from internvid_assets.lake import CreateAs, Lake
from internvid_assets.lake.models import SqlModel
from internvid_assets.lake.stage import StageResult, short_hash
from internvid_assets.settings import SubsetSettings


def build_model(lake: Lake, model: SqlModel, settings: SubsetSettings) -> StageResult:
    """The table anew from its SELECT, with the parameters of the settings."""
    lake.set_parameters(settings.parameters)
    num_rows = lake.value(f"select count(*) from ({model.sql}) as model")
    return StageResult([CreateAs(model.table, model.sql)], num_in=num_rows, num_out=num_rows)


def model_config(settings: SubsetSettings) -> str:
    """Hash of the parameters."""
    return short_hash(settings.parameters)
