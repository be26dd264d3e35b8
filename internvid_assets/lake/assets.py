"""How a table of the lake shows itself in Dagster: keys, common arguments and the report of a write."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import cache
from typing import Any

import dagster as dg

from internvid_assets.costs.ledger import check_budget
from internvid_assets.costs.meter import Reading
from internvid_assets.lake.catalog import Lake
from internvid_assets.lake.stage import StageResult
from internvid_assets.lake.tables import columns_of

BATCHES = dg.DynamicPartitionsDefinition(name="batch")
OWNERS = ["team:data"]


def table_key(table: str) -> dg.AssetKey:
    """`schema.table` as an asset key."""
    return dg.AssetKey(table.split("."))


def table_name(key: dg.AssetKey) -> str:
    """An asset key as `schema.table`."""
    return ".".join(key.path)


@cache
def table_schema(table: str) -> dg.TableSchema:
    """The columns of a table that Python writes, with their comments."""
    columns = [dg.TableColumn(c.name, c.type, description=c.description or None) for c in columns_of(table)]
    return dg.TableSchema(columns=columns)


def lake_asset(
    table: str, *, kinds: set[str], code_version: str, deps: tuple[str, ...] = (), batched: bool = True, **more: Any
) -> Any:
    """`dagster.asset` with what every table of the lake has in common; the group is the schema."""
    return dg.asset(
        key=table_key(table),
        group_name=table.partition(".")[0],
        kinds=kinds | {"duckdb"},
        owners=OWNERS,
        code_version=code_version,
        deps=[table_key(dep) for dep in deps],
        partitions_def=BATCHES if batched else None,
        metadata={"dagster/column_schema": table_schema(table), "dagster/table_name": f"lake.{table}"},
        **more,
    )


@dataclass(frozen=True)
class _Stored:
    """What is left to report of a part once its rows are stored."""

    num_in: int
    num_out: int
    drops: Mapping[str, float]
    costs: Mapping[str, float]
    metadata: Mapping[str, Any]
    snapshot_id: int
    changed: bool


def _sum(counts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The sums of several counts by name."""
    return {
        name: sum(count.get(name, 0) for count in counts) for name in sorted({n for count in counts for n in count})
    }


class StageRun:
    """One asset's read-decide-store-report: made before reading, finished with the result.

    Args:
        is_costly: whether it begins only while the budget lasts; None: when it is partitioned, as all are that cost much for
            each video. What is cheap goes on, so that what was made can be released.

    Raises: BudgetError.
    """

    def __init__(self, context: dg.AssetExecutionContext, lake: Lake, is_costly: bool | None = None):
        self.context = context
        self.lake = lake
        is_batched = context.assets_def.partitions_def is not None
        if is_batched if is_costly is None else is_costly:
            check_budget(lake, lake.settings.costs)
        self.batch: str = context.partition_key if is_batched else ""
        self.read_snapshot_id = lake.snapshot_id()
        self._started = time.perf_counter()
        self._part_started = Reading.now()

    def finish(
        self, result: StageResult, config_hash: str = "", inputs: Sequence[str] | None = None, **metadata: Any
    ) -> dg.MaterializeResult:
        """Store the changes with their lineage in one transaction and report the counts.

        Args:
            inputs: tables that were read, where it is not all that the asset depends on.
        """
        return self.finish_parts([result], config_hash, inputs, **metadata)

    def finish_parts(
        self,
        parts: Iterable[StageResult],
        config_hash: str = "",
        inputs: Sequence[str] | None = None,
        **metadata: Any,
    ) -> dg.MaterializeResult:
        """Store each part in a transaction of its own before the next is made, and report the sum of the counts."""
        told = [self._store(part, config_hash, inputs) for part in parts]
        if not told:
            told = [self._store(StageResult([], 0, 0), config_hash, inputs)]
        version = data_version(self.lake, table_name(self.context.asset_key), self.batch or None)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(version) if version else None,
            metadata={
                "dagster/row_count": self._num_rows(),
                "rows_in": sum(part.num_in for part in told),
                "rows_out": sum(part.num_out for part in told),
                "dropped": _sum([part.drops for part in told]),
                "seconds": time.perf_counter() - self._started,
                "snapshot_id": told[-1].snapshot_id,
                "content_changed": any(part.changed for part in told),
                **_sum([part.costs for part in told]),
                **_values(told[0].metadata),
                **_values(metadata),
            },
        )

    def _store(self, part: StageResult, config_hash: str, inputs: Sequence[str] | None) -> _Stored:
        """Commit one part; its seconds and costs are those since the part before."""
        key = self.context.asset_key
        part = replace(part, costs=_sum([part.costs, self._part_started.costs()]))
        write = part.write(
            table_name(key),
            self.context.run.run_id,
            self.batch or None,
            self.read_snapshot_id,
            [(name, self.batch or None) for name in inputs or self._inputs()],
            self.context.assets_def.code_versions_by_key.get(key) or "",
            config_hash,
            time.perf_counter() - self._part_started.wall,
        )
        commit = self.lake.commit(write, part.changes)
        self._part_started = Reading.now()
        return _Stored(part.num_in, part.num_out, part.drops, part.costs, part.metadata, *astuple(commit))

    def _num_rows(self) -> int:
        """Rows of the table, or of its partition, as it now is."""
        table = table_name(self.context.asset_key)
        where, given = (" where batch = ?", [self.batch]) if self.batch else ("", [])
        return self.lake.value(f"select count(*) from {table}{where}", given)

    def _inputs(self) -> list[str]:
        return sorted(table_name(key) for key in self.context.assets_def.asset_deps[self.context.asset_key])


def data_version(lake: Lake, table: str, partition: str | None) -> str | None:
    """The last write that changed content: an unchanged re-run keeps it, so nothing downstream looks stale."""
    changed = lake.rows(
        "select materialization_id from lineage.materializations where changed and asset = ? "
        "and partition_key is not distinct from ? order by written_at desc limit 1",
        [table, partition],
    )
    return changed[0]["materialization_id"] if changed else None


def written(
    lake: Lake, table: str, code_version: str, partition: str | None = None, **metadata: Any
) -> dg.AssetMaterialization:
    """What a job other than the asset's own logs when it has made a table, or its partition, whole and current."""
    tags = {"dagster/code_version": code_version, "dagster/data_version": data_version(lake, table, partition) or ""}
    return dg.AssetMaterialization(table_key(table), partition=partition, metadata=metadata, tags=tags)


def _values(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metadata.items() if value is not None}


def markdown_image(data: bytes, alt: str, kind: str = "jpeg") -> dg.MetadataValue:
    """A picture as a Markdown metadata value, with the bytes inside."""
    import base64

    return dg.MetadataValue.md(f"![{alt}](data:image/{kind};base64,{base64.b64encode(data).decode()})")


def claim(lake: Lake, violations: str, name: str) -> dg.AssetCheckResult:
    """A check result from a SELECT of the rows that break the claim, with their number and the first few."""
    broken = lake.rows(f"select *, count(*) over () as num_all from ({violations}) limit 5")
    metadata: dict[str, Any] = {f"num_{name.replace(' ', '_')}": broken[0].pop("num_all") if broken else 0}
    if broken:
        metadata["examples"] = [str(next(iter(row.values()))) for row in broken]
    return dg.AssetCheckResult(passed=not broken, metadata=metadata)
