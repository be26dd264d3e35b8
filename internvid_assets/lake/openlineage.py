"""The lake's lineage as OpenLineage events, for catalogs such as Marquez, DataHub and OpenMetadata: `internvid openlineage`.

Source: https://openlineage.io/docs/spec/object-model. Events are read from `lineage.*`, not sent while a stage runs, so an
unreachable catalog stops nothing; their ids follow from the rows, so sending them twice tells a catalog nothing new.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import attr
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    RunFacet,
    column_lineage_dataset,
    dataset_version_dataset,
    job_type_job,
    output_statistics_output_dataset,
    parent_run,
    schema_dataset,
)
from openlineage.client.transport.file import FileConfig, FileTransport
from openlineage.client.transport.http import HttpConfig, HttpTransport

from internvid_assets.lake.catalog import Lake
from internvid_assets.lake.models import SqlModel, column_lineage, discover

_PRODUCER = "internvid"
_WRITES = """
select m.*, (select list(input order by input) from lineage.inputs as i where i.materialization_id = m.materialization_id)
    as inputs,
    (select map(list(item), list(amount)) from lineage.costs as c where c.materialization_id = m.materialization_id) as costs
from lineage.materializations as m where ? is null or written_at > ? order by written_at, materialization_id
"""


@attr.define
class WriteFacet(RunFacet):
    """What the lake keeps of a write beside what OpenLineage has a place for."""

    partition: str | None
    codeVersion: str
    configHash: str
    changedContent: bool
    rowsIn: int
    drops: dict[str, int]
    costs: dict[str, float]

    @staticmethod
    def _get_schema() -> str:
        return "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunFacet"


def client_of(url: str | None, file: Path | None) -> OpenLineageClient:
    """The standard client, for an address, for a file, or as its own environment variables say.

    Raises: ValueError when it is told nothing, since it would then drop the events.
    """
    if file is not None:
        return OpenLineageClient(transport=FileTransport(FileConfig(str(file), append=True)))
    if url is not None:
        return OpenLineageClient(transport=HttpTransport(HttpConfig(url=url)))
    if not any(name.startswith("OPENLINEAGE_") for name in os.environ) and not Path("openlineage.yml").exists():
        raise ValueError("no OpenLineage catalog is named: give --url or --file, or set OPENLINEAGE_URL")
    return OpenLineageClient()


def events(lake: Lake, since: datetime | None = None) -> Iterator[RunEvent]:
    """A start and an end for every write after `since`, in the order of the writes."""
    facets = _TableFacets(lake)
    for row in lake.rows(_WRITES, [since, since]):
        yield from _of_write(row, facets)


def _of_write(row: Mapping[str, Any], tables: _TableFacets) -> Iterator[RunEvent]:
    namespace = tables.namespace
    write = WriteFacet(
        row["partition_key"], row["code_version"] or "", row["config_hash"] or "", row["changed"], row["num_in"],
        dict(row["drops"] or {}), dict(row["costs"] or {}), producer=_PRODUCER,
    )  # fmt: skip
    run_facets: dict[str, RunFacet] = {"internvid_write": write}
    if (parent := _uuid(row["run_id"])) is not None:
        run_facets["parent"] = parent_run.ParentRunFacet(
            parent_run.Run(parent), parent_run.Job(namespace, "dagster"), producer=_PRODUCER
        )
    run = Run(str(uuid.UUID(row["materialization_id"])), run_facets)
    kind = "SQL" if row["asset"] in tables.models else "PYTHON"
    job_type = job_type_job.JobTypeJobFacet("BATCH", "INTERNVID", kind, producer=_PRODUCER)
    job = Job(namespace, row["asset"], {"jobType": job_type})
    version = dataset_version_dataset.DatasetVersionDatasetFacet(str(row["read_snapshot_id"]), producer=_PRODUCER)
    inputs = [InputDataset(namespace, name, facets={"version": version}) for name in row["inputs"] or []]
    counts = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(row["num_out"], producer=_PRODUCER)
    output = OutputDataset(namespace, row["asset"], {"outputStatistics": counts}, facets=tables.of(row["asset"]))
    began = row["written_at"] - timedelta(seconds=row["seconds"])
    for state, time in ((RunState.START, began), (RunState.COMPLETE, row["written_at"])):
        yield RunEvent(eventTime=time.isoformat(), producer=_PRODUCER, run=run, job=job, eventType=state,
                       inputs=inputs, outputs=[output])  # fmt: skip


def _uuid(text: str | None) -> str | None:
    """Dagster's run id, where a Dagster run wrote."""
    try:
        return str(uuid.UUID(text or ""))
    except ValueError:
        return None


class _TableFacets:
    """Columns of tables, and where those of the SQL models come from; each is looked up once."""

    def __init__(self, lake: Lake):
        self.namespace = lake.settings.data_path.rstrip("/")
        if "://" not in self.namespace:
            self.namespace = f"file://{self.namespace}"
        self.models: dict[str, SqlModel] = {model.table: model for model in discover()}
        self._lake = lake
        self._held: dict[str, dict[str, Any]] = {}

    def of(self, table: str) -> dict[str, Any]:
        """Facets of the table as it now is; none when it is gone."""
        if table not in self._held:
            self._held[table] = self._facets(table) if self._lake.has_table(table) else {}
        return self._held[table]

    def _facets(self, table: str) -> dict[str, Any]:
        fields = [schema_dataset.SchemaDatasetFacetFields(f.name, str(f.type)) for f in self._lake.schema(table)]
        found: dict[str, Any] = {"schema": schema_dataset.SchemaDatasetFacet(fields, producer=_PRODUCER)}
        if (model := self.models.get(table)) and all(self._lake.has_table(ref) for ref in model.refs):
            origins = column_lineage(model, {ref: self._lake.schema(ref).names for ref in model.refs})
            found["columnLineage"] = column_lineage_dataset.ColumnLineageDatasetFacet(
                {name: self._fields(sources) for name, sources in origins.items()}, producer=_PRODUCER
            )
        return found

    def _fields(self, sources: Any) -> column_lineage_dataset.Fields:
        return column_lineage_dataset.Fields(
            [column_lineage_dataset.InputField(self.namespace, table, column) for table, column in sources]
        )
