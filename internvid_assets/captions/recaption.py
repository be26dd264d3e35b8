"""Incremental re-captioning: the most valuable stale clips first, up to a budget in clips and in minutes.

Old texts stay; a new one wins only through its scores. Every part is stored before the next begins, so an interruption
loses nothing that was paid.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from internvid_assets.captions import write
from internvid_assets.captions.recipe import Recipe
from internvid_assets.lake import Append, Lake
from internvid_assets.lake.stage import StageResult, with_snapshots
from internvid_assets.store import ObjectStore

_POLICIES = Path(__file__).with_name("policies")
_CHUNK = 512
_INPUTS = {
    "captions.transcripts": ("videos.raw_videos", "clips.clips"),
    "captions.coarse_captions": ("clips.clips",),
    "captions.fine_captions": ("clips.clips",),
    "captions.captions": ("captions.coarse_captions", "captions.fine_captions", "captions.transcripts"),
}


def policy_sql(policy: str) -> str:
    """The SELECT of a policy: one of ours by name, or a file of yours.

    Raises: ValueError when there is no such policy or file.
    """
    ours = sorted(path.stem for path in _POLICIES.glob("*_first.sql"))
    path = _POLICIES / f"{policy}.sql" if policy in ours else Path(policy)
    if policy not in ours and (path.suffix != ".sql" or not path.is_file()):
        raise ValueError(f"captions.recaption_policy = {policy!r} must be one of {', '.join(ours)}, or a .sql file")
    return path.read_text().strip().rstrip(";")


def stale_clips(lake: Lake, recipe: Recipe, budget: int, policy: str = "worst_first") -> list[dict[str, Any]]:
    """Clips without a text by the recipe's version, in the policy's order, at most `budget`: batch, clip_id and
    the captioner and version of the clip's best text so far.

    Raises: ValueError for a budget below 1, an unknown policy, or a home without subsets.
    """
    if budget < 1:
        raise ValueError(f"budget = {budget} must be at least 1 clip")
    select = policy_sql(policy)
    if not lake.has_table("intermediate.best_captions"):
        raise ValueError("no clip has been scored yet: run `internvid run SOURCE` or the job refresh_subsets first")
    stale = (_POLICIES / "stale.sql").read_text()
    return lake.rows(
        f"with stale as (\n{stale})\n{select}\nlimit $budget",
        {"captioner": recipe.name, "version": recipe.version("merge"), "budget": budget},
    )


def recaption(
    lake: Lake,
    store: ObjectStore,
    recipe: Recipe,
    budget: int,
    minutes: float,
    run_id: str,
    progress: Callable[..., Any],
    policy: str = "worst_first",
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, int]:
    """Caption stale clips until the budget is spent; how many clips of each batch got a text.

    Args:
        minutes: no model is shown another clip after so long; what it has seen is still merged and stored.
    """
    deadline = clock() + 60 * minutes

    def in_time(items: Iterable[Any], *_: Any, **__: Any) -> Iterator[Any]:
        return takewhile(lambda _: clock() <= deadline, items)

    done: dict[str, int] = {}
    for batch, clips in progress(list(_chunks(stale_clips(lake, recipe, budget, policy))), "recaption"):
        if clock() > deadline:
            break
        before = {clip["clip_id"]: clip for clip in clips}
        for table, version, parts in _steps(lake, store, recipe, batch, list(before), in_time):
            given = [(name, batch) for name in _INPUTS[table]]
            for read_snapshot_id, part in with_snapshots(lake, parts):
                changes = list(part.changes)
                if table == "captions.captions":
                    changes.append(_replaced(lake, run_id, before, part))
                    done[batch] = done.get(batch, 0) + part.num_out
                row = part.write(table, run_id, batch, read_snapshot_id, given, write.CODE_VERSION, version)
                lake.commit(row, changes)
    return done


def _chunks(clips: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Up to `_CHUNK` clips of one batch at a time, in the order of the most valuable clip of each chunk."""
    waiting: dict[str, list[dict[str, Any]]] = {}
    for clip in clips:
        chunk = waiting.setdefault(clip["batch"], [])
        chunk.append(clip)
        if len(chunk) == _CHUNK:
            yield clip["batch"], waiting.pop(clip["batch"])
    yield from waiting.items()


