"""The table store: one DuckLake catalog, attached by every process, written in whole transactions.

Source: DuckLake 1.0 (https://ducklake.select/docs). The embedded catalog is a SQLite file, the cluster's is PostgreSQL;
only the address differs. Extensions load from their pinned wheels, so no network is needed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from internvid_assets.lake.changes import Append, Change, Commit, Write, apply, record
from internvid_assets.lake.locks import CommitLocks
from internvid_assets.lake.scratch import Scratch
from internvid_assets.lake.tables import declared_tables, id_column
from internvid_assets.settings import S3Settings, Settings

T = TypeVar("T")
_TABLES_SQL = Path(__file__).with_name("tables.sql")
_EXTENSIONS = ("ducklake", "sqlite_scanner", "postgres_scanner", "httpfs")
_CONFLICT_WORDS = (
    "conflict",
    "locked",
    "could not serialize",
    "deadlock",
    "concurrent",
    "retry count",
    "already exists",
)
_FILE_SIZE = "64MB"
"""Of a data file, at most: a takedown writes those that it touches anew, whole."""
SCHEMAS = (
    "videos", "clips", "captions", "scores", "staging", "intermediate", "subsets", "release", "viclip", "lineage",
)  # fmt: skip


class LakeError(RuntimeError):
    """The catalog cannot be reached or refused a statement; the message says which and how to mend it."""


class Lake:
    """One process's connection to the lake. Cheap to make: it connects when first used. Threads may share it."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._scratch: Scratch | None = None
        self._lock = threading.RLock()
        self._locks = CommitLocks(settings)

    def __getstate__(self) -> dict[str, Any]:
        """Another process makes its own connection."""
        return {"settings": self.settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["settings"])  # type: ignore[misc]

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The attached connection; tables are addressed as `schema.table`."""
        with self._lock:
            if self._connection is None:
                scratch = self._scratch = Scratch(self.settings.cache_folder / "scratch")
                self._connection = self._retried(lambda: _attach(self.settings, scratch.folder))
                self._create_missing_tables()
            return self._connection

    @contextlib.contextmanager
    def scratch_database(self, name: str) -> Iterator[None]:
        """A database file attached under this name, for what is too much for memory; gone afterwards, also if this is killed."""
        with self._lock:
            connection = self.connection
            assert self._scratch is not None
            file = self._scratch.folder / f"{name}.duckdb"
            connection.execute(f"attach {_literal(str(file))} as {_identifier(name)}")
            try:
                yield
            finally:
                connection.execute(f"detach {_identifier(name)}")
                file.unlink()

    def close(self) -> None:
        """Give the catalog back; the next use connects again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            if self._scratch is not None:
                self._scratch.close()
                self._scratch = None
            self._locks.close()

    def query(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> pa.Table:
        """The result of one SELECT as an Arrow table."""
        with self._lock:
            connection = self.connection
            return self._retried(lambda: connection.execute(sql, parameters).to_arrow_table())

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The result of one SELECT as a list of dictionaries."""
        return self.query(sql, parameters).to_pylist()

    def joined(self, sql: str, given: pa.Table) -> list[dict[str, Any]]:
        """The result of one SELECT that may read the Arrow table as `given`, as a list of dictionaries."""
        with self._lock:
            self.connection.register("given", given)
            try:
                return self.rows(sql)
            finally:
                self.connection.unregister("given")

    def value(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> Any:
        """The first column of the first row."""
        return self.query(sql, parameters).column(0)[0].as_py()

    def snapshot_id(self) -> int:
        """The newest snapshot: take it before reading, so that lineage knows what was seen."""
        return self.value("select id from ducklake_current_snapshot('lake') as current(id)")

    def schema(self, table: str) -> pa.Schema:
        """The Arrow schema of a table."""
        return self.query(f"select * from {table} limit 0").schema

    def has_table(self, table: str) -> bool:
        """Whether a table has been made; SQL models are when they first run."""
        schema, _, name = table.partition(".")
        found = self.query(
            "select 1 from information_schema.tables where table_catalog = 'lake' and table_schema = ? and table_name = ?",
            [schema, name],
        )
        return found.num_rows > 0

    def to_arrow(self, table: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        """Dictionaries as an Arrow table with exactly the lake table's columns.

        Raises: ValueError naming the columns that the table lacks.
        """
        schema = self.schema(table)
        unknown = sorted({name for row in rows for name in row} - set(schema.names))
        if unknown:
            raise ValueError(f"{table} has no columns {unknown}; it has {schema.names}")
        return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)

    def set_parameters(self, parameters: Mapping[str, float | int | str]) -> None:
        """Set the variables that SQL models read through getvariable()."""
        with self._lock:
            for name, value in parameters.items():
                self.connection.execute(f"set variable {_identifier(name)} = {_literal(value)}")

    def commit(self, write: Write, changes: Sequence[Change]) -> Commit:
        """Apply all changes and their lineage row in one transaction; retried when another writer was first.

        A `Replace` or `CreateAs` whose rows equal what is stored changes nothing, so a re-run makes no new data. Of two
        processes that append the same keys to one partition at once, the second sees the first one's rows.
        """
        appended = [
            f"{change.table}/{write.partition if 'batch' in change.rows.schema.names else ''}"
            for change in changes
            if isinstance(change, Append) and change.rows.num_rows
        ]
        with self._lock:
            connection = self.connection

            def attempt() -> Commit:
                began = time.perf_counter()
                connection.execute("begin")
                try:
                    applied = [apply(connection, change) for change in changes]
                    seconds = write.seconds + time.perf_counter() - began
                    record(connection, replace(write, seconds=seconds), any(applied))
                    connection.execute("commit")
                except BaseException:
                    _rollback(connection)
                    raise
                return Commit(self.snapshot_id(), any(applied))

            with self._locks.held(appended):
                return self._retried(attempt)

    def maintain(self, keep_days: float) -> dict[str, int]:
        """Merge small data files, forget snapshots older than `keep_days`, delete files that no snapshot needs.

        Returns: how many snapshots were forgotten and how many files were merged and deleted.
        """
        before = f"now() - interval '{float(keep_days) * 86400:.0f} seconds'"
        with self._lock:
            steps = {
                "snapshots_forgotten": f"call ducklake_expire_snapshots('lake', older_than => {before})",
                "tables_merged": "call ducklake_merge_adjacent_files('lake')",
                "files_deleted": f"call ducklake_cleanup_old_files('lake', older_than => {before})",
            }
            return {name: len(self.query(step)) for name, step in steps.items()}

    def _create_missing_tables(self) -> None:
        """Make the tables, and the columns that a home made by an earlier version lacks."""
        connection = self._connection
        assert connection is not None
        wanted = {(name, c.name): c.type for name, (_, columns) in declared_tables().items() for c in columns}

        def attempt() -> None:
            query = (
                "select table_schema || '.' || table_name, column_name from information_schema.columns "
                "where table_catalog = 'lake'"
            )
            there = set(connection.execute(query).fetchall())
            missing = [column for column in wanted if column not in there]
            if not missing:
                return
            if not there:
                connection.execute(f"call lake.set_option('target_file_size', '{_FILE_SIZE}')")
            connection.execute("begin")
            try:
                for schema in SCHEMAS:
                    connection.execute(f"create schema if not exists {schema}")
                connection.execute(_TABLES_SQL.read_text())
                held = {name for name, _ in there}
                for table, column in missing:
                    if table in held:
                        connection.execute(f"alter table {table} add column {column} {wanted[table, column]}")
                for table, (_, columns) in declared_tables().items():
                    identity = id_column(column.name for column in columns)
                    if table not in held and identity is not None:
                        connection.execute(f"alter table {table} set sorted by ({identity})")
                connection.execute("commit")
            except BaseException:
                _rollback(connection)
                raise

        self._retried(attempt)

    def _retried(self, attempt: Callable[[], T]) -> T:
        """Run until no other writer is in the way.

        Feasibility runs saw SQLite's "database is locked" in up to a quarter of the commits of four writers, and
        conflicts in PostgreSQL: both are normal and pass with patience.
        """
        for tries in range(self.settings.lake.max_retries + 1):
            try:
                return attempt()
            except duckdb.Error as error:
                met_writer = any(word in str(error).lower() for word in _CONFLICT_WORDS)
                if not met_writer or tries == self.settings.lake.max_retries:
                    raise
                time.sleep(random.uniform(0.01, 0.05) * min(2**tries, 20))
        raise AssertionError("unreachable")


def _attach(settings: Settings, scratch: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    connection.execute("set enable_progress_bar = false; set timezone = 'UTC'")
    connection.execute(f"set temp_directory = {_literal(str(scratch / 'spilled'))}")
    if settings.lake.memory_limit_mib is not None:
        connection.execute(f"set memory_limit = '{settings.lake.memory_limit_mib} MiB'")
    for name in _EXTENSIONS:
        connection.execute(f"load '{_extension_path(name)}'")
    connection.execute("set ducklake_max_retry_count = 100")
    if settings.data_path.startswith("s3://"):
        connection.execute(_s3_secret(settings.s3))
    else:
        Path(settings.data_path).mkdir(parents=True, exist_ok=True)
    address = settings.catalog_uri
    if address.startswith("sqlite:"):
        Path(address.removeprefix("sqlite:")).parent.mkdir(parents=True, exist_ok=True)
    try:
        connection.execute(
            f"attach {_literal('ducklake:' + address)} as lake "
            f"(data_path {_literal(settings.data_path)}, data_inlining_row_limit 0)"
        )
    except duckdb.Error as error:
        if any(word in str(error).lower() for word in _CONFLICT_WORDS):
            raise
        where = address if address.startswith("sqlite:") else "the PostgreSQL address in lake.catalog"
        raise LakeError(f"cannot open the lake at {where}: {str(error).splitlines()[0]}") from error
    connection.execute("use lake")
    return connection


def _extension_path(name: str) -> Path:
    spec = importlib.util.find_spec(f"duckdb_extension_{name}")
    if spec is None or not spec.submodule_search_locations:
        raise LakeError(f"package duckdb-extension-{name.replace('_', '-')} is missing: install requirements.lock")
    package = Path(next(iter(spec.submodule_search_locations)))
    return package / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"


def _s3_secret(s3: S3Settings) -> str:
    """DuckDB's secret: the keys of the settings, else those that boto3 finds, as the media store does."""
    fields = {"region": s3.region, **_keys(s3)}
    if s3.endpoint_url:
        scheme, _, host = s3.endpoint_url.partition("://")
        fields |= {"endpoint": host, "url_style": "path", "use_ssl": str(scheme == "https").lower()}
    return "create secret (type s3, " + ", ".join(f"{k} {_literal(v)}" for k, v in fields.items()) + ")"


def _keys(s3: S3Settings) -> dict[str, str]:
    """Key, secret and, of temporary credentials, the token; empty: a bucket that anybody may use."""
    if s3.access_key_id is not None:
        return {"key_id": s3.access_key_id, "secret": s3.secret_access_key or ""}
    import boto3

    found = boto3.Session().get_credentials()
    if found is None:
        return {}
    frozen = found.get_frozen_credentials()
    token = {"session_token": frozen.token} if frozen.token else {}
    return {"key_id": frozen.access_key, "secret": frozen.secret_key, **token}


def _rollback(connection: duckdb.DuckDBPyConnection) -> None:
    with contextlib.suppress(duckdb.TransactionException):  # a failed commit has already ended the transaction
        connection.execute("rollback")


def _identifier(name: str) -> str:
    if not name.isidentifier():
        raise ValueError(f"parameter name {name!r} must be letters, digits and underscores")
    return name


def _literal(value: float | int | str) -> str:
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)
