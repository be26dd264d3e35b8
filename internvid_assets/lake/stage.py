"""What a stage hands back to be stored: the shape that every slice's batch function returns."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from internvid_assets.lake.catalog import Lake
from internvid_assets.lake.changes import Change, Replace, Write


@dataclass(frozen=True)
class Refusal:
    """Why one item gives no result: a reason code and a sentence. Data, not an exception."""

    reason: str
    detail: str


@dataclass(frozen=True)
class Quarantined:
    """One refused item, as it is stored."""

    item_id: str
    reason: str
    detail: str
    source_uri: str | None = None


@dataclass(frozen=True)
class StageResult:
    """Changes to store and the counts to report. `drops` counts the quarantined and filtered rows by reason."""

    changes: Sequence[Change]
    num_in: int
    num_out: int
    drops: Mapping[str, int] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)

    def write(
        self,
        asset: str,
        run_id: str,
        partition: str | None,
        read_snapshot_id: int,
        inputs: Sequence[tuple[str, str | None]],
        code_version: str = "",
        config_hash: str = "",
        seconds: float = 0.0,
    ) -> Write:
        """The lineage row of these changes."""
        return Write(
            asset, run_id, partition, read_snapshot_id, inputs, code_version, config_hash, self.num_in, self.num_out,
            self.drops, seconds, self.costs,
        )  # fmt: skip


def quarantine_change(
    lake: Lake, batch: str, stage: str, items: Sequence[Quarantined], only: frozenset[str] | None = None
) -> Replace:
    """The quarantine rows of one stage of one batch, replaced whole, or for the items of `only`."""
    rows = [
        {"batch": batch, "stage": stage, "item_id": i.item_id, "source_uri": i.source_uri, "reason": i.reason,
         "detail": i.detail}
        for i in items
    ]  # fmt: skip
    where = f"batch = '{batch}' and stage = '{stage}'"
    if only is not None:
        where += " and item_id in (" + ", ".join(f"'{item}'" for item in sorted(only)) + ")"
    return Replace("videos.quarantine", lake.to_arrow("videos.quarantine", rows), where)


def with_snapshots(lake: Lake, parts: Iterator[StageResult]) -> Iterator[tuple[int, StageResult]]:
    """Each part of a stage with the snapshot that it was made from."""
    while True:
        snapshot_id = lake.snapshot_id()
        if (part := next(parts, None)) is None:
            return
        yield snapshot_id, part


def count_reasons(items: Sequence[Quarantined]) -> dict[str, int]:
    """How many items each reason refused."""
    return dict(Counter(item.reason for item in items))


def short_hash(*parts: Any) -> str:
    """First 12 hex digits of the SHA-256 of the parts as canonical JSON: versions and configuration hashes."""
    text = json.dumps(parts, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
