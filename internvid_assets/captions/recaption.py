"""Incremental re-captioning: the most valuable stale clips first, up to a budget in clips and in minutes.

Old texts stay; a new one wins only through its scores. Every chunk is stored before the next begins, so an
interruption loses at most one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from internvid_assets.captions import write
from internvid_assets.captions.base import Captioner
from internvid_assets.lake import Lake
from internvid_assets.lake.stage import StageResult
from internvid_assets.store import ObjectStore

_POLICY = Path(__file__).with_name("recaption.sql")
_CHUNK = 64
_FRAMES = ("clips.clips",)
_TEXTS = ("captions.coarse_captions", "captions.fine_captions", "captions.transcripts")


def stale_clips(lake: Lake, captioner: Captioner, budget: int) -> list[dict[str, Any]]:
    """(batch, clip_id) of clips without a text by this captioner version, the most valuable first, at most `budget`."""
    if budget < 1:
        raise ValueError(f"budget = {budget} must be at least 1 clip")
    if not lake.has_table("staging.stg_captions"):
        raise ValueError("no clip has been scored yet: run `internvid run SOURCE` or the job refresh_subsets first")
    return lake.rows(_POLICY.read_text(), {"captioner": captioner.name, "version": captioner.version, "budget": budget})


def recaption(
    lake: Lake,
    store: ObjectStore,
    captioner: Captioner,
    budget: int,
    minutes: float,
    run_id: str,
    progress: Callable[..., Any],
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, int]:
    """Caption stale clips until the budget is spent; how many clips of each batch got a text.

    Args:
        minutes: no new chunk begins after so long.
    """
    deadline = clock() + 60 * minutes
    done: dict[str, int] = {}
    for batch, clip_ids in progress(list(_chunks(stale_clips(lake, captioner, budget))), "recaption"):
        if clock() > deadline:
            break
        only = frozenset(clip_ids)
        steps: list[tuple[str, tuple[str, ...], Callable[[], StageResult]]] = [
            (
                "captions.coarse_captions",
                _FRAMES,
                partial(write.coarse_batch, lake, store, captioner, batch, _quiet, only),
            ),
            ("captions.fine_captions", _FRAMES, partial(write.fine_batch, lake, store, captioner, batch, _quiet, only)),
            ("captions.captions", _TEXTS, partial(write.merge_batch, lake, captioner, batch, _quiet, only)),
        ]
        for table, inputs, stage in steps:
            read_snapshot_id = lake.snapshot_id()
            result = stage()
            given = [(name, batch) for name in inputs]
            row = result.write(table, run_id, batch, read_snapshot_id, given, write.CODE_VERSION, captioner.version)
            lake.commit(row, result.changes)
        done[batch] = done.get(batch, 0) + result.num_out
    return done


def _chunks(clips: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Up to 64 clips of one batch at a time, in the order of the most valuable clip of each chunk."""
    waiting: dict[str, list[str]] = {}
    for clip in clips:
        chunk = waiting.setdefault(clip["batch"], [])
        chunk.append(clip["clip_id"])
        if len(chunk) == _CHUNK:
            yield clip["batch"], waiting.pop(clip["batch"])
    yield from waiting.items()


def _quiet(items: Any, *_: Any, **__: Any) -> Any:
    return items
