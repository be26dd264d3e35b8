"""Previews of tables."""

from __future__ import annotations

import pyarrow as pa

from internvid_assets.lake import Append, Lake, Write
from internvid_assets.lake.histograms import histogram_markdown


def test_bars_follow_the_counts(lake: Lake) -> None:
    values = [0.0] * 7 + [0.5] + [1.0] * 14
    rows = [{"clip_id": str(i), "scorer": "similarity", "value": value} for i, value in enumerate(values)]
    lake.commit(
        Write("scores.clip_scores", "run"),
        [Append("scores.clip_scores", lake.to_arrow("scores.clip_scores", rows), ("clip_id",))],
    )
    lines = histogram_markdown(lake, "scores.clip_scores").splitlines()
    assert len(lines) == 3
    name, low, middle, high, bars = (
        cell.strip(" `") if n < 4 else cell.strip().strip("`") for n, cell in enumerate(lines[2].split("|")[1:-1])
    )
    assert (name, float(low), float(middle), float(high)) == ("value", 0.0, 1.0, 1.0)
    assert len(bars) == 24 and (bars[0], bars[12], bars[23]) == ("▄", "▁", "█") and set(bars[1:12]) == {" "}


def test_nothing_gives_a_sentence(lake: Lake) -> None:
    assert histogram_markdown(lake, "scores.clip_scores") == "no numbers yet"
    assert pa.types.is_floating(lake.schema("scores.clip_scores").field("value").type)
