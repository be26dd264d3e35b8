"""Public benchmarks in the files that people have on disk, each written by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from training.benchmarks import STANDARDS, load_benchmark, load_standard, load_templates, told_registry
from training.benchmarks.action import class_names
from training.benchmarks.folder import DataFolder
from training.benchmarks.paper import paper_rows


def put(folder: Path, files: dict[str, str | list | dict]) -> Path:
    """Text as it is, other values as JSON; a video needs no content to be found."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def kinetics_umt(folder: Path) -> Path:
    return put(folder, {
        "val.csv": "val/abc_000001_000011.mp4,1\nval/with space.mp4,0\n", "classes.txt": "abseiling\nair drumming\n",
        "train.csv": "train/t1.mp4 0\n", "val/abc_000001_000011.mp4": "", "val/with space.mp4": "", "train/t1.mp4": "",
    })  # fmt: skip


def kinetics_spaces(folder: Path) -> Path:
    return put(folder, {
        "annotations/val.txt": "abc.mp4 1\nx/y.mp4 0\n", "annotations/kinetics_400_labels.csv": 'id,name\n1,air drumming\n0,abseiling\n',
        "videos/abc.webm": "", "videos/x/y.mp4": "",
    })  # fmt: skip


def kinetics_official(folder: Path) -> Path:
    return put(folder, {
        "val.csv": "label,youtube_id,time_start,time_end,split\nair drumming,-abc,1,11,val\nabseiling,d_f,12,22,val\n",
        "val/air drumming/-abc_000001_000011.mp4": "", "val/abseiling/d_f_000012_000022.mkv": "",
    })  # fmt: skip


def ssv2(folder: Path) -> Path:
    entries = [{"id": "7", "label": "holding pen", "template": "Holding [something]", "placeholders": ["pen"]},
               {"id": "8", "template": "Moving [something] near [something]"}]  # fmt: skip
    labels = {"Moving something near something": "1", "Holding something": "0"}
    return put(folder, {
        "labels/something-something-v2-validation.json": entries, "labels/something-something-v2-labels.json": labels,
        "20bn/7.webm": "", "20bn/8.webm": "",
    })  # fmt: skip


def ucf101(folder: Path) -> Path:
    return put(folder, {
        "ucfTrainTestlist/testlist01.txt": "YoYo/v_YoYo_g01_c01.avi\nApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\n",
        "ucfTrainTestlist/trainlist01.txt": "YoYo/v_YoYo_g08_c01.avi 2\n",
        "ucfTrainTestlist/classInd.txt": "1 ApplyEyeMakeup\n2 YoYo\n",
        "UCF-101/YoYo/v_YoYo_g01_c01.avi": "", "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi": "",
        "UCF-101/YoYo/v_YoYo_g08_c01.avi": "",
    })  # fmt: skip


def hmdb51(folder: Path) -> Path:
    return put(folder, {
        "splits/brush_hair_test_split1.txt": "a#1.avi 2 \nb.avi 1 \nc.avi 0 \n", "splits/wave_test_split1.txt": "d.avi 2 \n",
        "brush_hair/a#1.avi": "", "brush_hair/b.avi": "", "wave/d.avi": "",
    })  # fmt: skip


def msrvtt_json(folder: Path) -> Path:
    entries = [
        {"video": "video7020.mp4", "caption": "a woman creating a fondant baby"},
        {"video": "video1.mp4", "caption": "a cat"},
    ]
    return put(folder, {"msrvtt_test1k.json": entries, "all/video7020.mp4": "", "all/video1.mp4": ""})


def msrvtt_jsfusion(folder: Path) -> Path:
    table = 'key,vid_key,video_id,sentence\nret0,msr7020,video7020,"a woman, creating"\nret1,msr1,video1,a cat\n'
    return put(folder, {"MSRVTT_JSFUSION_test.csv": table, "video7020.mp4": "", "video1.mp4": ""})


def lsmdc(folder: Path) -> Path:
    first, second = "0001_American_Beauty_00.00.51.926-00.00.54.129", "0001_American_Beauty_00.01.28.000-00.01.30.000"
    row = "{}\t00.00.51.926\t00.00.54.129\t00.00.51.926\t00.00.54.129\t{}\n"
    table = row.format(first, "SOMEONE looks.") + row.format(second, "SOMEONE nods.")
    return put(folder, {
        "LSMDC16_challenge_1000_publictect.csv": table, f"0001_American_Beauty/{first}.avi": "", f"0001_American_Beauty/{second}.avi": "",
    })  # fmt: skip


