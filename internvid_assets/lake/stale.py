"""What would be made again by the next run, why, and how long that would take: told before anything runs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from internvid_assets.lake.catalog import Lake


@dataclass(frozen=True)
class Asset:
    """What a table is made from now: its code, and its configuration where a write keeps that."""

    table: str
    code_version: str
    config_hash: str | None
    reads: tuple[str, ...]
    is_batched: bool


@dataclass(frozen=True)
class Stale:
    """One table, or one of its batches, that a run would make again.

    `num_items` counts what lacks a row by the current versions, where rows are only added; else None: all of it is made
    again. `seconds` is by the last writes; None: this table was never made.
    """

    table: str
    batch: str | None
    reasons: tuple[str, ...]
    num_items: int | None
    seconds: float | None


@dataclass(frozen=True)
class _Written:
    """The newest write of a table or batch, and how fast the work on it was."""

    code_version: str
    config_hash: str
    began: datetime  # reading began then: what was written later is not in it
    written_at: datetime
    changed_at: datetime | None
    seconds: float  # of all writes that changed content
    num_in: int
    num_writes: int

    @property
    def mean_seconds(self) -> float:
        """Of one write."""
        return self.seconds / max(self.num_writes, 1)


_NEVER, _AGAIN, _LACKING = "never made", "would be made again", "items lack a row by the current versions"
_LAST = """
select asset, partition_key, arg_max(code_version, written_at) as code_version, arg_max(config_hash, written_at) as config_hash,
    max(written_at) as written_at, arg_max(seconds, written_at) as last_seconds, max(written_at) filter (changed) as changed_at,
    coalesce(sum(seconds) filter (changed), 0) as seconds, coalesce(sum(num_in) filter (changed), 0)::bigint as num_in,
    count(*) filter (changed) as num_changed
from lineage.materializations group by asset, partition_key
"""


def stale(lake: Lake, assets: Sequence[Asset], missing: Mapping[tuple[str, str], int] | None = None) -> list[Stale]:
    """In the order of `assets`, which goes from sources to reports.

    Args:
        missing: for tables to which rows are only added, by table and batch, how many items lack a row.
    """
    written, batches = _last_writes(lake)
    found: dict[tuple[str, str | None], Stale] = {}
    for asset in assets:
        for batch in batches if asset.is_batched else [None]:
            reasons = _reasons(asset, batch, written, found)
            lacking = (missing or {}).get((asset.table, batch or ""))
            if lacking is not None:  # their rows say what they were made by
                reasons = [reason for reason in reasons if reason == _NEVER or reason.endswith(_AGAIN)]
            if lacking:
                reasons.append(f"{lacking} {_LACKING}")
            if reasons:
                seconds = _seconds(asset, batch, written, lacking)
                found[asset.table, batch] = Stale(asset.table, batch, tuple(reasons), lacking, seconds)
    return list(found.values())


def _last_writes(lake: Lake) -> tuple[dict[tuple[str, str | None], _Written], list[str]]:
    """By table and batch, and all batches."""
    rows: list[dict[str, Any]] = lake.rows(_LAST)
    written = {
        (row["asset"], row["partition_key"]): _Written(
            row["code_version"], row["config_hash"], row["written_at"] - timedelta(seconds=row["last_seconds"]),
            row["written_at"], row["changed_at"], row["seconds"], row["num_in"], row["num_changed"],
        )
        for row in rows
    }  # fmt: skip
    batches = {row["batch"] for row in lake.rows("select distinct batch from videos.sources")}
    return written, sorted(batches | {batch for _, batch in written if batch})


def _reasons(
    asset: Asset,
    batch: str | None,
    written: Mapping[tuple[str, str | None], _Written],
    found: Mapping[tuple[str, str | None], Stale],
) -> list[str]:
    held = written.get((asset.table, batch))
    if held is None:
        return [_NEVER]
    reasons = []
    if held.code_version != asset.code_version:
        reasons.append("other code")
    if asset.config_hash is not None and held.config_hash != asset.config_hash:
        reasons.append("other settings")
    for name in asset.reads:
        parts = [(name, batch)] if (name, batch) in written else [key for key in written if key[0] == name]
        if any((changed := written[part].changed_at) is not None and changed > held.began for part in parts):
            reasons.append(f"{name} changed since")
        elif (
            (name, batch) in found or (name, None) in found or (batch is None and name in {table for table, _ in found})
        ):
            reasons.append(f"{name} {_AGAIN}")
    return reasons


def _seconds(
    asset: Asset, batch: str | None, written: Mapping[tuple[str, str | None], _Written], lacking: int | None
) -> float | None:
    """By the table's writes so far: of this batch, else the mean of the others; in proportion to what is lacking."""
    done = [held for (table, _), held in written.items() if table == asset.table and held.seconds > 0]
    if not done:
        return None
    if lacking:
        num_in = sum(held.num_in for held in done)
        return lacking * sum(held.seconds for held in done) / num_in if num_in else None
    own = written.get((asset.table, batch))
    return own.mean_seconds if own in done else sum(held.mean_seconds for held in done) / len(done)


@dataclass
class _Summary:
    batches: int = 0
    items: int = 0
    seconds: float = 0.0
    is_measured: bool = True
    reasons: Counter[str] = field(default_factory=Counter)


def lines(items: Sequence[Stale]) -> list[str]:
    """Printable: a line a table with its reasons, and the sum of the times."""
    if not items:
        return ["nothing: every table is current"]
    tables: dict[str, _Summary] = defaultdict(_Summary)
    for item in items:
        summary = tables[item.table]
        summary.batches += 1
        summary.items += item.num_items or 0
        summary.seconds += item.seconds or 0.0
        summary.is_measured &= item.seconds is not None
        summary.reasons.update(_kind(reason) for reason in item.reasons)
    told = [f"{'table':<34}{'batches':>9}{'items':>10}{'seconds':>12}  why"]
    for name, summary in tables.items():
        seconds = f"{summary.seconds:,.1f}" if summary.is_measured else "unmeasured"
        why = ", ".join(
            f"{reason} ({count})" if summary.batches > 1 else reason for reason, count in summary.reasons.items()
        )
        told.append(f"{name:<34}{summary.batches:>9,}{summary.items or '':>10}{seconds:>12}  {why}")
    unmeasured = [name for name, summary in tables.items() if not summary.is_measured]
    rest = f", without {', '.join(unmeasured)}, which were never made" if unmeasured else ""
    return [*told, f"in all {sum(s.seconds for s in tables.values()):,.1f} s of one process{rest}"]


def _kind(reason: str) -> str:
    return "rows are lacking" if reason.endswith(_LACKING) else reason
