"""The columns of the tables in `tables.sql`, with their comments, for people and for the UI."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_TABLE = re.compile(
    r"(?P<comment>(?:^--[^\n]*\n)*)^create table if not exists (?P<name>[\w.]+) \((?P<body>.*?)^\);",
    re.M | re.S,
)
_COLUMN = re.compile(r"^\s+(?P<name>\w+) (?P<type>[\w\[\]]+(?:\([\w, ]+\))?),?\s*(?:-- (?P<description>.*))?$", re.M)


@dataclass(frozen=True)
class Column:
    """A column as `tables.sql` declares it."""

    name: str
    type: str
    description: str


@cache
def declared_tables() -> dict[str, tuple[str, tuple[Column, ...]]]:
    """Every table of `tables.sql`: its name to (what one row is, its columns)."""
    text = Path(__file__).with_name("tables.sql").read_text()
    tables = {}
    for match in _TABLE.finditer(text):
        columns = [Column(m["name"], m["type"], m["description"] or "") for m in _COLUMN.finditer(match["body"])]
        comment = match["comment"].replace("-- ", "").replace("\n", " ").strip()
        tables[match["name"]] = (comment, tuple(columns))
    return tables


def columns_of(table: str) -> tuple[Column, ...]:
    """The columns of one table. Raises: KeyError for a table that Python does not write."""
    return declared_tables()[table][1]


_ID_COLUMNS = ("clip_id", "video_id")


def id_column(columns: Iterable[str]) -> str | None:
    """The column that says whose a row is; tables lie sorted by it, so that one clip or video is found in a few pages."""
    names = set(columns)
    return next((name for name in _ID_COLUMNS if name in names), None)
