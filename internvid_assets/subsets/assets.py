"""Subsets: every file of `dbt_like_sql/` is one table and one asset."""

import dagster as dg

from internvid_assets.lake import Lake
from internvid_assets.lake.assets import OWNERS, StageRun, table_key
from internvid_assets.lake.histograms import histogram_markdown
from internvid_assets.lake.models import SqlModel, column_lineage, discover
from internvid_assets.settings import Settings
from internvid_assets.subsets.build import build_model, model_config


def _asset(model: SqlModel) -> dg.AssetsDefinition:
    """The asset of one SQL file."""

    @dg.asset(
        key=table_key(model.table),
        group_name="subsets",
        kinds={"sql", "duckdb"},
        owners=OWNERS,
        description=model.description,
        code_version=model.code_version,
        deps=[table_key(ref) for ref in model.refs],
        metadata={"dagster/table_name": f"lake.{model.table}", "sql": dg.MetadataValue.md(f"```sql\n{model.sql}\n```")},
    )
    def table(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], settings: dg.ResourceParam[Settings]
    ) -> dg.MaterializeResult:
        stage = StageRun(context, lake)
        done = stage.finish(build_model(lake, model, settings), model_config(lake, model, settings))
        return done._replace(metadata={**(done.metadata or {}), **_shown(lake, model)})

    return table


def _shown(lake: Lake, model: SqlModel) -> dict[str, dg.MetadataValue]:
    """Schema, column lineage and a preview of the table as it now is."""
    columns = [dg.TableColumn(f.name, str(f.type)) for f in lake.schema(model.table)]
    origins = column_lineage(model, {ref: lake.schema(ref).names for ref in model.refs})
    lineage = dg.TableColumnLineage(
        {
            name: [dg.TableColumnDep(table_key(table), column) for table, column in sources]
            for name, sources in origins.items()
        }
    )
    return {
        "dagster/column_schema": dg.MetadataValue.table_schema(dg.TableSchema(columns)),
        "dagster/column_lineage": dg.MetadataValue.column_lineage(lineage),
        "preview": dg.MetadataValue.md(histogram_markdown(lake, model.table)),
    }


assets = [_asset(model) for model in discover()]
