"""A subset as files for others: InternVid-compatible JSONL, Parquet, card, Croissant, checksums."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.parquet as pq

from internvid_assets.store.objects import file_sha256

FORMAT = "internvid-release/1"
DATA_JSONL, DATA_PARQUET = "data.jsonl", "data.parquet"


@dataclass(frozen=True)
class ReleaseFacts:
    """What a release says of itself."""

    subset: str
    title: str
    license: str
    snapshot_id: int
    code_version: str
    captioners: Sequence[Mapping[str, Any]]
    scorers: Sequence[Mapping[str, Any]]
    num_refused: int


def timestamp(seconds: float) -> str:
    """HH:MM:SS.mmm, as in InternVid's files. Worked example: 3661.5 gives 01:01:01.500."""
    if seconds < 0:
        raise ValueError(f"seconds = {seconds} must not be negative")
    total = round(seconds * 1000)
    hours, rest = divmod(total, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}.{rest % 1000:03d}"


def internvid_row(pair: Mapping[str, Any]) -> dict[str, Any]:
    """One line of InternVid's JSONL: `YoutubeID` holds the video id whatever its origin."""
    return {
        "YoutubeID": pair["video_id"],
        "Start_timestamp": timestamp(pair["start_seconds"]),
        "End_timestamp": timestamp(pair["end_seconds"]),
        "Caption": pair["caption"],
        "Aesthetic_Score": pair["aesthetic"],
        "UMT_Score": pair["similarity"],
    }


def write_release(folder: Path, pairs: pa.Table, facts: ReleaseFacts) -> str:
    """Write every file of a release; the same pairs and facts give the same bytes.

    Args:
        pairs: a subset's rows, in any order.

    Returns: the SHA-256 of `manifest.json`, which holds the hash of every other file.

    Raises: ValueError when there are no pairs.
    """
    if pairs.num_rows == 0:
        raise ValueError(f"subset {facts.subset} is empty: nothing to release")
    folder.mkdir(parents=True, exist_ok=True)
    pairs = pairs.sort_by([("video_id", "ascending"), ("start_seconds", "ascending"), ("clip_id", "ascending")])
    with (folder / DATA_JSONL).open("w") as file:
        for batch in pairs.to_batches(10_000):
            file.writelines(json.dumps(internvid_row(row), ensure_ascii=False) + "\n" for row in batch.to_pylist())
    pq.write_table(pairs, folder / DATA_PARQUET, compression="zstd")
    figures = _figures(pairs)
    _write_availability(folder / "availability.json", pairs)
    (folder / "README.md").write_text(_card(facts, figures))
    data_files = {name: file_sha256(folder / name) for name in (DATA_JSONL, DATA_PARQUET)}
    (folder / "croissant.json").write_text(json.dumps(croissant(facts, pairs.schema, data_files), indent=1) + "\n")
    names = sorted(path.name for path in folder.iterdir() if path.name not in ("manifest.json", "SHA256SUMS"))
    sums = {name: file_sha256(folder / name) for name in names}
    (folder / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))
    manifest = {
        "format": FORMAT,
        "title": facts.title,
        "subset": facts.subset,
        "snapshot_id": facts.snapshot_id,
        "license": facts.license,
        "code_version": facts.code_version,
        "captioners": list(facts.captioners),
        "scorers": list(facts.scorers),
        "figures": figures,
        "files": [{"name": n, "sha256": d, "num_bytes": (folder / n).stat().st_size} for n, d in sums.items()],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return file_sha256(folder / "manifest.json")


def croissant(facts: ReleaseFacts, schema: pa.Schema, data_files: Mapping[str, str]) -> dict[str, Any]:
    """Croissant 1.0 metadata (https://docs.mlcommons.org/croissant/docs/croissant-spec.html): files and fields."""
    jsonl = {"YoutubeID": "sc:Text", "Start_timestamp": "sc:Text", "End_timestamp": "sc:Text", "Caption": "sc:Text",
             "Aesthetic_Score": "sc:Float", "UMT_Score": "sc:Float"}  # fmt: skip
    parquet = {field.name: _croissant_type(field.type) for field in schema}
    formats = {DATA_JSONL: "application/jsonlines", DATA_PARQUET: "application/x-parquet"}
    return {
        "@context": {
            "@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/",
            "cr": "http://mlcommons.org/croissant/", "dct": "http://purl.org/dc/terms/", "conformsTo": "dct:conformsTo",
            "recordSet": "cr:recordSet", "field": "cr:field", "source": "cr:source", "extract": "cr:extract",
            "column": "cr:column", "fileObject": "cr:fileObject", "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        },
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": facts.title,
        "description": f"Clip-caption pairs of {facts.subset} at snapshot {facts.snapshot_id}: ids, timestamps, captions "
        "and scores; no video bytes.",
        "license": facts.license,
        "version": f"1.0.{facts.snapshot_id}",
        "distribution": [
            {"@type": "cr:FileObject", "@id": name, "name": name, "contentUrl": name, "encodingFormat": formats[name],
             "sha256": digest}
            for name, digest in data_files.items()
        ],
        "recordSet": [
            _record_set("pairs_internvid", DATA_JSONL, jsonl), _record_set("pairs", DATA_PARQUET, parquet),
        ],
    }  # fmt: skip


def _record_set(name: str, file: str, fields: Mapping[str, str]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "field": [
            {"@type": "cr:Field", "@id": f"{name}/{field}", "name": field, "dataType": kind,
             "source": {"fileObject": {"@id": file}, "extract": {"column": field}}}
            for field, kind in fields.items()
        ],
    }  # fmt: skip


def _croissant_type(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(kind) else "sc:Text"


def _figures(pairs: pa.Table) -> dict[str, Any]:
    """The figures of the card: counts, hours, words, licences."""
    rows = pairs.select(["video_id", "duration_seconds", "num_words", "license", "language"]).to_pylist()
    seconds = sum(row["duration_seconds"] for row in rows)
    return {
        "num_pairs": len(rows),
        "num_videos": len({row["video_id"] for row in rows}),
        "total_seconds": round(seconds, 3),
        "mean_clip_seconds": round(seconds / len(rows), 3),
        "mean_caption_words": round(sum(row["num_words"] for row in rows) / len(rows), 3),
        "licenses": _counts(row["license"] for row in rows),
        "languages": _counts(row["language"] for row in rows),
    }


def _counts(values: Iterable[str | None]) -> dict[str, int]:
    return dict(sorted(Counter(value or "unknown" for value in values).items()))


def _write_availability(path: Path, pairs: pa.Table) -> None:
    """Per video: where it came from, its licence, and that its bytes were held at release time."""
    videos = {row["video_id"]: row for row in pairs.select(["video_id", "source_uri", "license"]).to_pylist()}
    rows = [{**videos[name], "held_at_release": True} for name in sorted(videos)]
    path.write_text(json.dumps({"num_videos": len(rows), "videos": rows}, indent=1) + "\n")


def _card(facts: ReleaseFacts, figures: Mapping[str, Any]) -> str:
    template = files("internvid_assets.release").joinpath("card.md").read_text()
    return jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True).from_string(template).render(
        facts=facts, figures=figures
    )  # fmt: skip
