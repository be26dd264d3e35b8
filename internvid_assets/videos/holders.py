"""Who holds a content or an id already: one video is held once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from internvid_assets.lake import Lake

Source = Mapping[str, Any]


class Holders:
    """The addresses that hold content hashes and video ids: of other batches as the lake knows them, of one as claimed."""

    def __init__(self, lake: Lake, batch: str):
        self._lake, self._batch = lake, batch
        self._held: dict[str, str] = {}

    def look_up(self, names: Iterable[str]) -> None:
        """Learn which other batches hold any of these hashes and ids."""
        given = self._lake.to_arrow("videos.raw_videos", [{"video_id": name} for name in sorted(set(names))])
        found = self._lake.joined(
            "select given.video_id as name, held.source_uri from videos.raw_videos as held join given "
            f"on held.video_id = given.video_id where held.batch <> '{self._batch}' union all "
            "select given.video_id, held.source_uri from videos.raw_videos as held join given "
            f"on held.content_sha256 = given.video_id where held.batch <> '{self._batch}' order by all",
            given.select(["video_id"]),
        )
        self._held |= {row["name"]: row["source_uri"] for row in found}

    def claim(self, name: str, uri: str) -> None:
        """Have the address hold a hash or an id, unless another does."""
        self._held.setdefault(name, uri)

    def of(self, name: str) -> str | None:
        """The address that holds a hash or an id, of those looked up and claimed."""
        return self._held.get(name)


def in_rounds(
    sources: Sequence[Source], holder_of: Callable[[str], str | None]
) -> Iterator[tuple[list[Source], list[tuple[Source, str]]]]:
    """Sources to try now, and those whose YouTube id another holds, with its address; until none is left.

    Of sources with one id, one is tried after the other until one is held: `holder_of` is asked anew for each round.
    """
    left = list(sources)
    while left:
        now: list[Source] = []
        later: list[Source] = []
        taken: list[tuple[Source, str]] = []
        seen: set[str] = set()
        for source in left:
            identity = source["youtube_id"]
            holder = holder_of(identity) if identity else None
            if holder is not None and holder != source["source_uri"]:
                taken.append((source, holder))
            elif identity in seen:
                later.append(source)
            else:
                now.append(source)
                seen |= {identity} if identity else set()
        yield now, taken
        left = later
