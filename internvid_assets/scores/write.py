"""One batch of clips gets its missing scores, part by part; scores are appended, never changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from internvid_assets.captions.base import batched
from internvid_assets.clips.frames import FrameSource
from internvid_assets.clips.packs import ClipFrames
from internvid_assets.lake import Append, Lake
from internvid_assets.lake.histograms import histogram_markdown
from internvid_assets.lake.stage import Quarantined, Refusal, StageResult, count_reasons, quarantine_change
from internvid_assets.scores.base import Reads, ScoreItem, Scorer
from internvid_assets.scores.todo import Text, clip_groups, missing
from internvid_assets.store import ObjectStore

CODE_VERSION = "2"
KEY = ("clip_id", "captioner", "captioner_version", "scorer", "scorer_backend", "scorer_version")
_CHUNK = 32
_MAX_ROWS = 2000


def score_parts(
    lake: Lake, store: ObjectStore, scorers: Sequence[Scorer], batch: str, progress: Callable[..., Any]
) -> Iterator[StageResult]:
    """Every score of every clip (or caption) that lacks it by the current scorer versions, at most 2,000 rows a part.

    Each part is to be stored before the next is asked for. What is held at a time does not grow with the batch. A batch
    that lacks nothing gives no part.
    """
    num_clips = lake.value("select count(*) from clips.clips where batch = ?", [batch])
    part = _Part()
    work = progress(_work(lake, store, scorers, batch), "clip_scores", total=num_clips)
    for chunk in batched(work, _CHUNK):
        for clip in _scored(scorers, [clip for clip in chunk if clip.is_touched], batch):
            if part.clip_ids and len(part.rows) + len(clip.rows) > _MAX_ROWS:
                yield part.result(lake, batch)
                part = _Part()
            part.add(clip)
    if part.clip_ids:
        yield part.result(lake, batch)


def score_histograms(lake: Lake, batch: str) -> str:
    """A Markdown table with one histogram for each scorer."""
    names = [row["scorer"] for row in lake.rows("select distinct scorer from scores.clip_scores order by 1")]
    columns = ", ".join(f"case when scorer = '{name}' then value end as {name}" for name in names)
    relation = f"(select {columns} from scores.clip_scores where batch = '{batch}') as scored"
    return histogram_markdown(lake, relation) if names else "no scores yet"


@dataclass
class _Clip:
    """One clip: what it lacks, then what it got."""

    clip_id: str
    todo: Mapping[str, Sequence[Text]]  # scorer to captions, or to the one empty text of the clip itself
    was_refused: bool
    frames: ClipFrames | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    refused: list[Quarantined] = field(default_factory=list)

    @property
    def is_touched(self) -> bool:
        """Whether the lake changes: there is something to score, or an old refusal to take back."""
        return bool(self.todo) or self.was_refused


@dataclass
class _Part:
    """What is stored together."""

    clip_ids: set[str] = field(default_factory=set)
    rows: list[dict[str, Any]] = field(default_factory=list)
    refused: list[Quarantined] = field(default_factory=list)

    def add(self, clip: _Clip) -> None:
        """Take over what a clip got."""
        self.clip_ids.add(clip.clip_id)
        self.rows += clip.rows
        self.refused += clip.refused

    def result(self, lake: Lake, batch: str) -> StageResult:
        """The changes and counts."""
        return StageResult(
            changes=[
                Append("scores.clip_scores", lake.to_arrow("scores.clip_scores", self.rows), KEY),
                quarantine_change(lake, batch, "scores", self.refused, frozenset(self.clip_ids)),
            ],
            num_in=len(self.clip_ids),
            num_out=len(self.rows),
            drops=count_reasons(self.refused),
            metadata={f"num_{name}": n for name, n in sorted(Counter(row["scorer"] for row in self.rows).items())},
        )


def _work(lake: Lake, store: ObjectStore, scorers: Sequence[Scorer], batch: str) -> Iterator[_Clip]:
    """Every clip of the batch; with its frames where a scorer of frames has yet to see it."""
    watchers = {scorer.name for scorer in scorers if Reads.FRAMES in scorer.reads}
    for clip_ids in clip_groups(lake, batch):
        todo, refused = missing(lake, scorers, batch, clip_ids)
        waiting = {clip_id: _Clip(clip_id, todo.get(clip_id, {}), clip_id in refused) for clip_id in clip_ids}
        watched = {clip_id for clip_id, clip in waiting.items() if watchers & clip.todo.keys()}
        yield from [waiting.pop(clip_id) for clip_id in clip_ids if clip_id not in watched]
        for frames in FrameSource(lake, store).of_clips(sorted(watched)) if watched else ():
            clip = waiting.pop(frames.clip_id)
            clip.frames = frames
            yield clip


def _scored(scorers: Sequence[Scorer], clips: Sequence[_Clip], batch: str) -> Sequence[_Clip]:
    """The clips with their rows and refusals; what belongs together is scored together."""
    for scorer in scorers:
        work = [(clip, text) for clip in clips for text in clip.todo.get(scorer.name, ())]
        if not work:
            continue
        watches, version = Reads.FRAMES in scorer.reads, scorer.version
        items = [ScoreItem(clip.frames if watches else None, text.caption, text.sources) for clip, text in work]
        values = scorer.score(items)
        for (clip, text), value in zip(work, values, strict=True):
            if isinstance(value, Refusal):
                clip.refused.append(Quarantined(clip.clip_id, value.reason, value.detail))
            else:
                clip.rows.append(_row(scorer, version, batch, clip.clip_id, text, value))
    return clips


def _row(scorer: Scorer, version: str, batch: str, clip_id: str, text: Text, value: float) -> dict[str, Any]:
    return {
        "batch": batch,
        "clip_id": clip_id,
        "captioner": text.captioner,
        "captioner_version": text.captioner_version,
        "scorer": scorer.name,
        "scorer_backend": scorer.backend,
        "scorer_version": version,
        "value": value,
    }
