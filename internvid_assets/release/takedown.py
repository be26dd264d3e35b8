"""Takedown: one item, or many, leaves tables, snapshots, media, shards and releases; a receipt says so.

The plan is stored before anything is removed, so that a killed takedown is completed by the next one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from internvid_assets.lake import Lake
from internvid_assets.lake.purge import purge
from internvid_assets.lake.stage import short_hash
from internvid_assets.lake.takedown import Target, conditions, count_rows, delete_rows, resolve
from internvid_assets.release import withdraw
from internvid_assets.store import ObjectStore

_PREFIX = "takedowns/"
_MAX_ROUNDS = 3
_SCRATCH = ("shards", "releases", "evaluation", "fetch", "listings", "manifests")
"""Folders of the cache that may hold bytes, frames, texts, pictures or addresses."""


@dataclass(frozen=True)
class Plan:
    """All that a takedown removes or withdraws, found before the first deletion."""

    takedown_id: str
    target: Target
    asked: list[str]
    """The items as they were given."""
    reason: str
    rows: dict[str, int]
    media: list[str]
    packs: list[str]
    """Frame packs that lose some clips."""
    answers: list[str]
    shards: dict[str, list[str]]
    """Withdrawn shard sets to their touched shards."""
    releases: list[str]
    checkpoints: list[str]
    """Trained on the withdrawn sets; they stay."""
    reports: list[str]
    copies: list[str]
    """Videos that look the same; they stay, but leave the subsets when these are next made."""
    runs: list[str] = field(default_factory=list)
    """Runs whose records may show the target's frames."""

    def lines(self) -> list[str]:
        """The impact for a terminal."""
        target, sets = self.target, self.shards.items()
        told = [
            f"takedown of {len(target.videos)} videos, {len(target.clips)} single clips, "
            f"{len(target.sources)} addresses",
            *(f"  rows of {table}: {count}" for table, count in sorted(self.rows.items())),
            f"  objects deleted: {len(self.media)}, frame packs rewritten: {len(self.packs)}, "
            f"segments of paid answers rewritten: {len(self.answers)}",
            *(
                f"  shard set {name} is withdrawn, {len(keys)} of its shards deleted: make it again"
                for name, keys in sets
            ),
            *(f"  release {name} is withdrawn, its data files deleted: publish it again" for name in self.releases),
            *(f"  checkpoint {name} was trained on it and stays" for name in self.checkpoints),
            *(f"  report file deleted: {key}" for key in self.reports),
            *(
                f"  video {name} looks the same: it leaves every subset when they are next made, but is held"
                for name in self.copies
            ),
        ]
        return told

    def dump(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()

    @classmethod
    def load(cls, data: bytes) -> Plan:
        """From JSON."""
        values = json.loads(data)
        target = {name: tuple(names) for name, names in values.pop("target").items()}
        return cls(target=Target(**target), **values)


def make_plan(lake: Lake, store: ObjectStore, items: Sequence[str], reason: str) -> Plan:
    """What taking down the items would do; changes nothing.

    Raises: ValueError naming items that the lake does not know.
    """
    target = resolve(lake, items)
    sets = withdraw.shard_sets(lake, target)
    checkpoints = _checkpoints(lake, list(sets))
    return Plan(
        takedown_id=short_hash("takedown", asdict(target), lake.snapshot_id()),
        target=target,
        asked=list(items),
        reason=reason,
        rows=count_rows(lake, target),
        media=withdraw.media_keys(lake, store, target),
        packs=withdraw.pack_keys(lake, target),
        answers=withdraw.answer_keys(store, target),
        shards=sets,
        releases=withdraw.release_ids(lake, target),
        checkpoints=checkpoints,
        reports=withdraw.report_keys(lake, store, target, checkpoints),
        copies=_copies(lake, target),
        runs=_runs(lake, target),
    )


def _checkpoints(lake: Lake, sets: Sequence[str]) -> list[str]:
    rows = lake.rows("select distinct checkpoint_id, shards_id from viclip.viclip_checkpoint order by 1")
    return list(dict.fromkeys(row["checkpoint_id"] for row in rows if row["shards_id"] in sets))


def _copies(lake: Lake, target: Target) -> list[str]:
    """Near duplicates of whole videos, whichever of the two was kept."""
    if not lake.has_table("intermediate.int_near_duplicates"):
        return []
    where = conditions(lake, target)["intermediate.int_near_duplicates"]
    rows = lake.rows(f"select video_id, duplicate_of from intermediate.int_near_duplicates where {where}")
    return sorted({name for row in rows for name in row.values()} - set(target.videos))


def _runs(lake: Lake, target: Target) -> list[str]:
    """Runs that cut clips of the target's batches: Dagster keeps a sheet of pictures with each."""
    where = conditions(lake, target)["clips.clips"]
    rows = lake.rows(
        "select distinct run_id from lineage.materializations where asset = 'clips.clips' and partition_key in "
        f"(select batch from clips.clips where {where}) order by 1"
    )
    return [row["run_id"] for row in rows]


def unfinished(store: ObjectStore) -> list[Plan]:
    """Takedowns that were begun and not completed."""
    return [Plan.load(store.get_bytes(key)) for key in store.keys(_PREFIX) if key.endswith("/plan.json")]


def carry_out(
    lake: Lake, store: ObjectStore, plan: Plan, cache: Path, forget_runs: Callable[[Sequence[str]], None]
) -> dict[str, Any]:
    """Remove everything that the plan names, and what came to it since; safe to repeat. Returns the receipt.

    Raises: RuntimeError when another run keeps writing rows of the target.
    """
    folder = f"{_PREFIX}{plan.takedown_id}"
    if not store.exists(f"{folder}/plan.json"):
        store.put_bytes(f"{folder}/plan.json", plan.dump())
    purged = _remove_rows(lake, store, plan)
    _remove_objects(lake, store, plan)
    forget_runs(plan.runs)
    for name in _SCRATCH:
        shutil.rmtree(cache / name, ignore_errors=True)
    if not store.exists(f"{folder}/receipt.json"):
        receipt = _receipt(plan, purged)
        store.put_bytes(f"{folder}/receipt.json", json.dumps(receipt, indent=1, sort_keys=True).encode())
    receipt = json.loads(store.get_bytes(f"{folder}/receipt.json"))
    if not store.exists(f"{folder}/receipt.txt"):
        store.put_bytes(f"{folder}/receipt.txt", ("\n".join(receipt_lines(receipt)) + "\n").encode())
    store.delete(f"{folder}/plan.json")
    return receipt


def _remove_rows(lake: Lake, store: ObjectStore, plan: Plan) -> dict[str, int]:
    """Delete the rows and purge them, again when a run at work has written some meanwhile."""
    for _ in range(_MAX_ROUNDS):
        more = [
            *withdraw.withdrawals(lake, plan.takedown_id, plan.shards, plan.releases),
            *withdraw.without_clips(lake, store, plan.target, plan.packs),
        ]
        delete_rows(lake, plan.target, plan.takedown_id, plan.reason, more)
        purged = purge(lake)
        if not count_rows(lake, plan.target):
            return purged
    raise RuntimeError(f"takedown {plan.takedown_id}: other runs keep writing its rows; stop them and repeat")


def _remove_objects(lake: Lake, store: ObjectStore, plan: Plan) -> None:
    withdraw.withdraw_shards(store, plan.takedown_id, plan.shards)
    withdraw.withdraw_releases(store, plan.takedown_id, plan.releases)
    withdraw.forget_answers(store, plan.target)
    packs = withdraw.media_keys(lake, store, plan.target)  # what a run at work has put there since
    for key in sorted({*plan.media, *plan.packs, *plan.reports, *packs}):
        store.delete(key)


def _receipt(plan: Plan, purged: dict[str, int]) -> dict[str, Any]:
    """What was done, without titles, addresses and texts."""
    target = plan.target
    return {
        "takedown_id": plan.takedown_id,
        "finished_at": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        "reason": plan.reason,
        "videos": list(target.videos),
        "clips": list(target.clips),
        "num_addresses": len(target.sources),
        "rows_deleted": plan.rows,
        "objects_deleted": [
            *plan.media,
            *plan.packs,
            *plan.reports,
            *(k for keys in plan.shards.values() for k in keys),
        ],
        "answers_rewritten": plan.answers,
        "shards_withdrawn": sorted(plan.shards),
        "releases_to_issue_again": plan.releases,
        "checkpoints_that_saw_it": plan.checkpoints,
        "copies_still_held": plan.copies,
        "purge": purged,
    }


def receipt_lines(receipt: dict[str, Any]) -> list[str]:
    """The receipt for people."""
    rows = sum(receipt["rows_deleted"].values())
    return [
        f"Takedown {receipt['takedown_id']}, finished {receipt['finished_at']}",
        f"Reason: {receipt['reason'] or 'none given'}",
        f"Taken down: {', '.join([*receipt['videos'], *receipt['clips']]) or 'addresses only'}",
        f"{rows} rows of {len(receipt['rows_deleted'])} tables and {len(receipt['objects_deleted'])} objects are deleted; "
        f"{receipt['purge']['files_deleted']} data files were purged. Earlier states of the tables can no longer be read.",
        *(f"Shard set {name} is withdrawn: make training_shards again." for name in receipt["shards_withdrawn"]),
        *(f"Release {name} is withdrawn: publish it again." for name in receipt["releases_to_issue_again"]),
        *(f"Checkpoint {name} was trained on it and still exists." for name in receipt["checkpoints_that_saw_it"]),
        *(
            f"Video {name} looks the same and is still held; it leaves the subsets when they are next made."
            for name in receipt["copies_still_held"]
        ),
        *(["The videos of single clips are still held as files."] if receipt["clips"] else []),
        *_orphans_line(receipt["purge"]["young_orphans"]),
        "Caches on other machines (cache/ of their home) are theirs to delete.",
    ]


def _orphans_line(count: int) -> list[str]:
    told = (
        f"{count} data files of writers at work, or killed within the hour, may hold its rows: repeat this in an hour."
    )
    return [told] if count else []
