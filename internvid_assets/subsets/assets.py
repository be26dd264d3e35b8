"""Subsets: every file of `dbt_like_sql/` is one table and one asset."""

import dagster as dg

from internvid_assets.lake import CreateAs, Lake
from internvid_assets.lake.assets import OWNERS, StageRun, table_key
from internvid_assets.lake.models import SqlModel, discover
from internvid_assets.lake.stage import StageResult, short_hash
from internvid_assets.settings import Settings


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
        lake.set_parameters(settings.subsets.parameters)
        num_rows = lake.value(f"select count(*) from ({model.sql}) as model")
        result = StageResult([CreateAs(model.table, model.sql)], num_in=num_rows, num_out=num_rows)
        done = stage.finish(result, short_hash(settings.subsets.parameters))
        fields = [dg.TableColumn(f.name, str(f.type)) for f in lake.schema(model.table)]
        return done._replace(
            metadata={**(done.metadata or {}), "dagster/column_schema": dg.TableSchema(columns=fields)}
        )

    return table


assets = [_asset(model) for model in discover()]
