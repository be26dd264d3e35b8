"""One batch of clips gets its missing texts: what has a text by the current version is left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from internvid_assets.captions import speech, subtitles
from internvid_assets.captions.base import (
    Captioner,
    ClipInput,
    CoarseCaption,
    FineCaption,
    MergeInput,
)
from internvid_assets.captions.speech import SpeechRecognizer
from internvid_assets.clips.frames import FrameSource
from internvid_assets.lake import Append, Lake
from internvid_assets.lake.stage import (
    Quarantined,
    Refusal,
    StageResult,
    count_reasons,
    quarantine_change,
    short_hash,
)
from internvid_assets.store import ObjectStore

CODE_VERSION = "1"
TRANSCRIBER_VERSION = short_hash(CODE_VERSION, speech.MODEL_ID)
KEY = ("clip_id", "captioner", "captioner_version")
Progress = Callable[..., Any]
Only = frozenset[str] | None
"""Clip ids to which work is limited; None: no limit."""
_CHUNK = 32


def coarse_batch(
    lake: Lake, store: ObjectStore, captioner: Captioner, batch: str, progress: Progress, only: Only = None
) -> StageResult:
    """A text of the middle frame of every clip that lacks one by this captioner version; of `only` these, if given."""
    todo = missing_clips(lake, "captions.coarse_captions", captioner.name, captioner.version, batch, only)
    return _from_frames(
        lake, store, captioner, batch, "captions.coarse_captions", todo, captioner.coarse, _coarse_row, progress, only
    )


def fine_batch(
    lake: Lake, store: ObjectStore, captioner: Captioner, batch: str, progress: Progress, only: Only = None
) -> StageResult:
    """Per-second texts and the motion of every clip that lacks them by this captioner version; of `only` these, if given."""
    todo = missing_clips(lake, "captions.fine_captions", captioner.name, captioner.version, batch, only)
    return _from_frames(
        lake, store, captioner, batch, "captions.fine_captions", todo, captioner.fine, _fine_row, progress, only
    )


def _coarse_row(result: CoarseCaption) -> dict[str, Any]:
    return {"text": result.text, "labels": list(result.labels), "label_scores": list(result.label_scores)}


def _fine_row(result: FineCaption) -> dict[str, Any]:
    return {
        "frame_seconds": list(result.frame_seconds),
        "frame_texts": list(result.frame_texts),
        "motion_text": result.motion_text,
        "motion_label": result.motion_label,
    }


def missing_clips(
    lake: Lake, table: str, captioner: str | None, version: str, batch: str, only: Only = None
) -> list[dict[str, Any]]:
    """Clips of the batch without a row of the version in a text table, with what is known of their source."""
    found = lake.rows(
        "select c.clip_id, c.video_id, c.start_seconds, c.end_seconds, v.caption, v.title, v.media_key, v.source_uri, "
        "v.has_audio, v.has_subtitles from clips.clips as c join videos.raw_videos as v using (video_id, batch) "
        f"where c.batch = $batch and not exists (select 1 from {table} as held where held.clip_id = c.clip_id "
        "and held.captioner_version = $version and ($captioner::varchar is null or held.captioner = $captioner)) "
        "order by c.video_id, c.start_seconds",
        {"batch": batch, "version": version, "captioner": captioner},
    )
    return [clip for clip in found if only is None or clip["clip_id"] in only]


def _from_frames(
    lake: Lake,
    store: ObjectStore,
    captioner: Captioner,
    batch: str,
    table: str,
    missing: list[dict[str, Any]],
    describe: Callable[[Sequence[ClipInput]], list[Any]],
    as_row: Callable[[Any], dict[str, Any]],
    progress: Progress,
    only: Only,
) -> StageResult:
    todo = {clip["clip_id"]: clip for clip in missing}
    rows: list[dict[str, Any]] = []
    refused: list[Quarantined] = []
    frames = FrameSource(lake, store).of_clips(list(todo))
    for chunk in _chunks(progress(frames, table.partition(".")[2], total=len(todo)), _CHUNK):
        inputs = [ClipInput(f, todo[f.clip_id]["caption"], todo[f.clip_id]["title"]) for f in chunk]
        for given, result in zip(inputs, describe(inputs), strict=True):
            identity = given.frames.clip_id
            if isinstance(result, Refusal):
                refused.append(Quarantined(identity, result.reason, result.detail, todo[identity]["source_uri"]))
            else:
                rows.append(_keyed(batch, identity, captioner.name, captioner.version, as_row(result)))
    return _result(lake, batch, table, len(todo), rows, refused, only)


def transcribe_batch(lake: Lake, store: ObjectStore, batch: str, progress: Progress) -> StageResult:
    """The words of every clip: subtitles that came with the video, else recognised speech, else nothing."""
    todo = missing_clips(lake, "captions.transcripts", None, TRANSCRIBER_VERSION, batch)
    recognizer = SpeechRecognizer()
    by_video: dict[str, list[dict[str, Any]]] = {}
    for clip in todo:
        by_video.setdefault(clip["video_id"], []).append(clip)
    rows = []
    for clips in progress(list(by_video.values()), "transcripts"):
        source, texts = _words(store, recognizer, clips)
        for clip, text in zip(clips, texts, strict=True):
            row = {"text": text, "language": "en" if text and source == "whisper" else None}
            rows.append(_keyed(batch, clip["clip_id"], source, TRANSCRIBER_VERSION, row))
    return _result(lake, batch, "captions.transcripts", len(todo), rows, [])


def _words(store: ObjectStore, recognizer: SpeechRecognizer, clips: list[dict[str, Any]]) -> tuple[str, list[str]]:
    """Where the words of one video come from, and the words of each clip."""
    spans = [(clip["start_seconds"], clip["end_seconds"]) for clip in clips]
    cues = subtitles.cues_beside(Path(clips[0]["source_uri"]))
    if not cues and clips[0]["has_subtitles"]:
        cues = subtitles.cues_inside(store.local_path(clips[0]["media_key"]))
    if cues:
        return "subtitles", [subtitles.text_in_span(cues, *span) for span in spans]
    if clips[0]["has_audio"]:
        return "whisper", recognizer.texts(store.local_path(clips[0]["media_key"]), spans)
    return "none", [""] * len(spans)


def merge_batch(lake: Lake, captioner: Captioner, batch: str, progress: Progress, only: Only = None) -> StageResult:
    """One caption for every clip that has its coarse and fine texts and lacks one by this version; of `only`, if given."""
    found = lake.rows(
        "select c.clip_id, c.text as coarse_text, c.labels, c.label_scores, f.frame_seconds, f.frame_texts, f.motion_text, "
        "f.motion_label, coalesce(t.text, '') as transcript, v.caption, v.title, v.source_uri "
        "from captions.coarse_captions as c join captions.fine_captions as f using (clip_id, captioner, captioner_version) "
        "left join captions.transcripts as t on t.clip_id = c.clip_id and t.captioner_version = $transcriber "
        "join clips.clips as k on k.clip_id = c.clip_id join videos.raw_videos as v on v.video_id = k.video_id and v.batch = k.batch "
        "where c.batch = $batch and c.captioner = $name and c.captioner_version = $version and not exists "
        "(select 1 from captions.captions as held where held.clip_id = c.clip_id and held.captioner = $name "
        "and held.captioner_version = $version) order by c.clip_id",
        {"batch": batch, "name": captioner.name, "version": captioner.version, "transcriber": TRANSCRIBER_VERSION},
    )
    todo = [clip for clip in found if only is None or clip["clip_id"] in only]
    rows: list[dict[str, Any]] = []
    refused: list[Quarantined] = []
    for chunk in _chunks(progress(todo, "captions"), 8 * _CHUNK):
        for clip, result in zip(chunk, captioner.merge([_merge_input(clip) for clip in chunk]), strict=True):
            if isinstance(result, Refusal):
                refused.append(Quarantined(clip["clip_id"], result.reason, result.detail, clip["source_uri"]))
            else:
                row = {"text": result, "num_words": len(result.split())}
                rows.append(_keyed(batch, clip["clip_id"], captioner.name, captioner.version, row))
    return _result(lake, batch, "captions.captions", len(todo), rows, refused, only)


def _merge_input(row: dict[str, Any]) -> MergeInput:
    return MergeInput(
        clip_id=row["clip_id"],
        coarse=CoarseCaption(row["coarse_text"], tuple(row["labels"]), tuple(row["label_scores"])),
        fine=FineCaption(
            tuple(row["frame_seconds"]), tuple(row["frame_texts"]), row["motion_text"], row["motion_label"]
        ),
        transcript=row["transcript"],
        source_caption=row["caption"],
        title=row["title"],
    )


def _keyed(batch: str, clip_id: str, captioner: str, version: str, row: dict[str, Any]) -> dict[str, Any]:
    return {"batch": batch, "clip_id": clip_id, "captioner": captioner, "captioner_version": version, **row}


def _chunks(items: Iterable[Any], size: int) -> Iterable[list[Any]]:
    chunk: list[Any] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _result(
    lake: Lake,
    batch: str,
    table: str,
    num_in: int,
    rows: list[dict[str, Any]],
    refused: list[Quarantined],
    only: Only = None,
) -> StageResult:
    samples = [row["text"] for row in rows if row.get("text")][:8]
    return StageResult(
        changes=[
            Append(table, lake.to_arrow(table, rows), KEY),
            quarantine_change(lake, batch, table.partition(".")[2], refused, only),
        ],
        num_in=num_in,
        num_out=len(rows),
        drops=count_reasons(refused),
        metadata={"samples": samples} if samples else {},
    )
