"""One batch of clips gets its missing texts, in parts: what has a text by the current version is left alone.

Every function here is a generator of parts. Store each before asking for the next: only then are paid answers given up,
and only then does memory stay flat however large the batch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from internvid_assets.captions.answers import AnswerLog
from internvid_assets.captions.base import Captioner, ClipInput, CoarseCaption, FineCaption, MergeInput
from internvid_assets.captions.recipe import Recipe
from internvid_assets.captions.transcripts import Transcriber
from internvid_assets.clips.frames import FrameSource
from internvid_assets.lake import Append, Lake
from internvid_assets.lake.stage import Quarantined, Refusal, StageResult, count_reasons, quarantine_change
from internvid_assets.store import ObjectStore

CODE_VERSION = "2"
KEY = ("clip_id", "captioner", "captioner_version")
Progress = Callable[..., Any]
Only = Sequence[str] | None
"""Clip ids to which work is limited; None: no limit."""
_PART_ROWS, _PART_SECONDS = 1024, 30.0


def code_version(version: str) -> str:
    """The code version of an asset whose texts are of a version."""
    return f"{CODE_VERSION}-{version}"


def num_missing(lake: Lake, recipe: Recipe, batch: str) -> dict[str, tuple[str, int]]:
    """For each table of texts from frames: the recipe's version, and how many clips of the batch lack a text by it."""
    return {
        table: (version, _missing(lake, table, name, version, "where batch = $batch", {"batch": batch}).get(batch, 0))
        for table, name, version in _steps(recipe)
    }


def missing_by_batch(lake: Lake, recipe: Recipe) -> dict[tuple[str, str], int]:
    """How many clips lack a text by the recipe's versions, by table and batch; 0 where none does."""
    steps = [*_steps(recipe), ("captions.transcripts", None, recipe.transcriber.version)]
    return {
        (table, batch): count
        for table, name, version in steps
        for batch, count in _missing(lake, table, name, version).items()
    }


def _steps(recipe: Recipe) -> list[tuple[str, str, str]]:
    return [
        ("captions.coarse_captions", recipe.coarse.name, recipe.version("coarse")),
        ("captions.fine_captions", recipe.fine.name, recipe.version("fine")),
        ("captions.captions", recipe.name, recipe.version("merge")),
    ]


def _missing(
    lake: Lake, table: str, name: str | None, version: str, where: str = "", given: dict[str, str] | None = None
) -> dict[str, int]:
    """Clips without a text of the version, by batch; with name None by whatever captioner."""
    rows = lake.rows(
        f"with clips as (from clips.clips {where}), held as (select distinct batch, clip_id from {table} "
        f"{where or 'where true'} and ($name is null or captioner = $name) and captioner_version = $version) "
        "select batch, count(*) filter (held.clip_id is null) as num_missing from clips left join held using (batch, clip_id) "
        "group by batch",
        {"name": name, "version": version, **(given or {})},
    )
    return {row["batch"]: row["num_missing"] for row in rows}


def coarse_parts(
    lake: Lake, store: ObjectStore, recipe: Recipe, batch: str, progress: Progress, only: Only = None
) -> Iterator[StageResult]:
    """A text of the middle frame of every clip that lacks one by this recipe's version; of `only` these, if given."""
    target = _Target.of(lake, store, recipe, "coarse", "captions.coarse_captions", batch)
    yield from _frame_parts(target, recipe.coarse, recipe.coarse.coarse, _coarse_row, progress, only)


def fine_parts(
    lake: Lake, store: ObjectStore, recipe: Recipe, batch: str, progress: Progress, only: Only = None
) -> Iterator[StageResult]:
    """Per-second texts and the motion of every clip that lacks them by this recipe's version; of `only` these, if given."""
    target = _Target.of(lake, store, recipe, "fine", "captions.fine_captions", batch)
    yield from _frame_parts(target, recipe.fine, recipe.fine.fine, _fine_row, progress, only)


def merge_parts(
    lake: Lake, store: ObjectStore, recipe: Recipe, batch: str, progress: Progress, only: Only = None
) -> Iterator[StageResult]:
    """One caption for every clip that has its coarse and fine texts and lacks one by this version; of `only`, if given."""
    target = _Target.of(lake, store, recipe, "merge", "captions.captions", batch)
    todo = lake.rows(_MERGEABLE, {
        "batch": batch, "name": recipe.name, "version": target.version, "only": _listed(only),
        "coarse": recipe.coarse.name, "coarse_version": recipe.version("coarse"),
        "fine": recipe.fine.name, "fine_version": recipe.version("fine"),
        "transcript_version": recipe.transcriber.version,
    })  # fmt: skip
    sources = {clip["clip_id"]: clip["source_uri"] for clip in todo}
    clips = (_merge_input(clip) for clip in progress(todo, "captions"))
    yield from _parts(target, recipe.merge, recipe.captions(clips), _caption_row, sources)


