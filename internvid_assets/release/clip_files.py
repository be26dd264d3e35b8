"""The clips of a subset as video files with their captions, cut from the stored videos."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from internvid_assets.clips.decode import DecodeError
from internvid_assets.clips.export import Cut, ExportOptions, cut_clips
from internvid_assets.lake import Lake
from internvid_assets.release.export import internvid_row
from internvid_assets.store import ObjectStore

_PAIRS = """
select subset.*, clips.start_frame, clips.end_frame, clips.start_pts, clips.end_pts, videos.media_key
from subsets.{subset} as subset
join clips.clips as clips on subset.clip_id = clips.clip_id
join videos.raw_videos as videos on clips.video_id = videos.video_id and clips.batch = videos.batch
order by subset.video_id, clips.start_frame
"""
INDEX = "clips.jsonl"


def write_clip_files(
    lake: Lake,
    store: ObjectStore,
    subset: str,
    folder: Path,
    options: ExportOptions,
    workers: int,
    progress: Callable[..., Any],
) -> tuple[int, list[str]]:
    """Write `folder/CLIP_ID.mp4` for every clip of a subset, and `clips.jsonl` with a line for each.

    Clips whose file is there already are not cut again, so a broken export goes on. Each video is decoded once.

    Returns: how many clips the index names, and a sentence for every video that could not be cut.

    Raises: ValueError when the subset has not been made.
    """
    if not lake.has_table(f"subsets.{subset}"):
        raise ValueError(f"subset {subset!r} does not exist: make it with `internvid run`, or name another")
    pairs = lake.rows(_PAIRS.format(subset=subset))
    folder.mkdir(parents=True, exist_ok=True)
    todo = [pair for pair in pairs if not (folder / f"{pair['clip_id']}.mp4").exists()]
    by_video = [(key, [_cut(pair) for pair in group]) for key, group in groupby(todo, lambda pair: pair["media_key"])]
    problems = []
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        jobs = [(key, pool.submit(_cut_video, store, key, cuts, folder, options)) for key, cuts in by_video]
        for key, job in progress(jobs, "clip files"):
            if problem := job.result():
                problems.append(f"{key}: {problem}")
    written = [pair for pair in pairs if (folder / f"{pair['clip_id']}.mp4").exists()]
    lines = (json.dumps({"file": f"{pair['clip_id']}.mp4", **internvid_row(pair)}) for pair in written)
    (folder / INDEX).write_text("".join(f"{line}\n" for line in lines))
    return len(written), problems


def _cut(pair: dict[str, Any]) -> Cut:
    return Cut(pair["clip_id"], pair["start_frame"], pair["end_frame"], pair["start_pts"], pair["end_pts"])


def _cut_video(store: ObjectStore, key: str, cuts: list[Cut], folder: Path, options: ExportOptions) -> str:
    """Cut one video; why it could not be cut, or nothing."""
    try:
        cut_clips(store.local_path(key), cuts, folder, options)
    except (DecodeError, ValueError, FileNotFoundError) as error:
        return str(error)
    return ""
