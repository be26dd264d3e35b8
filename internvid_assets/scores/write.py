"""One batch of clips gets its missing scores; scores are appended, never changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from internvid_assets.clips.frames import FrameSource
from internvid_assets.lake import Append, Lake
from internvid_assets.lake.histograms import histogram_markdown
from internvid_assets.lake.stage import Quarantined, Refusal, StageResult, count_reasons, quarantine_change
from internvid_assets.scores.base import ScoreItem, Scorer
from internvid_assets.store import ObjectStore

CODE_VERSION = "1"
KEY = ("clip_id", "captioner", "captioner_version", "scorer", "scorer_backend", "scorer_version")
_CHUNK = 32


def score_batch(
    lake: Lake, store: ObjectStore, scorers: Sequence[Scorer], batch: str, progress: Callable[..., Any]
) -> StageResult:
    """Every score of every clip (or caption) that lacks it by the current scorer versions."""
    todo = {scorer.name: _missing(lake, scorer, batch) for scorer in scorers}
    clip_ids = sorted({identity for missing in todo.values() for identity in missing})
    rows: list[dict[str, Any]] = []
    refused: list[Quarantined] = []
    chunk: list[Any] = []
    for frames in progress(FrameSource(lake, store).of_clips(clip_ids), "clip_scores", total=len(clip_ids)):
        chunk.append(frames)
        if len(chunk) == _CHUNK:
            _score_chunk(scorers, todo, chunk, batch, rows, refused)
            chunk = []
    _score_chunk(scorers, todo, chunk, batch, rows, refused)
    return StageResult(
        changes=[
            Append("scores.clip_scores", lake.to_arrow("scores.clip_scores", rows), KEY),
            quarantine_change(lake, batch, "scores", refused),
        ],
        num_in=len(clip_ids),
        num_out=len(rows),
        drops=count_reasons(refused),
        metadata={f"num_{name}": count for name, count in sorted(Counter(r["scorer"] for r in rows).items())},
    )


def score_histograms(lake: Lake, batch: str) -> str:
    """A Markdown table with one histogram for each scorer."""
    names = [row["scorer"] for row in lake.rows("select distinct scorer from scores.clip_scores order by 1")]
    columns = ", ".join(f"case when scorer = '{name}' then value end as {name}" for name in names)
    relation = f"(select {columns} from scores.clip_scores where batch = '{batch}') as scored"
    return histogram_markdown(lake, relation) if names else "no scores yet"


def _missing(lake: Lake, scorer: Scorer, batch: str) -> dict[str, list[dict[str, Any]]]:
    """Clip id to what is to be scored: its captions, or the clip itself."""
    given = (
        "select clip_id, captioner, captioner_version, text from captions.captions where batch = $batch"
        if scorer.needs_caption
        else "select clip_id, null::varchar as captioner, null::varchar as captioner_version, null::varchar as text "
        "from clips.clips where batch = $batch"
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for row in lake.rows(
        f"select given.* from ({given}) as given where not exists (select 1 from scores.clip_scores as held "
        "where held.clip_id = given.clip_id and held.captioner is not distinct from given.captioner "
        "and held.captioner_version is not distinct from given.captioner_version and held.scorer = $name "
        "and held.scorer_backend = $backend and held.scorer_version = $version)",
        {"batch": batch, "name": scorer.name, "backend": scorer.backend, "version": scorer.version},
    ):
        found.setdefault(row["clip_id"], []).append(row)
    return found


def _score_chunk(
    scorers: Sequence[Scorer],
    todo: dict[str, dict[str, list[dict[str, Any]]]],
    chunk: list[Any],
    batch: str,
    rows: list[dict[str, Any]],
    refused: list[Quarantined],
) -> None:
    for scorer in scorers:
        work = [(frames, given) for frames in chunk for given in todo[scorer.name].get(frames.clip_id, [])]
        if not work:
            continue
        values = scorer.score([ScoreItem(frames, given["text"]) for frames, given in work])
        for (frames, given), value in zip(work, values, strict=True):
            if isinstance(value, Refusal):
                refused.append(Quarantined(frames.clip_id, value.reason, value.detail))
                continue
            rows.append(
                {
                    "batch": batch,
                    "clip_id": frames.clip_id,
                    "captioner": given["captioner"],
                    "captioner_version": given["captioner_version"],
                    "scorer": scorer.name,
                    "scorer_backend": scorer.backend,
                    "scorer_version": scorer.version,
                    "value": value,
                }
            )
