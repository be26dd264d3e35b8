"""Lists of sources: CSV, TSV, JSON lines, Parquet, plain lists of addresses, and InternVid's own files; read as streams."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from internvid_assets.videos.addresses import canonical, is_remote, youtube_address, youtube_id
from internvid_assets.videos.internvid_rows import internvid_sources
from internvid_assets.videos.sections import in_order, parse_sections
from internvid_assets.videos.source import Source, SourceError, described

ADDRESS_COLUMNS = ("uri", "url", "youtube_id")
OTHER_COLUMNS = (
    "title", "description", "tags", "query", "language", "license", "licence", "caption", "sections", "subtitles",
    "num_bytes", "size", "sha256", "md5",
)  # fmt: skip
MANIFEST_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".txt"})
_ROWS_AT_ONCE = 4096
_MAX_CELL = 1 << 24
Row = tuple[int, Mapping[str, Any]]
"""Number of the row, from 1, and its cells."""


def manifest_sources(path: Path, base: str | Path) -> Iterator[Source]:
    """The sources of a manifest, one after the other, in its order.

    Args:
        base: folder or address that relative addresses are relative to.

    Raises: SourceError naming file, row and remedy.
    """
    try:
        if path.suffix.lower() == ".txt":
            yield from _listed(path, base)
            return
        columns = _columns(path)
        if "YoutubeID" in columns:
            yield from internvid_sources(path, columns)
            return
        if not set(columns) & set(ADDRESS_COLUMNS):
            raise SourceError(
                f"manifest {path} has no column uri, url or youtube_id (it has {', '.join(columns) or 'none'}): "
                "name the column of addresses uri"
            )
        for number, row in _rows(path):
            yield _checked(path, number, row, base)
    except UnicodeDecodeError as error:
        raise SourceError(
            f"manifest {path} is not UTF-8 text ({error.reason} at byte {error.start}): convert it"
        ) from error


def _listed(path: Path, base: str | Path) -> Iterator[Source]:
    """A line an address; empty lines and those that begin with # are comments."""
    is_empty = True
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip() and not line.lstrip().startswith("#"):
                is_empty = False
                yield _checked(path, number, {"uri": line.strip()}, base)
    if is_empty:
        raise SourceError(f"list {path} holds no addresses: give one a line")


def _checked(path: Path, number: int, row: Mapping[str, Any], base: str | Path) -> Source:
    try:
        return _source(row, base)
    except ValueError as error:
        raise SourceError(f"manifest {path}, row {number}: {error}; mend or remove the row") from error


def _source(row: Mapping[str, Any], base: str | Path) -> Source:
    """Raises: ValueError saying what is wrong with the row."""
    address, identity = row.get("uri") or row.get("url"), row.get("youtube_id") or None
    if not address and not identity:
        raise ValueError("there is no uri, url or youtube_id")
    uri = canonical(_joined(str(address), base)) if address else youtube_address(str(identity))
    sections = in_order(parse_sections(row.get("sections")))
    return Source(
        source_uri=uri,
        youtube_id=str(identity) if identity else youtube_id(uri),
        **described(dict(row)),
        section_starts=tuple(start for (start, _), _ in sections) or None,
        section_ends=tuple(end for (_, end), _ in sections) or None,
        subtitles=tuple(canonical(_joined(text, base)) for text in _addresses(row.get("subtitles"))),
        expected_bytes=_num_bytes(row),
        expected_sha256=_hash(row, "sha256", 64),
        expected_md5=_hash(row, "md5", 32),
    )


def _joined(address: str, base: str | Path) -> str:
    """A relative address beside the manifest."""
    if is_remote(address) or re.match(r"[a-z][a-z0-9]+:", address):
        return address
    if isinstance(base, str):
        return urljoin(base, address) if base.startswith("http") else f"{base.rpartition('/')[0]}/{address}"
    return str(base / address)


def _addresses(value: Any) -> list[str]:
    if value is None or value == "":
        return []
    return [str(part) for part in value] if isinstance(value, list) else [str(value)]


def _num_bytes(row: Mapping[str, Any]) -> int | None:
    value = row.get("num_bytes") if row.get("num_bytes") not in (None, "") else row.get("size")
    if value in (None, ""):
        return None
    if not re.fullmatch(r"\d+(\.0)?", str(value)):
        raise ValueError(f"num_bytes {value!r} must be a whole number")
    return int(float(value))


def _hash(row: Mapping[str, Any], name: str, digits: int) -> str | None:
    value = row.get(name)
    if value in (None, ""):
        return None
    if not re.fullmatch(rf"[0-9a-fA-F]{{{digits}}}", str(value).strip()):
        raise ValueError(f"{name} {value!r} must have {digits} hex digits")
    return str(value).strip().lower()


def _columns(path: Path) -> list[str]:
    """The columns of a manifest; of JSON lines those of the first line."""
    if path.suffix.lower() == ".parquet":
        return list(_parquet(path).schema_arrow.names)
    if path.suffix.lower() in (".csv", ".tsv"):
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = next(csv.reader(file, delimiter=_delimiter(path)), [])
        return [name.strip() for name in header]
    first = next(_json_rows(path), None)
    if first is None:
        raise SourceError(f"manifest {path} is empty: give one JSON object a line")
    return list(first[1])


def _rows(path: Path) -> Iterator[Row]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet_rows(path)
    return _csv_rows(path) if suffix in (".csv", ".tsv") else _json_rows(path)


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _csv_rows(path: Path) -> Iterator[Row]:
    csv.field_size_limit(_MAX_CELL)
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter=_delimiter(path), strict=True)
        number = 0
        try:
            names = [name.strip() for name in next(reader, [])]
            for number, cells in enumerate(reader, 1):
                if not cells:
                    continue
                if len(cells) != len(names):
                    raise SourceError(
                        f"manifest {path}, row {number}: {len(cells)} cells for {len(names)} columns; "
                        "put cells that hold the delimiter in quotes"
                    )
                yield number, dict(zip(names, cells, strict=True))
        except csv.Error as error:
            raise SourceError(f"manifest {path}, row {number + 1}: {error}; mend its quotes") from error


def _json_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise SourceError(
                    f"manifest {path}, row {number}: not JSON ({error}); mend or remove the row"
                ) from error
            if not isinstance(row, dict):
                raise SourceError(f"manifest {path}, row {number}: not a JSON object; mend or remove the row")
            yield number, row


def _parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise SourceError(f"manifest {path} is not Parquet: {str(error).splitlines()[0]}") from error


def _parquet_rows(path: Path) -> Iterator[Row]:
    file = _parquet(path)
    wanted = [name for name in file.schema_arrow.names if name in (*ADDRESS_COLUMNS, *OTHER_COLUMNS)]
    yield from enumerate(_pylist(file.iter_batches(_ROWS_AT_ONCE, columns=wanted)), 1)


def _pylist(batches: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        yield from batch.to_pylist()
