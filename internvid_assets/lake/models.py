"""SQL models: one SELECT a file; the file name is the table. References are found by parsing, not declared twice."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import sqlglot
from sqlglot import exp
from sqlglot.lineage import lineage

LAYERS = {"staging": "staging", "intermediate": "intermediate", "marts": "subsets"}
"""Folder to schema, in the order in which layers may read each other."""
FOLDER = Path(__file__).parents[2] / "dbt_like_sql"
_MODEL_SCHEMAS = frozenset(LAYERS.values())


@dataclass(frozen=True)
class SqlModel:
    """One SQL file. `refs` are `schema.table` names, sorted; `header` holds its `-- key: value` lines."""

    table: str
    layer: str
    sql: str
    refs: tuple[str, ...]
    columns: tuple[str, ...]
    header: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """The file's name."""
        return self.table.partition(".")[2]

    @property
    def description(self) -> str:
        """What one row is and the question that the model answers."""
        header = dict(self.header)
        return f"{header.get('grain', '').capitalize()}. {header.get('question', '')}".strip()

    @property
    def code_version(self) -> str:
        """Changes with the text of the SELECT."""
        return hashlib.sha256(self.sql.encode()).hexdigest()[:12]


@cache
def discover(folder: Path = FOLDER) -> tuple[SqlModel, ...]:
    """All models below a folder, each behind the ones it reads.

    Raises: ValueError for a file that is not one SELECT, for declared refs that are not the parsed ones, for a
        reference to the right, to an unknown model, or in a circle.
    """
    models = [_parse(path, layer) for layer in LAYERS for path in sorted((folder / layer).glob("*.sql"))]
    by_table = {model.table: model for model in models}
    for model in models:
        _check(model, by_table)
    return tuple(_ordered(models, by_table))


def _parse(path: Path, layer: str) -> SqlModel:
    sql = path.read_text()
    statements = sqlglot.parse(sql, dialect="duckdb")
    if len(statements) != 1 or not isinstance(statements[0], exp.Select):
        raise ValueError(f"{path.name} must hold one SELECT")
    select = statements[0]
    names = {cte.alias for cte in select.find_all(exp.CTE)}
    tables = {f"{t.db}.{t.name}" if t.db else t.name for t in select.find_all(exp.Table)}
    header = tuple(
        (key.strip(), value.strip())
        for line in sql.splitlines()
        if line.startswith("-- ") and ":" in line
        for key, _, value in [line[3:].partition(":")]
    )
    return SqlModel(
        table=f"{LAYERS[layer]}.{path.stem}",
        layer=layer,
        sql=sql.strip().rstrip(";"),
        refs=tuple(sorted(tables - names)),
        columns=tuple(column.alias_or_name for column in select.expressions),
        header=header,
    )


def _check(model: SqlModel, by_table: dict[str, SqlModel]) -> None:
    declared = tuple(sorted(part.strip() for part in dict(model.header).get("refs", "").split(",") if part.strip()))
    if declared != model.refs:
        raise ValueError(f"{model.table} declares refs {declared} but reads {model.refs}: mend its header")
    order = list(LAYERS)
    for ref in model.refs:
        if ref.partition(".")[0] not in _MODEL_SCHEMAS:
            continue
        if ref not in by_table:
            raise ValueError(f"{model.table} reads {ref}, which no file makes")
        if order.index(by_table[ref].layer) > order.index(model.layer):
            raise ValueError(
                f"{model.table} reads {ref}: a layer may only read layers to its left ({', '.join(order)})"
            )


def _ordered(models: list[SqlModel], by_table: dict[str, SqlModel]) -> list[SqlModel]:
    done: dict[str, SqlModel] = {}

    def visit(model: SqlModel, path: tuple[str, ...]) -> None:
        if model.table in path:
            raise ValueError(f"models read each other in a circle: {' -> '.join((*path, model.table))}")
        for ref in model.refs:
            if ref in by_table and ref not in done:
                visit(by_table[ref], (*path, model.table))
        done.setdefault(model.table, model)

    for model in models:
        visit(model, ())
    return list(done.values())


def column_lineage(model: SqlModel, columns: Mapping[str, Sequence[str]]) -> dict[str, tuple[tuple[str, str], ...]]:
    """For each column of a model the (table, column) pairs that it is computed from.

    Args:
        columns: the columns of every table that the model reads.
    """
    schema: dict[str, dict[str, dict[str, str]]] = {}
    for table, names in columns.items():
        db, _, name = table.partition(".")
        schema.setdefault(db, {})[name] = dict.fromkeys(names, "varchar")
    nodes = lineage(None, model.sql, schema=schema, dialect="duckdb")
    assert isinstance(nodes, dict)
    origins = {}
    for name, root in nodes.items():
        leaves = [node for node in root.walk() if not node.downstream]
        tables = [(leaf.expression.find(exp.Table), leaf.name.rpartition(".")[2].strip('"')) for leaf in leaves]
        origins[name] = tuple(sorted({(f"{t.db}.{t.name}", column) for t, column in tables if t is not None and t.db}))
    return origins
