"""What a source of a benchmark's video would go by, from the annotation files that people have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from internvid_assets.clips.benchmarks import read_benchmark, video_keys
from tests.training import test_benchmarks as written


@pytest.mark.parametrize(
    ("item", "keys"),
    [
        ("abseiling/-abcdefgh_k_000001_000011", {"-abcdefgh_k", "-abcdefgh_k_000001_000011"}),
        ("v_QOlSCBRmfWY.mp4", {"QOlSCBRmfWY", "v_QOlSCBRmfWY"}),
        ("-4wsuPCjDBc_5_15.avi", {"-4wsuPCjDBc", "-4wsuPCjDBc_5_15"}),
        ("YoYo/v_YoYo_g01_c01.avi", {"v_YoYo_g01_c01"}),
        (
            "0001_American_Beauty/0001_American_Beauty_00.00.51.926-00.00.54.129",
            {"0001_American_Beauty_00.00.51.926-00.00.54.129"},
        ),
        ("video7020.mp4", {"video7020"}),
        ("https://www.youtube.com/watch?v=QOlSCBRmfWY&t=3", {"QOlSCBRmfWY"}),
        ("https://youtu.be/QOlSCBRmfWY", {"QOlSCBRmfWY"}),
        ("74225", set()),
        ("a#1.avi", set()),
    ],
)
def test_keys_of_names(item: str, keys: set[str]) -> None:
    assert video_keys(item) == keys


@pytest.mark.parametrize(("name", "writer"), [(name, writer) for name, writer, _ in written.WRITERS])
def test_every_public_set_is_read_with_the_files_that_are_there(name: str, writer, tmp_path: Path) -> None:
    found = read_benchmark(name, writer(tmp_path))
    assert found.items and found.files and set(found.files) <= set(found.items)
    assert all(path.exists() for path in found.files.values())


def test_the_addresses_of_msrvtt_give_ids(tmp_path: Path) -> None:
    folder = written.msrvtt_json(tmp_path)
    videos = [{"video_id": "video1", "url": "https://www.youtube.com/watch?v=9lZi22qLlEo"}]
    (folder / "MSRVTT_data.json").write_text(json.dumps({"videos": videos, "sentences": []}))
    assert ("video1.mp4", "9lZi22qLlEo") in set(read_benchmark("msrvtt", folder).keys())


def test_a_file_of_ids_and_a_folder_of_videos(tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("# K400\nQOlSCBRmfWY\n\nQOlSCBRmfWY\nhttps://youtu.be/9lZi22qLlEo\n")
    listed = read_benchmark("x", tmp_path / "ids")
    assert dict(listed.keys()) == {"QOlSCBRmfWY": "QOlSCBRmfWY", "https://youtu.be/9lZi22qLlEo": "9lZi22qLlEo"}
    assert not listed.files
    (tmp_path / "videos" / "deep").mkdir(parents=True)
    (tmp_path / "videos" / "deep" / "a.webm").touch()
    assert read_benchmark("x", tmp_path / "videos").items == ("deep/a.webm",)
    (tmp_path / "empty").mkdir()
    for wrong, told in ((tmp_path / "empty", "names no videos"), (tmp_path / "gone", "does not exist")):
        with pytest.raises(ValueError, match=told):
            read_benchmark("x", wrong)
    with pytest.raises(ValueError, match="benchmark k400: "):
        read_benchmark("k400", tmp_path / "empty")
