"""Questions to the ledger: how many items are in which state, which are due, and which are gone since when."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from internvid_assets.lake import Lake, Replace, Write
from internvid_assets.videos.fetch.failures import CLASSES
from internvid_assets.videos.ledger import STATES

_SUMMARY = """
select state, failure, count(*)::bigint as num_items, min(next_retry_at) as next_retry_at from videos.items
group by state, failure
"""
_UNAVAILABLE = """
with unavailable as (
    select * from videos.items where state in ('gone', 'given_up', 'retryable')
    order by failing_since, source_uri {limit}
)
select i.source_uri, s.youtube_id, i.state, i.failure, i.failing_since, i.tried_at, i.num_attempts, i.detail
from unavailable as i left join videos.sources as s on s.batch = i.batch and s.source_uri = i.source_uri
order by i.failing_since, i.source_uri
"""
_COLUMNS = ("source_uri", "youtube_id", "state", "failure", "failing_since", "tried_at", "num_attempts", "detail")


def summary(lake: Lake) -> list[dict[str, Any]]:
    """The number of items of each state and failure class, in the order of the states; those never tried are `pending`."""
    rows = lake.rows(_SUMMARY)
    num_new = lake.value("select (select count(*) from videos.sources) - (select count(*) from videos.items)")
    if num_new > 0:
        rows.append({"state": "pending", "failure": None, "num_items": num_new, "next_retry_at": None})
    return sorted(rows, key=lambda row: (STATES.index(row["state"]), -row["num_items"], row["failure"] or ""))


def summary_lines(lake: Lake) -> list[str]:
    """The ledger in a line or two; none for a lake without sources."""
    rows = summary(lake)
    told = []
    for state in dict.fromkeys(row["state"] for row in rows):
        of_state = [row for row in rows if row["state"] == state]
        classes = ", ".join(f"{row['failure']} {row['num_items']}" for row in of_state if row["failure"])
        told.append(f"{state} {sum(row['num_items'] for row in of_state)}" + (f" ({classes})" if classes else ""))
    lines = [f"items    {', '.join(told)}"] if told else []
    if due := [row["next_retry_at"] for row in rows if row["state"] == "retryable" and row["next_retry_at"]]:
        lines.append(f"         next retry due {min(due):%Y-%m-%d %H:%M} UTC; `internvid retry --now` does not wait")
    return lines


def due_batches(lake: Lake, now: datetime) -> list[tuple[str, int]]:
    """Batches with items that wait for a retry which is due, each with the number of all attempts so far."""
    rows = lake.rows(
        "select batch, sum(num_attempts)::bigint as num_attempts from videos.items group by batch "
        "having bool_or(state = 'pending' or (state = 'retryable' and next_retry_at <= $now)) order by batch",
        {"now": now},
    )
    return [(row["batch"], row["num_attempts"]) for row in rows]


def make_due(lake: Lake, classes: Sequence[str], now: bool, time: datetime) -> list[str]:
    """Have items of the failure classes (none: all that may pass) tried by the next run; the batches concerned.

    Items that wait for a retry are taken when they are due, with `now` in any case; those that are gone, given up or
    refused only when their class is named.

    Raises: ValueError for a class that is none and that no item has.
    """
    known = {row["failure"] for row in lake.rows("select distinct failure from videos.items where failure is not null")}
    if unknown := sorted(set(classes) - CLASSES - known):
        raise ValueError(f"class {unknown[0]!r} is none of {', '.join(sorted(CLASSES | known))}")
    waits = "state = 'retryable' and (next_retry_at <= $time or $now)"
    named = " and failure in (select unnest($classes::varchar[]))" if classes else ""
    final = f" or (state in ('gone', 'given_up', 'refused'){named})" if classes else ""
    where = f"(({waits}){named}){final}"
    given: dict[str, Any] = {"time": time, "now": now} | ({"classes": list(classes)} if classes else {})
    rows = lake.rows(f"select * from videos.items where {where}", given)
    if rows:
        uris = lake.to_arrow("videos.items", [{**row, "state": "pending", "next_retry_at": None} for row in rows])
        listed = ", ".join("'" + row["source_uri"].replace("'", "''") + "'" for row in rows)
        write = Write("videos.items", "retry", num_in=len(rows), num_out=len(rows))
        lake.commit(write, [Replace("videos.items", uris, f"source_uri in ({listed})")])
    pending = lake.rows("select distinct batch from videos.items where state = 'pending' order by batch")
    return [row["batch"] for row in pending]


def availability(lake: Lake, limit: int | None = None) -> list[dict[str, Any]]:
    """The sources whose bytes could not be had, the longest first: gone, given up, or still to be tried again; why, since
    which attempt, and when last tried."""
    return lake.rows(_UNAVAILABLE.format(limit="" if limit is None else f"limit {limit}"))


def availability_lines(lake: Lake, limit: int = 20) -> list[str]:
    """The counts, and the sources that are gone for the longest time."""
    counts: Counter[str] = Counter()
    for row in summary(lake):
        counts[row["state"]] += row["num_items"]
    states = [state for state in ("gone", "given_up", "retryable") if counts[state]]
    told = ", ".join(f"{counts[state]} {state}" for state in states)
    lines = [f"{counts['held']} videos held; not to be had: {told or 'none'}"]
    num_all = sum(counts[state] for state in states)
    for row in availability(lake, limit):
        since = f"{row['failing_since']:%Y-%m-%d %H:%M}" if row["failing_since"] else "unknown"
        lines.append(f"  {row['state']:<9} since {since} UTC  {row['failure']:<14} {row['source_uri']}")
    return lines + ([f"  and {num_all - limit} more: --csv FILE writes all"] if num_all > limit else [])


def write_availability(lake: Lake, path: Path) -> int:
    """Write the whole report as CSV; how many rows."""
    rows = availability(lake)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        for row in rows:
            times = {name: row[name].isoformat() if row[name] else "" for name in ("failing_since", "tried_at")}
            writer.writerow(row | times)
    return len(rows)
