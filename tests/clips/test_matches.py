"""Copies made by ffmpeg are matched through the lake's own stages, batch by batch; benchmarks are found and kept out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from internvid_assets.cli import main
from internvid_assets.clips.benchmarks import read_benchmark
from internvid_assets.clips.cut import cut_batch
from internvid_assets.clips.leakage import find_leakage
from internvid_assets.clips.matches import match_batches
from internvid_assets.demo.footage import copy_footage
from internvid_assets.lake import Lake, Write
from internvid_assets.lake.models import discover
from internvid_assets.settings import ClipSettings, DuplicateSettings, GateSettings, Settings
from internvid_assets.store import open_store
from internvid_assets.subsets.build import build_model
from internvid_assets.videos.ingest import ingest_batch
from internvid_assets.videos.sources import discover as discover_sources
from internvid_assets.videos.sources import open_batches
from tests.media import REAL_VIDEOS, ffmpeg, moving_pictures, write_video

_EVEN = "scale=trunc(iw/2)*2:trunc(ih/2)*2"
COPIES = {
    "encoded": ["-vf", _EVEN, "-crf", "35"],
    "resized": ["-vf", "scale=trunc(iw/4)*2:trunc(ih/4)*2"],
    "letterboxed": ["-vf", f"{_EVEN},pad=iw:trunc(ih*1.3/2)*2:0:(oh-ih)/2"],
    "pillarboxed": ["-vf", f"{_EVEN},pad=trunc(iw*1.4/2)*2:ih:(ow-iw)/2:0"],
    "cropped": ["-vf", "crop=trunc(iw*0.45)*2:trunc(ih*0.45)*2"],
}


def quiet(items, *_, **__):
    return items


def take_in(lake: Lake, *folders: Path) -> None:
    """Ingest and cut one folder after the other, each as a batch, and match after each."""
    store = open_store(lake.settings)
    wide = lake.settings.model_copy(update={"gate": GateSettings(min_seconds=1, min_lines=16)})
    for folder in folders:
        for batch in open_batches(lake, discover_sources([folder]), 64):
            for stage in (
                lambda batch=batch: ingest_batch(lake, store, wide, batch, quiet),
                lambda batch=batch: cut_batch(lake, store, ClipSettings(num_frames=4), 2, batch, quiet),
            ):
                result = stage()
                lake.commit(result.write("test", "test", batch, 0, []), result.changes)
        match(lake)


def match(lake: Lake) -> dict:
    with match_batches(lake, DuplicateSettings()) as result:
        lake.commit(result.write("clips.matches", "test", None, 0, []), result.changes)
    return dict(result.metadata)


def alike(lake: Lake) -> dict[str, set[str]]:
    """File stem to those of the videos that it is a copy of, or that are copies of it."""
    for model in (model for model in discover() if model.name in ("stg_matches", "stg_clips")):
        lake.commit(Write(model.table, "test"), build_model(lake, model, lake.settings).changes)
    rows = lake.rows(
        "select a.source_uri as one, b.source_uri as other from staging.stg_matches as m "
        "join videos.raw_videos as a using (video_id) join videos.raw_videos as b on m.like_video_id = b.video_id "
        "where m.kind = 'clip' and m.video_is_inside"
    )
    found: dict[str, set[str]] = {}
    for one, other in [(Path(r["one"]).stem, Path(r["other"]).stem) for r in rows]:
        found.setdefault(one, set()).add(other)
        found.setdefault(other, set()).add(one)
    return found


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of different videos, real ones among them, and one of copies named `{original}-{kind}`."""
    originals, copies = tmp_path_factory.mktemp("originals"), tmp_path_factory.mktemp("copies")
    real = [path for path in copy_footage(originals) if "distorted" not in path.name]
    for path in set(originals.iterdir()) - set(real):
        path.unlink()
    for name in ("great_wall", "red_dress_vertical"):
        if (REAL_VIDEOS / f"{name}.mp4").exists():
            target = originals / f"{name}.mp4"
            target.write_bytes((REAL_VIDEOS / f"{name}.mp4").read_bytes())
            real.append(target)
    write_video(originals / "drawn.mp4", moving_pictures(60, (192, 128), 3) + moving_pictures(60, (192, 128), 4))
    for path in real:
        for kind, arguments in COPIES.items():
            ffmpeg("-t", "8", "-i", path, "-an", *arguments, "-preset", "veryfast", copies / f"{path.stem}-{kind}.mp4")
        ffmpeg("-ss", "0.83", "-t", "6", "-i", path, "-an", "-vf", _EVEN, copies / f"{path.stem}-trimmed.mp4")
    return originals, copies