def transcript_parts(
    lake: Lake, store: ObjectStore, transcriber: Transcriber, batch: str, progress: Progress, only: Only = None
) -> Iterator[StageResult]:
    """The words of every clip that lacks them, of `only` these: subtitles that came with the video, else recognised
    speech, else nothing."""
    target = _Target(lake, store, "captions.transcripts", batch, None, transcriber.version)
    by_video: dict[str, list[dict[str, Any]]] = {}
    for clip in missing_clips(target, only):
        by_video.setdefault(clip["video_id"], []).append(clip)
    rows: list[dict[str, Any]] = []
    for clips in progress(list(by_video.values()), "transcripts"):
        first = clips[0]
        spans = [(clip["start_seconds"], clip["end_seconds"]) for clip in clips]
        media = store.local_path(first["media_key"])
        fetched = [store.local_path(key) for key in first["subtitle_keys"] or ()]
        found = transcriber.words(
            Path(first["source_uri"]), media, spans, first["has_subtitles"], first["has_audio"], fetched
        )
        rows += [
            target.keyed(clip["clip_id"], {"text": words.text, "language": words.language}, words.source)
            for clip, words in zip(clips, found, strict=True)
        ]
        if len(rows) >= _PART_ROWS:
            yield target.result(rows, [], {})
            rows = []
    if rows:
        yield target.result(rows, [], {})


@dataclass(frozen=True)
class _Target:
    """Where texts go: a table, a batch, and the captioner and version of the rows (captioner None: any)."""

    lake: Lake
    store: ObjectStore
    table: str
    batch: str
    captioner: str | None
    version: str
    spec: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, lake: Lake, store: ObjectStore, recipe: Recipe, step: str, table: str, batch: str) -> _Target:
        names = {"coarse": recipe.coarse.name, "fine": recipe.fine.name, "merge": recipe.name}
        version = recipe.version(step)
        is_known = lake.value("select count(*) from captions.captioners where captioner_version = ?", [version])
        spec = {} if is_known else {step: recipe.spec(step)}
        return cls(lake, store, table, batch, names[step], version, spec)

    @property
    def stage(self) -> str:
        """The table's name, by which quarantine knows the stage."""
        return self.table.partition(".")[2]

    def keyed(self, clip_id: str, row: dict[str, Any], captioner: str | None = None) -> dict[str, Any]:
        """A row of the table."""
        identity = {"batch": self.batch, "clip_id": clip_id, "captioner": captioner or self.captioner}
        return identity | {"captioner_version": self.version} | row

    def result(self, rows: list[dict[str, Any]], refused: list[Quarantined], costs: dict[str, float]) -> StageResult:
        """A part to be stored: rows, refusals, what the version means, and what it cost."""
        lake, done = self.lake, frozenset([row["clip_id"] for row in rows] + [item.item_id for item in refused])
        meanings = [
            {"captioner": self.captioner, "captioner_version": self.version, "step": step,
             "spec": json.dumps(spec, sort_keys=True)}
            for step, spec in self.spec.items()
        ]  # fmt: skip
        samples = [row["text"] for row in rows if row.get("text")][:8]
        return StageResult(
            changes=[
                Append(self.table, lake.to_arrow(self.table, rows), KEY),
                Append("captions.captioners", lake.to_arrow("captions.captioners", meanings), (*KEY[1:], "step")),
                quarantine_change(lake, self.batch, self.stage, refused, done),
            ],
            num_in=len(done),
            num_out=len(rows),
            drops=count_reasons(refused),
            metadata={"samples": samples} if samples else {},
            costs=costs,
        )


def missing_clips(target: _Target, only: Only) -> list[dict[str, Any]]:
    """Clips of the batch without a row of the version in the table, with what is known of their source."""
    return target.lake.rows(
        f"select c.clip_id, c.video_id, c.start_seconds, c.end_seconds, {_SOURCE_CAPTION.format(clip='c')} as caption, "
        "v.title, v.media_key, v.source_uri, v.has_audio, v.has_subtitles, v.subtitle_keys from clips.clips as c join videos.raw_videos as v using (video_id, batch) "
        "where c.batch = $batch and ($only is null or c.clip_id in (select unnest($only::varchar[]))) and not exists "
        f"(select 1 from {target.table} as held where held.batch = $batch and held.clip_id = c.clip_id "
        "and held.captioner_version = $version and ($captioner::varchar is null or held.captioner = $captioner)) "
        "order by c.video_id, c.start_seconds",
        {"batch": target.batch, "version": target.version, "captioner": target.captioner, "only": _listed(only)},
    )