def didemo(folder: Path) -> Path:
    entries = [{"video": "a.mp4", "description": "A dog runs."}, {"video": "b.mp4", "description": "A car."},
               {"video": "a.mp4", "description": "It stops."}]  # fmt: skip
    return put(folder, {"test_data.json": entries, "v/a.mp4": "", "v/b.mp4": ""})


def msvd(folder: Path) -> Path:
    entries = [{"video": "a.avi", "caption": ["a dog", "the dog", "dogs"]}, {"video": "b.avi", "caption": ["a car"]}]
    return put(folder, {"msvd_ret_test.json": entries, "a.avi": "", "b.avi": ""})


def anet(folder: Path) -> Path:
    values = {"v_a": {"duration": 9.0, "timestamps": [[0, 1]], "sentences": ["A man sits. ", " He stands."]},
              "v_b": {"duration": 9.0, "timestamps": [[0, 1]], "sentences": ["Snow."]}}  # fmt: skip
    return put(folder, {"captions/val_1.json": values, "v_a.mp4": "", "v_b.mkv": ""})


WRITERS: list[tuple[str, Callable[[Path], Path], list]] = [
    ("k400", kinetics_umt, [1, 0]),
    ("k600", kinetics_spaces, [1, 0]),
    ("k700", kinetics_official, [1, 0]),
    ("ssv2", ssv2, [0, 1]),
    ("ucf101", ucf101, [1, 0]),
    ("hmdb51", hmdb51, [0, 1]),
    ("msrvtt", msrvtt_json, [("a woman creating a fondant baby",), ("a cat",)]),
    ("msrvtt", msrvtt_jsfusion, [("a woman, creating",), ("a cat",)]),
    ("lsmdc", lsmdc, [("SOMEONE looks.",), ("SOMEONE nods.",)]),
    ("didemo", didemo, [("A dog runs. It stops.",), ("A car.",)]),
    ("msvd", msvd, [("a dog", "the dog", "dogs"), ("a car",)]),
    ("anet", anet, [("A man sits. He stands.",), ("Snow.",)]),
]


@pytest.mark.parametrize(("name", "write", "wanted"), WRITERS, ids=[write.__name__ for _, write, _ in WRITERS])
def test_standard_files_are_read(name: str, write: Callable[[Path], Path], wanted: list, tmp_path: Path) -> None:
    benchmark = load_standard(name, write(tmp_path))
    assert list(benchmark.labels or benchmark.captions) == wanted
    assert len(benchmark) == len(benchmark.videos) == 2 and all(video.exists() for video in benchmark.videos)
    assert benchmark.task == STANDARDS[name].task and benchmark.max_seconds == (30.0 if name == "didemo" else None)
    assert f"this copy lists 2 items, the official split {STANDARDS[name].num_items}" in benchmark.note
    assert all(file.exists() for file in benchmark.files)


def test_every_standard_benchmark_is_tested_and_listed() -> None:
    assert {name for name, _, _ in WRITERS} == STANDARDS.keys()
    assert all(f"\n{name} " in told_registry() for name in STANDARDS)


@pytest.mark.parametrize(
    ("name", "write", "wanted"),
    [
        ("k400", kinetics_umt, ("abseiling", "air drumming")),
        ("k600", kinetics_spaces, ("abseiling", "air drumming")),
        ("k700", kinetics_official, ("abseiling", "air drumming")),
        ("ssv2", ssv2, ("Holding something", "Moving something near something")),
        ("ucf101", ucf101, ("apply eye makeup", "yo yo")),
        ("hmdb51", hmdb51, ("brush hair", "wave")),
    ],
)
def test_classes_read_as_words(name: str, write: Callable[[Path], Path], wanted: tuple, tmp_path: Path) -> None:
    assert load_standard(name, write(tmp_path)).classes == wanted


def test_the_training_split_has_its_own_files(tmp_path: Path) -> None:
    assert [v.name for v in load_standard("hmdb51", hmdb51(tmp_path / "h"), "train").videos] == ["b.avi"]
    assert [v.name for v in load_standard("ucf101", ucf101(tmp_path / "u"), "train").videos] == ["v_YoYo_g08_c01.avi"]
    assert [v.name for v in load_standard("k400", kinetics_umt(tmp_path / "k"), "train").videos] == ["t1.mp4"]
    with pytest.raises(ValueError, match=r"no annotations of its train split .* expected msrvtt_ret_train9k.json"):
        load_standard("msrvtt", msrvtt_json(tmp_path / "m"), "train")


