"""Does the lake hold videos of a public benchmark? By id, name and content hash, and by the frames of their files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from internvid_assets.clips.benchmarks import BenchmarkVideos
from internvid_assets.clips.cut import scan_options
from internvid_assets.clips.matches import match_benchmark
from internvid_assets.clips.workers import HASH_COLUMNS, ScanLimits, scan_videos
from internvid_assets.lake import Lake, Replace, Write
from internvid_assets.settings import Settings
from internvid_assets.store import file_sha256


@dataclass(frozen=True)
class Leakage:
    """What of a benchmark is in the lake."""

    benchmark: str
    num_items: int
    num_files: int
    unreadable: tuple[str, ...]
    """Items whose file could not be scanned, with the reason."""
    by_name: tuple[dict[str, Any], ...]
    """video_id, source_uri, item and the key that agrees."""
    by_frames: tuple[dict[str, Any], ...]
    """clip_id, video_id, item, num_frames, num_hashed, like_num_hashed, distance_bits, offset_seconds."""

    @property
    def videos(self) -> list[str]:
        """Ids of the lake's videos that are in the benchmark."""
        return sorted({row["video_id"] for row in (*self.by_name, *self.by_frames)})

    def lines(self, examples: int = 20) -> list[str]:
        """For people."""
        read = f"{self.num_items} videos, {self.num_files} of them as files"
        lines = [f"{self.benchmark}: {read}, {len(self.unreadable)} unreadable"]
        lines += [f"  {len(self.videos)} videos of the lake are in it: {len(self.by_name)} by name, "
                  f"{len({row['video_id'] for row in self.by_frames})} by frames ({len(self.by_frames)} clips)"]  # fmt: skip
        lines += [
            f"  {row['video_id']} {row['source_uri']} is {row['item']} by {row['key']}"
            for row in self.by_name[:examples]
        ]
        lines += [
            f"  {row['clip_id']} shows {row['item']}: {row['num_frames']} of {min(row['num_hashed'], row['like_num_hashed'])} "
            f"frames, {row['distance_bits']:.0f} of 256 bits"
            for row in self.by_frames[:examples]
        ]
        left = max(0, len(self.by_name) - examples) + max(0, len(self.by_frames) - examples)
        return [*lines, *([f"  and {left} more: --json lists all"] if left else [])]

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self) | {"videos": self.videos}


def find_leakage(
    lake: Lake, settings: Settings, benchmark: BenchmarkVideos, exclude: bool, progress: Callable[..., Any]
) -> Leakage:
    """Compare the lake with a benchmark.

    Args:
        exclude: also keep the benchmark's names and frames in the lake: the gate refuses its videos from then on, and
            `stg_clips` drops what is there as `in_benchmark` at the next refresh. An earlier state is replaced.
    """
    clips, hashes, unreadable = _scanned(lake, settings, benchmark, progress)
    keys = [*benchmark.keys(), *hashes.items()]
    by_name = lake.joined(_BY_NAME, _items(lake, benchmark.name, keys))
    keys += [(row["item"], row["video_id"]) for row in by_name]
    matched = match_benchmark(lake, settings.duplicates, clips) if clips.num_rows else []
    by_frames = [{**row, "item": row.pop("reference_item")} for row in matched if _shows_the_same(row)]
    if exclude:
        where = "benchmark = '" + benchmark.name.replace("'", "''") + "'"
        items = _items(lake, benchmark.name, sorted(set(keys)))
        changes = [Replace("videos.benchmark_items", items, where), Replace("clips.benchmark_clips", clips, where)]
        lake.commit(Write("videos.benchmark_items", f"leakage {benchmark.name}", num_in=len(keys)), changes)
    shown = (
        "clip_id",
        "video_id",
        "item",
        "num_frames",
        "num_hashed",
        "like_num_hashed",
        "distance_bits",
        "offset_seconds",
    )
    return Leakage(
        benchmark.name, len(benchmark.items), len(benchmark.files), tuple(unreadable), tuple(by_name),
        tuple({name: row[name] for name in shown} for row in by_frames),
    )  # fmt: skip


def _items(lake: Lake, benchmark: str, keys: Sequence[tuple[str, str]]) -> pa.Table:
    """Rows of `videos.benchmark_items`."""
    rows = [{"benchmark": benchmark, "item": item, "video_key": key} for item, key in keys]
    return lake.to_arrow("videos.benchmark_items", rows)


_BY_NAME = """
select videos.video_id, videos.source_uri, given.item, given.video_key as key
from videos.raw_videos as videos
inner join given on given.video_key in (videos.video_id, videos.content_sha256)
    or given.video_key = regexp_extract(videos.source_uri, '([^/]*?)(\\.[A-Za-z0-9]+)?$', 1)
qualify row_number() over (partition by videos.video_id order by given.item, given.video_key) = 1
order by videos.video_id
"""


def _shows_the_same(match: dict[str, Any]) -> bool:
    """The rule of `stg_matches` for one pair of clips: enough of the shorter one agrees."""
    shorter = min(match["num_hashed"], match["like_num_hashed"])
    if shorter == 1:
        return match["distance_bits"] <= 40
    return match["num_frames"] >= max(2, 0.5 * shorter)


def _scanned(
    lake: Lake, settings: Settings, benchmark: BenchmarkVideos, progress: Callable[..., Any]
) -> tuple[pa.Table, dict[str, str], list[str]]:
    """Rows of `clips.benchmark_clips` of all files, those scanned before included; item to content hash; what failed."""
    hashes = {item: file_sha256(path) for item, path in benchmark.files.items()}
    kept = lake.rows("select * from clips.benchmark_clips where benchmark = ?", [benchmark.name])
    rows = [row for row in kept if hashes.get(row["item"]) == row["content_sha256"]]
    done = {row["item"] for row in rows}
    todo = [(str(number), item) for number, item in enumerate(benchmark.files) if item not in done]
    unreadable = []
    limits = ScanLimits(settings.clips.seconds_limit, settings.clips.memory_limit_mib, settings.clips.output_limit_mib)
    with tempfile.TemporaryDirectory() as folder:
        pairs: Sequence[tuple[str, Path]] = [(number, benchmark.files[item]) for number, item in todo]
        names = dict(todo)
        outcomes = scan_videos(pairs, scan_options(settings.clips), limits, settings.workers, Path(folder))
        for scanned in progress(outcomes, benchmark.name, total=len(pairs)):
            item = names[scanned.video_id]
            if scanned.reason is not None:
                unreadable.append(f"{item}: {scanned.reason}, {scanned.detail}")
            if scanned.pack is not None:
                scanned.pack.unlink()
            about = {"benchmark": benchmark.name, "item": item, "content_sha256": hashes[item]}
            rows += [about | {name: clip[name] for name in ("start_seconds", *HASH_COLUMNS)} for clip in scanned.clips]
    rows.sort(key=lambda row: (row["item"], row["start_seconds"]))
    return lake.to_arrow("clips.benchmark_clips", rows), hashes, sorted(unreadable)
