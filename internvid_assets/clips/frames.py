"""Reading the small frames back from the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from internvid_assets.clips.contact_sheet import contact_sheet
from internvid_assets.clips.packs import ClipFrames, read_frame_pack
from internvid_assets.lake import Lake
from internvid_assets.store import ObjectStore


class FrameSource:
    """The frames of clips, found through the lake and read from their packs, one pack in memory at a time."""

    def __init__(self, lake: Lake, store: ObjectStore):
        self._lake = lake
        self._store = store

    def of_clips(self, clip_ids: Sequence[str]) -> Iterator[ClipFrames]:
        """The frames of the given clips, grouped by pack, in the packs' order."""
        import pyarrow as pa

        wanted = set(clip_ids)
        table = pa.table({"clip_id": sorted(wanted)})
        keys = self._lake.joined(
            "select distinct frame_pack_key from clips.clips semi join given using (clip_id) order by 1", table
        )
        for row in keys:
            for frames in read_frame_pack(self._store.local_path(row["frame_pack_key"])):
                if frames.clip_id in wanted:
                    yield frames

    def sheet(self, batch: str, limit: int = 24) -> bytes | None:
        """A contact sheet of the middle frames of a batch's first clips of each video; None for a batch without clips."""
        rows = self._lake.rows(
            "select clip_id from clips.clips where batch = ? order by clip_index, video_id limit ?", [batch, limit]
        )
        frames = list(self.of_clips([row["clip_id"] for row in rows]))
        return contact_sheet([f.middle.jpeg for f in frames], [f.clip_id[-17:] for f in frames]) if frames else None
