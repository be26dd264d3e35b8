"""A table at a glance: its number columns as small text histograms, for the asset page."""

from __future__ import annotations

from internvid_assets.lake.catalog import Lake

_BARS = " ▁▂▃▄▅▆▇█"
_NUM_BINS = 24
_NUMBERS = ("double", "float", "int")


def histogram_markdown(lake: Lake, table: str) -> str:
    """One Markdown table row a number column: least, median, greatest and a bar for each of 24 bins.

    Args:
        table: `schema.table`, or a SELECT in parentheses with an alias.
    """
    names = [f.name for f in lake.schema(table) if str(f.type).startswith(_NUMBERS)]
    rows = ["| column | min | median | max | histogram |", "|---|---|---|---|---|"]
    for name in names:
        found = lake.rows(
            f"select min({name})::double as low, median({name})::double as middle, max({name})::double as high from {table}"
        )[0]
        if found["low"] is not None:
            bars = _bars(lake, table, name, found["low"], found["high"])
            rows.append(f"| {name} | {found['low']:.4g} | {found['middle']:.4g} | {found['high']:.4g} | `{bars}` |")
    return "\n".join(rows) if len(rows) > 2 else "no numbers yet"


def _bars(lake: Lake, table: str, column: str, low: float, high: float) -> str:
    width = (high - low) / _NUM_BINS or 1.0
    counts = {
        int(row["bin"]): row["num"]
        for row in lake.rows(
            f"select least(floor(({column} - ?) / ?), {_NUM_BINS - 1})::integer as bin, count(*) as num from {table} "
            f"where {column} is not null group by bin",
            [low, width],
        )
    }
    top = max(counts.values())
    return "".join(_BARS[-(-counts.get(i, 0) * (len(_BARS) - 1) // top)] for i in range(_NUM_BINS))
