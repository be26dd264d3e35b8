"""Homes with clips whose frames are drawn, not decoded: as many as a test or a benchmark wants, in seconds."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from internvid_assets.clips.packs import FramePackWriter
from internvid_assets.clips.scan import SampledFrame
from internvid_assets.lake import Append, Lake, Write
from internvid_assets.store import ObjectStore


def clip_id(video: int, number: int) -> str:
    """The id of the clip of a drawn video that lasts the second `number`."""
    return f"video{video:05d}_{1000 * number:08d}_{1000 * (number + 1):08d}"


def make_home(
    lake: Lake, store: ObjectStore, num_videos: int, clips_per_video: int, batch: str = "b", second_frames: int = 2
) -> list[str]:
    """Fill a lake with videos of clips of one second each; the clip ids in order. Every frame is another picture."""
    videos, clips = [], []
    for video in range(num_videos):
        key, ids = f"packs/{batch}/{video:05d}.tar", [clip_id(video, number) for number in range(clips_per_video)]
        with tempfile.NamedTemporaryFile() as file:
            pack = FramePackWriter(file)  # type: ignore[arg-type]
            for number, identity in enumerate(ids):
                pack.add(identity, 1.0, _frames(video * clips_per_video + number, second_frames))
            pack.close()
            file.flush()
            store.put_file(key, Path(file.name))
        videos.append({"batch": batch, "video_id": f"video{video:05d}", "source_uri": f"/videos/{video}.mp4",
                       "title": f"Title {video}", "media_key": f"videos/{video}", "has_audio": False,
                       "has_subtitles": False, "width": 64, "height": 48})  # fmt: skip
        clips += [
            {"batch": batch, "clip_id": identity, "video_id": f"video{video:05d}", "clip_index": number,
             "start_seconds": float(number), "end_seconds": number + 1.0, "frame_pack_key": key}
            for number, identity in enumerate(ids)
        ]  # fmt: skip
        store.put_bytes(f"videos/{video}", b"no video: nothing here is decoded")
    put(lake, "videos.raw_videos", videos)
    put(lake, "clips.clips", clips)
    return [clip["clip_id"] for clip in clips]


def put(lake: Lake, table: str, rows: list[dict[str, Any]]) -> None:
    """Append rows to a table."""
    lake.commit(Write(table, "test"), [Append(table, lake.to_arrow(table, rows), tuple(rows[0]))])


def _frames(number: int, second_frames: int) -> list[SampledFrame]:
    """Two uniform frames and some a second, each the number written in pixels."""
    frames = []
    for index in range(2 + second_frames):
        code = np.array([(number * 8 + index) >> (8 * byte) & 255 for byte in range(3)], np.uint8)
        jpeg = cv2.imencode(".png", np.tile(code, (16, 16, 1)))[1].tobytes()
        role = "uniform" if index < 2 else "second"
        frames.append(SampledFrame(role, index, index, 0.4 * index, jpeg))
    return frames