_SOURCE_CAPTION = (
    "coalesce(list_filter(v.section_captions, lambda text, i: v.section_starts[i] <= ({clip}.start_seconds + "
    "{clip}.end_seconds) / 2 and v.section_ends[i] > ({clip}.start_seconds + {clip}.end_seconds) / 2)[1], v.caption)"
)
"""The text that came with a clip's section, else with its video `v`."""


_MERGEABLE = f"""
select c.clip_id, c.text as coarse_text, c.labels, c.label_scores, f.frame_seconds, f.frame_texts, f.motion_text,
    f.motion_label, coalesce(t.text, '') as transcript, coalesce(t.captioner = 'subtitles', false) as subtitles,
    {_SOURCE_CAPTION.format(clip="k")} as caption, v.title, v.source_uri
from captions.coarse_captions as c
join captions.fine_captions as f on f.batch = $batch and f.clip_id = c.clip_id and f.captioner = $fine
    and f.captioner_version = $fine_version
left join captions.transcripts as t on t.batch = $batch and t.clip_id = c.clip_id
    and t.captioner_version = $transcript_version
join clips.clips as k on k.batch = $batch and k.clip_id = c.clip_id
join videos.raw_videos as v on v.video_id = k.video_id and v.batch = k.batch
where c.batch = $batch and c.captioner = $coarse and c.captioner_version = $coarse_version
    and ($only is null or c.clip_id in (select unnest($only::varchar[])))
    and not exists (select 1 from captions.captions as held where held.batch = $batch and held.clip_id = c.clip_id
        and held.captioner = $name and held.captioner_version = $version)
order by c.clip_id
"""


def _frame_parts(
    target: _Target,
    captioner: Captioner,
    describe: Callable[[Iterable[ClipInput]], Iterator[tuple[str, Any]]],
    as_row: Callable[[Any], dict[str, Any]],
    progress: Progress,
    only: Only,
) -> Iterator[StageResult]:
    todo = {clip["clip_id"]: clip for clip in missing_clips(target, only)}
    frames = progress(FrameSource(target.lake, target.store).of_clips(list(todo)), target.stage, total=len(todo))
    inputs = (ClipInput(f, todo[f.clip_id]["caption"], todo[f.clip_id]["title"]) for f in frames)
    sources = {clip_id: clip["source_uri"] for clip_id, clip in todo.items()}
    yield from _parts(target, captioner, describe(inputs), as_row, sources)


def _parts(
    target: _Target,
    captioner: Captioner,
    results: Iterator[tuple[str, Any]],
    as_row: Callable[[Any], dict[str, Any]],
    sources: dict[str, str],
) -> Iterator[StageResult]:
    """Results as parts of up to `_PART_ROWS` clips or `_PART_SECONDS`; answers are kept until their part is stored."""
    if not sources:
        return
    with AnswerLog(target.store, f"answers/{target.stage}/{target.batch}/{target.version}") as captioner.answers:
        rows: list[dict[str, Any]] = []
        refused: list[Quarantined] = []
        began = time.monotonic()
        for clip_id, result in results:
            if isinstance(result, Refusal):
                refused.append(Quarantined(clip_id, result.reason, result.detail, sources[clip_id]))
            else:
                rows.append(target.keyed(clip_id, as_row(result)))
            if len(rows) + len(refused) >= _PART_ROWS or time.monotonic() - began > _PART_SECONDS:
                yield target.result(rows, refused, captioner.spent())
                captioner.answers.settle(row["clip_id"] for row in rows)
                rows, refused, began = [], [], time.monotonic()
        if rows or refused:
            yield target.result(rows, refused, captioner.spent())
            captioner.answers.settle(row["clip_id"] for row in rows)
    captioner.answers = None


def _coarse_row(result: CoarseCaption) -> dict[str, Any]:
    return {"text": result.text, "labels": list(result.labels), "label_scores": list(result.label_scores)}


def _fine_row(result: FineCaption) -> dict[str, Any]:
    return {
        "frame_seconds": list(result.frame_seconds),
        "frame_texts": list(result.frame_texts),
        "motion_text": result.motion_text,
        "motion_label": result.motion_label,
    }


def _caption_row(text: str) -> dict[str, Any]:
    return {"text": text, "num_words": len(text.split())}


def _merge_input(row: dict[str, Any]) -> MergeInput:
    return MergeInput(
        clip_id=row["clip_id"],
        coarse=CoarseCaption(row["coarse_text"], tuple(row["labels"]), tuple(row["label_scores"])),
        fine=FineCaption(
            tuple(row["frame_seconds"]), tuple(row["frame_texts"]), row["motion_text"], row["motion_label"]
        ),
        transcript=row["transcript"],
        subtitles=row["subtitles"],
        source_caption=row["caption"],
        title=row["title"],
    )


def _listed(only: Only) -> list[str] | None:
    return None if only is None else list(only)
