"""Homes, small videos and stage runs for tests of ingest."""

from __future__ import annotations

import random
import struct
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from internvid_assets.lake import Lake
from internvid_assets.lake.stage import StageResult
from internvid_assets.settings import FetchSettings, GateSettings, Settings
from internvid_assets.store import open_store
from internvid_assets.videos.ingest import ingest_parts
from internvid_assets.videos.sources import Source, open_batches
from tests.media import moving_pictures, write_video

IMPATIENT = FetchSettings(max_tries=2, idle_seconds=1.0, max_wait_seconds=2.0)


@cache
def video_bytes(seed: int = 0, frames: int = 60, padding: int = 0) -> bytes:
    """A small MP4 of its own content, with so many bytes of a box that means nothing."""
    with TemporaryDirectory() as folder:
        video = write_video(Path(folder) / "v.mp4", moving_pictures(frames, seed=seed)).read_bytes()
    box = struct.pack(">I4s", 8 + padding, b"free") + random.Random(seed).randbytes(padding) if padding else b""
    return video + box


def with_fetch(settings: Settings, **fetch: Any) -> Settings:
    """The settings with a gate for small videos and an impatient, or otherwise changed, fetching."""
    patient = IMPATIENT.model_copy(update=fetch)
    return settings.model_copy(update={"gate": GateSettings(min_lines=16, min_seconds=1), "fetch": patient})


def quiet(items, *_, **__):
    """A progress bar that shows nothing."""
    return items


def ingest(lake: Lake, settings: Settings, sources: list[Source]) -> dict[str, StageResult]:
    """Assign the sources and ingest every batch that holds them, as the asset does; the results by batch."""
    found = {}
    for batch in open_batches(lake, sources, settings.batch_size):
        for part in ingest_parts(lake, open_store(settings), settings, batch, quiet):
            lake.commit(part.write("videos.raw_videos", "test", batch, 0, []), part.changes)
            found[batch] = part
    return found


def states(lake: Lake) -> dict[str, tuple[str, str | None, int]]:
    """Last part of the address to (state, failure, attempts)."""
    rows = lake.rows("select source_uri, state, failure, num_attempts from videos.items")
    return {row["source_uri"].rpartition("/")[2]: (row["state"], row["failure"], row["num_attempts"]) for row in rows}


def accounted_for(lake: Lake) -> None:
    """Every source is there exactly once: held, quarantined, or waiting."""
    rows = lake.rows(
        "select source_uri from videos.raw_videos union all select item_id from videos.quarantine where stage = 'videos' "
        "union all select source_uri from videos.items where state in ('pending', 'retryable')"
    )
    sources = lake.rows("select source_uri from videos.sources")
    assert sorted(row["source_uri"] for row in rows) == sorted(row["source_uri"] for row in sources)
    items = lake.rows("select source_uri from videos.items")
    assert sorted(row["source_uri"] for row in items) == sorted(row["source_uri"] for row in sources)
    attempts = lake.rows("select source_uri, attempt, count(*) as n from videos.attempts group by all having n > 1")
    assert attempts == []
