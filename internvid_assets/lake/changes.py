"""What a commit may do to tables, and how each change is made inside an open transaction."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import duckdb
import pyarrow as pa

from internvid_assets.lake.tables import id_column


@dataclass(frozen=True)
class Replace:
    """Rows that take the place of all rows of a table that match `where` (SQL; None: the whole table)."""

    table: str
    rows: pa.Table | str
    """Arrow, or a SELECT over the lake's connection of what is too much for memory."""
    where: str | None = None


@dataclass(frozen=True)
class Append:
    """Rows to add, except those whose `key` columns are already in the table."""

    table: str
    rows: pa.Table
    key: tuple[str, ...]


@dataclass(frozen=True)
class CreateAs:
    """A table that is made new from one SELECT (a SQL model)."""

    table: str
    select: str


Change = Replace | Append | CreateAs


@dataclass(frozen=True)
class Write:
    """Who writes, for the lineage row that goes into the same transaction."""

    asset: str
    run_id: str
    partition: str | None = None
    read_snapshot_id: int | None = None
    inputs: Sequence[tuple[str, str | None]] = ()
    """(schema.table or object key, partition) of what was read."""
    code_version: str = ""
    config_hash: str = ""
    num_in: int = 0
    num_out: int = 0
    drops: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    costs: Mapping[str, float] = field(default_factory=dict)
    """What else was used up: requests, tokens, money."""


@dataclass(frozen=True)
class Commit:
    """What a write did: the snapshot it made, and whether any table's content changed."""

    snapshot_id: int
    changed: bool


def apply(connection: duckdb.DuckDBPyConnection, change: Change) -> bool:
    """Make one change inside the open transaction; whether the table's content is now another."""
    if isinstance(change, CreateAs):
        return _create_as(connection, change)
    if isinstance(change, Append):
        return _append(connection, change)
    return _replace(connection, change)


def _replace(connection: duckdb.DuckDBPyConnection, change: Replace) -> bool:
    where = change.where or "true"
    columns = ", ".join(f"cast({c} as {kind}) as {c}" for c, kind in _columns(connection, change.table))
    with _readable(connection, change.rows) as new_rows:
        if _equal(connection, f"select {columns} from {new_rows}", f"select * from {change.table} where {where}"):
            return False
        connection.execute(f"delete from {change.table} where {where}")
        connection.execute(f"insert into {change.table} by name select * from {new_rows}")
        return True


def _append(connection: duckdb.DuckDBPyConnection, change: Append) -> bool:
    same = " and ".join(f"new_rows.{c} is not distinct from held.{c}" for c in change.key)
    with _readable(connection, change.rows) as new_rows:
        count = connection.execute(
            f"insert into {change.table} by name select * from {new_rows} as new_rows "
            f"where not exists (select 1 from {change.table} as held where {same})"
        ).fetchone()
        return bool(count and count[0])


@contextmanager
def _readable(connection: duckdb.DuckDBPyConnection, rows: pa.Table | str) -> Iterator[str]:
    """What stands after FROM to read the rows."""
    if isinstance(rows, str):
        yield f"({rows})"
        return
    connection.register("new_rows", rows)
    try:
        yield "new_rows"
    finally:
        connection.unregister("new_rows")


def _create_as(connection: duckdb.DuckDBPyConnection, change: CreateAs) -> bool:
    schema, _, name = change.table.partition(".")
    found = connection.execute(
        "select 1 from information_schema.tables where table_catalog = 'lake' and table_schema = ? and table_name = ?",
        [schema, name],
    ).fetchone()
    described = connection.execute(f"describe {change.select}").fetchall()
    is_same = found and [row[:2] for row in described] == _columns(connection, change.table)
    if is_same and _equal(connection, change.select, f"select * from {change.table}"):
        return False
    identity = id_column(row[0] for row in described)
    order = f" order by {identity}" if identity else ""
    connection.execute(f"create or replace table {change.table} as select * from ({change.select}) as model{order}")
    return True


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> list[tuple[str, str]]:
    return [row[:2] for row in connection.execute(f"describe select * from {table}").fetchall()]


def _equal(connection: duckdb.DuckDBPyConnection, new: str, old: str) -> bool:
    """Whether two SELECTs give the same rows, as bags."""
    differing = connection.execute(
        f"with new as ({new}), old as ({old}) "
        "select exists(from (from new except all from old)) or exists(from (from old except all from new))"
    ).fetchone()
    return differing is not None and not differing[0]


def record(connection: duckdb.DuckDBPyConnection, write: Write, changed: bool) -> None:
    identity = uuid.uuid4().hex
    connection.execute(
        "insert into lineage.materializations values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, cast(? as map(varchar, bigint)), ?)",
        [
            identity, write.asset, write.partition, write.run_id, datetime.now(UTC), write.read_snapshot_id, changed,
            write.code_version, write.config_hash, write.num_in, write.num_out, dict(write.drops), write.seconds,
        ],
    )  # fmt: skip
    for name, partition in write.inputs:
        connection.execute(
            "insert into lineage.inputs values (?, ?, ?, ?)", [identity, name, partition, write.read_snapshot_id]
        )
    for item, amount in write.costs.items():
        connection.execute("insert into lineage.costs values (?, ?, ?)", [identity, item, amount])
    connection.execute(
        "call lake.set_commit_message(?, ?, extra_info => ?)",
        [
            write.run_id,
            f"{write.asset} {write.partition or ''}".strip(),
            json.dumps({"materialization_id": identity, "code_version": write.code_version}),
        ],
    )
