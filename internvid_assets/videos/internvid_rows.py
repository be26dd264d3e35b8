"""InternVid's own files: a row a clip (`YoutubeID, Start_timestamp, End_timestamp, Caption, …`), a source a video."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from internvid_assets.videos.addresses import youtube_address
from internvid_assets.videos.sections import in_order, parse_sections
from internvid_assets.videos.source import Source, SourceError

_ROWS_AT_ONCE = 4096
_READERS = {
    ".parquet": "read_parquet(?)",
    ".csv": "read_csv(?, all_varchar = true)",
    ".tsv": "read_csv(?, delim = '\t', all_varchar = true)",
}
_WANTED = ("YoutubeID", "Start_timestamp", "End_timestamp", "Caption")


def internvid_sources(path: Path, columns: list[str]) -> Iterator[Source]:
    """One source a video, by id, its clips as sections with their captions.

    The rows of a video may lie anywhere in the file: DuckDB sorts them, on disk where they do not fit into memory.

    Raises: SourceError naming file, row and remedy.
    """
    missing = [name for name in _WANTED[:3] if name not in columns]
    if missing:
        raise SourceError(f"manifest {path} has YoutubeID but lacks {', '.join(missing)}: give InternVid's own columns")
    for video, rows in groupby(_sorted_rows(path, "Caption" in columns), lambda row: row["YoutubeID"]):
        yield _source(path, video, list(rows))


def _source(path: Path, video: str | None, rows: list[dict[str, Any]]) -> Source:
    number = rows[0]["number"]
    try:
        sections = []
        for row in rows:
            number = row["number"]
            sections += parse_sections([[row["Start_timestamp"], row["End_timestamp"]]])
        found = in_order(sections, [row.get("Caption") for row in rows])
        return Source(
            source_uri=youtube_address(video or ""),
            youtube_id=video,
            section_starts=tuple(start for (start, _), _ in found),
            section_ends=tuple(end for (_, end), _ in found),
            section_captions=tuple(caption for _, caption in found),
        )
    except ValueError as error:
        raise SourceError(f"manifest {path}, row {number}: {error}; mend or remove the row") from error


def _sorted_rows(path: Path, has_captions: bool) -> Iterator[dict[str, Any]]:
    import duckdb

    kinds = ", ".join(f"{name}: 'VARCHAR'" for name in _WANTED if has_captions or name != "Caption")
    reader = _READERS.get(path.suffix.lower(), f"read_json(?, format = 'newline_delimited', columns = {{{kinds}}})")
    names = ", ".join(name for name in _WANTED if has_captions or name != "Caption")
    with tempfile.TemporaryDirectory(prefix="internvid-sort-") as spill, duckdb.connect() as db:
        db.execute("set enable_progress_bar = false")
        db.execute(f"set temp_directory = '{spill}'")
        try:
            found = db.execute(
                f"select {names}, row_number() over () as number from {reader} order by YoutubeID, number", [str(path)]
            )
            for batch in found.to_arrow_reader(_ROWS_AT_ONCE):
                yield from batch.to_pylist()
        except duckdb.Error as error:
            raise SourceError(f"manifest {path} cannot be read: {str(error).splitlines()[0]}; mend it") from error