def test_copies_of_real_footage_are_found_and_nothing_else(
    footage: tuple[Path, Path], embedded_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(embedded_settings)
    take_in(lake, *footage)
    found = alike(lake)
    copies = [path.stem for path in footage[1].iterdir()]
    right = [name for name in copies if name.partition("-")[0] in found.get(name, set())]
    wrong = {(a, b) for a, others in found.items() for b in others if a.partition("-")[0] != b.partition("-")[0]}
    assert len(copies) >= 18 and len(right) >= 0.95 * len(copies), set(copies) - set(right)
    assert not wrong
    again = match(lake)
    assert again["clips_looked_up_now"] == 0
    by_batch = lake.rows("select * from clips.matches order by all")
    lake.connection.execute("delete from clips.compared; delete from clips.matches")
    match(lake)
    assert lake.rows("select * from clips.matches order by all") == by_batch
    monkeypatch.setattr("internvid_assets.clips.lookup._ROWS_A_PART", 100)
    monkeypatch.setattr("internvid_assets.clips.lookup._PAIRS_A_PART", 5)
    lake.connection.execute("delete from clips.compared; delete from clips.matches")
    match(lake)
    assert lake.rows("select * from clips.matches order by all") == by_batch
    lake.close()


def test_shots_of_one_video_match_none_of_the_others_and_dull_ones_match_nothing(
    tmp_path: Path, embedded_settings: Settings
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        pictures = [p for seed in range(3) for p in moving_pictures(50, (192, 128), 10 * number + seed)]
        write_video(tmp_path / "in" / f"{number}.mp4", pictures)
        ffmpeg(
            "-f", "lavfi", "-i", f"color=c=0x{10 * number:02x}1010:s=192x128:d=3", tmp_path / "in" / f"flat{number}.mp4"
        )
    lake = Lake(embedded_settings)
    take_in(lake, tmp_path / "in")
    assert lake.value("select count(*) from clips.clips") >= 9
    assert lake.rows("select * from clips.matches") == []
    lake.close()


def test_a_benchmark_is_found_by_name_and_by_frames_and_kept_out(
    footage: tuple[Path, Path], embedded_settings: Settings, tmp_path: Path, capsys, monkeypatch
) -> None:
    originals, copies = footage
    lake = Lake(embedded_settings)
    take_in(lake, originals)
    bench = tmp_path / "bench"
    bench.mkdir()
    (bench / "held.mp4").write_bytes((copies / "footage_bikes-cropped.mp4").read_bytes())
    (bench / "broken.mp4").write_bytes(b"no video")
    found = find_leakage(lake, embedded_settings, read_benchmark("mine", bench), False, quiet)
    assert len(found.videos) == 1
    assert not found.by_name and {row["item"] for row in found.by_frames} == {"held.mp4"}
    assert [line.partition(":")[0] for line in found.unreadable] == ["broken.mp4"]
    assert lake.value("select count(*) from clips.benchmark_clips") == 0
    (tmp_path / "ids.txt").write_text("# names\nfootage_bigbuckbunny\n")
    lake.close()
    monkeypatch.setattr("internvid_assets.home._export", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        main(["leakage", "--benchmark", f"mine={bench}", "--benchmark", f"ids={tmp_path / 'ids.txt'}", "--exclude", "--json",
              "--write", str(tmp_path / "block.txt"), "--home", str(embedded_settings.home)])  # fmt: skip
    told = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0 and [len(each["videos"]) for each in told] == [1, 1]
    assert len((tmp_path / "block.txt").read_text().splitlines()) == 2
    lake = Lake(embedded_settings)
    assert match(lake)["clips_looked_up_now"] > 0
    alike(lake)
    dropped = lake.rows(
        "select distinct source_uri from staging.stg_clips where drop_reason = 'in_benchmark' order by 1"
    )
    assert [Path(row["source_uri"]).stem for row in dropped] == ["footage_bigbuckbunny", "footage_bikes"]
    late = tmp_path / "late"
    late.mkdir()
    (late / "anything.mp4").write_bytes((bench / "held.mp4").read_bytes())
    take_in(lake, late)
    assert lake.value("select reason from videos.quarantine where source_uri like '%anything.mp4'") == "in_benchmark"
    lake.close()


def test_a_look_up_that_used_the_disk_is_followed_by_another(tmp_path: Path, embedded_settings: Settings) -> None:
    (tmp_path / "in").mkdir()
    for number in range(2):
        write_video(tmp_path / "in" / f"{number}.mp4", moving_pictures(50, (192, 128)), crf=str(20 + 10 * number))
    lake = Lake(embedded_settings)
    take_in(lake, tmp_path / "in")
    scratch = embedded_settings.cache_folder / "scratch"
    run = lake.connection.execute
    run("set memory_limit = '64 MiB'")
    run("create temp table large as select i, hash(i) as h from range(8000000) as t(i)")
    assert list(scratch.glob("*/spilled/*"))
    run("drop table large")
    run("set memory_limit = '4 GiB'")
    lake.connection.execute("delete from clips.compared")
    assert match(lake)["clips_looked_up_now"] == 2 and lake.value("select count(*) from clips.matches") == 1
    lake.close()
    assert [path.name for path in scratch.iterdir()] == ["lock"]


@pytest.mark.parametrize("given", ["mine", "mine=/nowhere", "=/tmp"])
def test_a_wrong_benchmark_is_one_line(given: str, embedded_settings: Settings, capsys, monkeypatch) -> None:
    embedded_settings.home.mkdir()
    monkeypatch.setattr("internvid_assets.home._export", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        main(["leakage", "--benchmark", given, "--home", str(embedded_settings.home)])
    assert ended.value.code == 2 and len(capsys.readouterr().err.strip().splitlines()) == 1
