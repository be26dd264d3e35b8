"""The main job from the shell, on rendered videos with known truth and on bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from internvid_assets.demo.__main__ import near_duplicates
from internvid_assets.demo.accuracy import compare
from internvid_assets.demo.render import render_corpus
from internvid_assets.lake import Lake
from internvid_assets.settings import Settings

COUNTS = """
select (select count(*) from videos.raw_videos) as videos, (select count(*) from clips.clips) as clips,
    (select count(distinct clip_id) from clips.clips) as distinct_clips,
    (select count(*) from captions.captions) as captions, (select count(*) from scores.clip_scores) as scores,
    (select count(*) from videos.quarantine) as quarantine
"""


def internvid(*arguments: str | Path, **more) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", "from internvid_assets.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, **more)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    render_corpus(folder, seed=3, scale=0.06)
    return folder


@pytest.fixture(scope="module")
def done(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the corpus was run once, in two batches at a time."""
    home = tmp_path_factory.mktemp("run") / "home"
    result = internvid("run", corpus / "videos", "--home", home, "--batch-size", "6")
    assert result.returncode == 0, result.stderr
    assert "clips.clips" in result.stdout
    return home


def test_what_was_found_agrees_with_the_truth(corpus: Path, done: Path) -> None:
    lake = Lake(Settings(home=done))
    truth = json.loads((corpus / "truth.json").read_text())["videos"]
    clips = lake.rows("select c.*, v.source_uri from clips.clips as c join videos.raw_videos as v using (video_id)")
    labels = {
        r["clip_id"]: r["motion_label"] for r in lake.rows("select clip_id, motion_label from captions.fine_captions")
    }
    texts = {r["clip_id"]: r["text"] for r in lake.rows("select clip_id, text from captions.captions")}
    measures = {
        m.name: m
        for m in compare(
            truth, clips, lake.rows("select * from videos.quarantine"), labels, texts, near_duplicates(lake)
        )
    }
    assert measures["cuts F1"].value >= 0.95
    assert measures["bad files refused for their reason"].value == 1.0
    assert measures["motion class"].value >= 0.8 and measures["motion class"].num_items >= 30
    assert measures["subject named"].value >= 0.8
    assert measures["near duplicates F1"].value == 1.0


def test_repeating_changes_nothing(corpus: Path, done: Path) -> None:
    before = Lake(Settings(home=done)).rows(COUNTS)
    assert internvid("run", corpus / "videos", "--home", done, "--batch-size", "6").returncode == 0
    lake = Lake(Settings(home=done))
    assert lake.rows(COUNTS) == before
    newest = lake.rows(
        "select asset, partition_key, changed from lineage.materializations where partition_key is not null "
        "qualify row_number() over (partition by asset, partition_key order by written_at desc) = 1"
    )
    assert [row for row in newest if row["changed"]] == []


def test_a_clip_is_traced_to_its_source(done: Path) -> None:
    clip = Lake(Settings(home=done)).value("select clip_id from clips.clips order by clip_id limit 1")
    result = internvid("lineage", clip, "--home", done)
    assert result.returncode == 0
    assert "rendered_" in result.stdout and "sha256" in result.stdout and "caption by embedded" in result.stdout
    unknown = internvid("lineage", "no_such_thing", "--home", done)
    assert unknown.returncode == 2 and "no_such_thing" in unknown.stderr


def test_killed_and_repeated_loses_and_doubles_nothing(corpus: Path, done: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    command = [sys.executable, "-c", "from internvid_assets.cli import main; main()", "run", str(corpus / "videos")]
    process = subprocess.Popen([*command, "--home", str(home), "--batch-size", "6"], start_new_session=True)
    lake = Lake(Settings(home=home))
    while not lake.rows("select 1 from lineage.materializations where asset = 'clips.clips'"):
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    lake.close()
    result = internvid("run", corpus / "videos", "--home", home, "--batch-size", "6")
    assert result.returncode == 0, result.stderr
    assert Lake(Settings(home=home)).rows(COUNTS) == Lake(Settings(home=done)).rows(COUNTS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "missing-folder"], "missing-folder does not exist"),
        (["run", ".", "--captioner", "nobody"], "captioner 'nobody' does not exist"),
        (["run", ".", "--until", "nothing"], "asset 'nothing' does not exist"),
        (["run", ".", "--batch-size", "0"], "batch_size = 0"),
        (["run"], "Missing parameter: sources"),
        (["status"], "no home at"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "video.mp4").write_bytes(b"")
    result = internvid(*arguments, cwd=tmp_path)
    assert (result.returncode, len(result.stderr.strip().splitlines())) == (2, 1), result.stderr
    assert message in result.stderr


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    result = internvid("run", tmp_path / "in", "--home", tmp_path / "home")
    assert result.returncode == 2 and "holds no files" in result.stderr
