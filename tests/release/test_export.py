"""What a release holds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from internvid_assets.release.export import ReleaseFacts, timestamp, write_release

FACTS = ReleaseFacts(
    "internvid_10m",
    "Test",
    "cc0-1.0",
    12,
    "1",
    [{"captioner": "embedded", "captioner_version": "a", "num_pairs": 2}],
    [],
    3,
)


def pairs() -> pa.Table:
    rows = [
        {
            "clip_id": f"{video}_{start:08d}_{start + 1500:08d}", "video_id": video, "source_uri": f"/in/{video}.mp4",
            "start_seconds": start / 1000, "end_seconds": start / 1000 + 1.5, "duration_seconds": 1.5, "caption": f"«{video}» moves",
            "captioner": "embedded", "captioner_version": "a", "num_words": 2, "similarity": 0.25, "aesthetic": 4.5,
            "overlay_text": 0.0, "language": None, "license": license,
        }
        for video, start, license in (("b", 61_000, "cc-by-4.0"), ("a", 3_661_500, None))
    ]  # fmt: skip
    return pa.Table.from_pylist(rows)


@given(st.integers(0, 400_000_000))
def test_a_timestamp_is_exact_to_the_millisecond(milliseconds: int) -> None:
    text = timestamp(milliseconds / 1000)
    hours, minutes, seconds = text.split(":")
    assert len(minutes) == 2 and len(seconds) == 6 and int(minutes) < 60 and float(seconds) < 60
    assert int(hours) * 3_600_000 + int(minutes) * 60_000 + round(float(seconds) * 1000) == milliseconds


def test_rows_are_internvids(tmp_path: Path) -> None:
    write_release(tmp_path, pairs(), FACTS)
    rows = [json.loads(line) for line in (tmp_path / "data.jsonl").read_text().splitlines()]
    assert rows[0] == {
        "YoutubeID": "a", "Start_timestamp": "01:01:01.500", "End_timestamp": "01:01:03.000", "Caption": "«a» moves",
        "Aesthetic_Score": 4.5, "UMT_Score": 0.25,
    }  # fmt: skip
    assert pq.read_table(tmp_path / "data.parquet").num_rows == len(rows) == 2
    card = (tmp_path / "README.md").read_text()
    assert "cc-by-4.0: 1 pairs" in card and "unknown: 1 pairs" in card and "`embedded` version `a`" in card


def test_every_file_has_its_hash_and_the_same_pairs_give_the_same_bytes(tmp_path: Path) -> None:
    first = write_release(tmp_path / "a", pairs(), FACTS)
    second = write_release(tmp_path / "b", pairs().take([1, 0]), FACTS)
    assert first == second
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert {file["name"] for file in manifest["files"]} >= {"data.jsonl", "data.parquet", "croissant.json", "README.md"}
    for file in manifest["files"]:
        data = (tmp_path / "a" / file["name"]).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (file["sha256"], file["num_bytes"])


def test_croissant_describes_the_files(tmp_path: Path) -> None:
    write_release(tmp_path, pairs(), FACTS)
    croissant = json.loads((tmp_path / "croissant.json").read_text())
    assert croissant["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    files = {item["@id"]: item["sha256"] for item in croissant["distribution"]}
    for record_set in croissant["recordSet"]:
        assert all(field["source"]["fileObject"]["@id"] in files for field in record_set["field"])
    assert files["data.jsonl"] == hashlib.sha256((tmp_path / "data.jsonl").read_bytes()).hexdigest()
    columns = {field["name"] for field in croissant["recordSet"][1]["field"]}
    assert columns == set(pairs().column_names)


def test_an_empty_subset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="internvid_10m is empty"):
        write_release(tmp_path, pairs().slice(0, 0), FACTS)