def test_missing_videos_are_counted_and_named(tmp_path: Path) -> None:
    folder = msvd(tmp_path)
    (folder / "b.avi").unlink()
    with pytest.raises(
        ValueError, match=r"msvd: 1 of 2 videos are missing below .* \(1 video files there\), the first: b.avi"
    ):
        load_standard("msvd", folder)
    benchmark = load_standard("msvd", folder, allow_missing=True)
    assert len(benchmark) == 1 and "1 videos are missing" in benchmark.note
    (folder / "a.avi").unlink()
    with pytest.raises(ValueError, match="2 of 2 videos are missing"):
        load_standard("msvd", folder, allow_missing=True)


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("k400", {}, r"no annotations of its test split .* expected val.csv \| val.txt"),
        ("k400", {"val.csv": "a.mp4 1\n"}, r"classes.txt \| .* is missing"),
        ("k400", {"val.csv": "a.mp4 7\n", "classes.txt": "a\nb\n"}, r"val.csv line 1: 'a.mp4 7' is not a path and a label below 2"),
        ("ssv2", {"validation.json": [{"id": 1}], "labels.json": {"A": 0}}, "every entry needs id and template"),
        ("ssv2", {"validation.json": [{"id": 1, "template": "B"}], "labels.json": {"A": 0}}, "not among the 1 classes, the first: 1: 'B'"),
        ("msrvtt", {"msrvtt_test1k.json": [{"video": "a"}]}, "entry 0 needs video and caption"),
        ("msrvtt", {"MSRVTT_JSFUSION_test.csv": "a,b\n1,2\n"}, "lacks the columns video_id and sentence"),
        ("anet", {"val_1.json": "{"}, "val_1.json is not JSON"),
        ("k1000", {}, "'k1000' is not known; there are k400, k600"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(name: str, files: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        load_standard(name, put(tmp_path, files))


def test_a_name_finds_the_file_that_shares_its_folders(tmp_path: Path) -> None:
    data = DataFolder(put(tmp_path, {"train/x/a.mp4": "", "val/x/a.mp4": "", "val/b.1.mp4": ""}))
    assert data.video("val/x/a.mp4") == tmp_path / "val/x/a.mp4"
    assert data.video("other/val/x/a") == tmp_path / "val/x/a.mp4"
    assert data.video("b.1") == tmp_path / "val/b.1.mp4" and data.video("b") is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "eat\nrun\n"),
        ("b.txt", "1 run\n0 eat\n"),
        ("c.csv", "id,name\n0,eat\n1,run\n"),
        ("d.json", '{"run": 1, "eat": "0"}'),
        ("e.json", '["eat", "run"]'),
        ("f.txt", '"eat"\nrun'),
    ],
)
def test_lists_of_classes(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert class_names(tmp_path / name) == ["eat", "run"]


def test_plain_files(tmp_path: Path) -> None:
    put(tmp_path, {"a.csv": "path,label\nx.mp4,run\ny.mp4,eat\n", "r.json": [{"video": "x.mp4", "caption": "one"}]})
    action = load_benchmark("a", tmp_path / "a.csv")
    assert (action.classes, action.labels, action.videos[0]) == (("eat", "run"), (1, 0), tmp_path / "x.mp4")
    assert load_benchmark("r", tmp_path / "r.json").captions == (("one",),)
    with pytest.raises(ValueError, match=r"neither .csv \(action recognition\) nor .json"):
        load_benchmark("b", put(tmp_path, {"b.txt": ""}) / "b.txt")
    put(tmp_path, {"classes.txt": "eat\n"})
    with pytest.raises(ValueError, match=r"a.csv line 2: label 'run' is not in classes.txt"):
        load_benchmark("a", tmp_path / "a.csv")


def test_templates(tmp_path: Path) -> None:
    assert len(load_templates("paper")) == 16 and load_templates("name") == ("{}",)
    (tmp_path / "t.txt").write_text("a {}\nb\n")
    with pytest.raises(ValueError, match=r"every line needs one {}; got \['b'\]"):
        load_templates(str(tmp_path / "t.txt"))
    with pytest.raises(ValueError, match="neither one of 'paper'"):
        load_templates("nothing")


def test_the_papers_rows_are_shown_for_what_was_measured_only() -> None:
    rows = paper_rows([("k400", "zero-shot"), ("msrvtt", "fine-tuned"), ("mine", "zero-shot")])
    assert {(row["table"], row["benchmark"]) for row in rows} == {("3", "k400"), ("6", "msrvtt")}
    best = next(row for row in rows if row["model"] == "ViCLIP-L, InternVid-10M-FLT" and row["table"] == "3")
    assert best["figures"] == {"top1": 0.648, "top1_top5_mean": 0.757}
    counts = {table: len({r["model"] for r in paper_rows(all_settings()) if r["table"] == table}) for table in "3456"}
    assert counts == {"3": 12, "4": 7, "5": 9, "6": 9}


def all_settings() -> list[tuple[str, str]]:
    return [(name, setting) for name in STANDARDS for setting in ("zero-shot", "fine-tuned")]