def _steps(
    lake: Lake, store: ObjectStore, recipe: Recipe, batch: str, only: list[str], in_time: Callable[..., Any]
) -> Iterator[tuple[str, str, Iterator[StageResult]]]:
    """Table, version and parts of each step that the clips may lack."""
    if recipe.merge.reads_transcript:
        transcriber = recipe.transcriber
        parts = write.transcript_parts(lake, store, transcriber, batch, in_time, only)
        yield "captions.transcripts", transcriber.version, parts
    for step, table, make in (
        ("coarse", "captions.coarse_captions", write.coarse_parts),
        ("fine", "captions.fine_captions", write.fine_parts),
    ):
        yield table, recipe.version(step), make(lake, store, recipe, batch, in_time, only)
    yield "captions.captions", recipe.version("merge"), write.merge_parts(lake, store, recipe, batch, _quiet, only)


def _replaced(lake: Lake, run_id: str, before: dict[str, dict[str, Any]], part: StageResult) -> Append:
    """A row for each new caption, with the text that spoke for its clip before."""
    appended = part.changes[0]
    assert isinstance(appended, Append)
    texts = appended.rows.select(write.KEY).to_pylist()
    rows = [
        text
        | {
            "run_id": run_id,
            "previous_captioner": before[text["clip_id"]]["previous_captioner"],
            "previous_version": before[text["clip_id"]]["previous_version"],
        }
        for text in texts
    ]
    return Append("captions.recaptions", lake.to_arrow("captions.recaptions", rows), ("run_id", *write.KEY))


_COMPARED = """
select
    new.clip_id,
    new.caption as after,
    old.caption as before,
    new.similarity as after_similarity,
    old.similarity as before_similarity,
    case
        when old.caption is null then 'first'
        when new.similarity is null or old.similarity is null then 'unknown'
        when abs(new.similarity - old.similarity) < 1e-6 then 'equal'
        when new.similarity > old.similarity then 'better'
        else 'worse'
    end as verdict
from captions.recaptions as done
join staging.stg_captions as new using (clip_id, captioner, captioner_version)
left join staging.stg_captions as old on old.clip_id = done.clip_id and old.captioner = done.previous_captioner
    and old.captioner_version = done.previous_version
where done.run_id = $run_id
"""


@dataclass(frozen=True)
class Improvement:
    """How a run's new texts compare with those they are to replace, by similarity: clips of each verdict (`first`,
    `better`, `equal`, `worse`, `unknown`), and some of the better and worse ones."""

    counts: dict[str, int]
    samples: list[dict[str, Any]]

    def lines(self) -> list[str]:
        """For a terminal."""
        told = ", ".join(f"{count} {verdict}" for verdict, count in self.counts.items()) or "no clip got a new text"
        return [f"re-captioned: {told}"] + [
            f"  {s['clip_id']} {s['verdict']}: {s['before']!r} ({s['before_similarity']:.3f}) -> "
            f"{s['after']!r} ({s['after_similarity']:.3f})"
            for s in self.samples
        ]

    def markdown(self) -> str:
        """For a page."""
        rows = [
            f"| {s['clip_id']} | {s['verdict']} | {_cell(s['before'])} | {s['before_similarity']:.3f} "
            f"| {_cell(s['after'])} | {s['after_similarity']:.3f} |"
            for s in self.samples
        ]
        return "\n".join(["| clip | | before | similarity | after | similarity |", "|---|---|---|---|---|---|", *rows])


def improvement(lake: Lake, run_id: str, num_samples: int = 8) -> Improvement:
    """What a re-captioning run changed, from the scores as they now are."""
    given = {"run_id": run_id}
    counts = lake.rows(f"select verdict, count(*) as num from ({_COMPARED}) group by verdict order by num desc", given)
    samples = lake.rows(
        f"select * from ({_COMPARED}) where verdict in ('better', 'worse') "
        "qualify row_number() over (partition by verdict order by hash(clip_id)) <= $num "
        "order by verdict, hash(clip_id)",
        given | {"num": (num_samples + 1) // 2},
    )
    return Improvement({row["verdict"]: row["num"] for row in counts}, samples)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _quiet(items: Any, *_: Any, **__: Any) -> Any:
    return items
