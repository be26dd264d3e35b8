"""The paper's numbers beside ours: rows of its tables 3 to 6 (`paper.json`)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("paper.json")


def paper_rows(measured: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """The paper's rows of the (benchmark, setting) pairs that were measured; setting is zero-shot or fine-tuned.

    Each has table, note, setting, benchmark, model and `figures`: metric to a share in [0, 1].
    """
    wanted = list(dict.fromkeys(measured))
    rows = []
    for table in json.loads(_FILE.read_text())["tables"]:
        for benchmark, setting in wanted:
            if setting != table["setting"]:
                continue
            for model, values in table["rows"].items():
                figures = _of_benchmark(benchmark, table["columns"], values)
                if figures:
                    about = {name: table[name] for name in ("table", "note", "setting")}
                    rows.append({**about, "benchmark": benchmark, "model": model, "figures": figures})
    return rows


def _of_benchmark(benchmark: str, columns: list[str], values: list[float | None]) -> dict[str, float]:
    pairs = [(column.split(" "), value) for column, value in zip(columns, values, strict=True)]
    return {metric: round(value / 100, 4) for (name, metric), value in pairs if name == benchmark and value is not None}
