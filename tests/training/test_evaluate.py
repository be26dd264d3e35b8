"""Evaluation of tiny models: every flag of the protocol, and what the result says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from tests.media import moving_pictures, write_video
from tests.training.toys import save_model
from training.benchmarks import Benchmark, training_pairs
from training.contenders import Contender, load_contender
from training.data.video import centre_crops, positions, read_frames
from training.evaluate import main
from training.findings import confusion_table, mistakes
from training.heads import VideoClassifier, load_head, save_head, split_state
from training.protocol import Protocol
from training.scoring import Scores, read_benchmark, score

NUM_VIDEOS, NUM_FRAMES = 6, 20


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos, as UCF101 (three classes) and as MSVD (captions), and two models."""
    folder = tmp_path_factory.mktemp("data")
    names = [f"v_{i}" for i in range(NUM_VIDEOS)]
    for i, name in enumerate(names):
        write_video(folder / f"{name}.mp4", moving_pictures(NUM_FRAMES, seed=i), fps=10)
    classes = ["HighJump", "YoYo", "Surfing"]
    (folder / "classInd.txt").write_text("".join(f"{i + 1} {name}\n" for i, name in enumerate(classes)))
    (folder / "testlist01.txt").write_text("".join(f"{classes[i % 3]}/{name}.mp4\n" for i, name in enumerate(names)))
    entries = [{"video": f"{name}.mp4", "caption": [f"thing {i}", f"{i} again"]} for i, name in enumerate(names)]
    (folder / "msvd_ret_test.json").write_text(json.dumps(entries))
    for name, seed in (("ours", 0), ("clip", 1)):
        save_model(folder / name, seed)
    return folder


def run(data: Path, output: Path, *flags: str) -> dict:
    named = ["--data", f"ucf101={data}", "--data", f"msvd={data}"]
    assert main(["--checkpoint", f"ours={data / 'ours'}", *named, "--output", str(output), *flags]) == 0
    return json.loads((output / "evaluation.json").read_text())


def test_a_result_holds_protocol_figures_ranks_paper_rows_and_pictures(data: Path, tmp_path: Path) -> None:
    told = run(data, tmp_path, "--checkpoint", f"other={data / 'clip'}")
    action, retrieval = (next(r for r in told["results"] if r["benchmark"] == name) for name in ("ucf101", "msvd"))
    assert [f["metric"] for f in action["figures"]] == ["top1", "top5", "top1_top5_mean", "mean_per_class"]
    assert [f["metric"] for f in retrieval["figures"]] == [
        f"{way}_{name}" for way in ("t2v", "v2t") for name in ("R@1", "R@5", "R@10", "median_rank", "mean_rank")
    ]
    assert {f["interval"] for f in retrieval["figures"]} == {
        "Wilson",
        "bootstrap over videos",
        "bootstrap over queries",
    }
    assert (action["setting"], action["num_items"], retrieval["figures"][0]["num_items"]) == ("zero-shot", 6, 12)
    assert {row["benchmark"] for row in told["paper"]} == {"msvd"}  # the paper has no UCF101
    assert len(told["protocol"]["templates"]) == 16 and told["protocol_told"]["weights"] == "as trained"
    told_ranks = json.loads((tmp_path / "ranks.json").read_text())
    assert told_ranks["owners"] == {"msvd": [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]}
    ranks = told_ranks["models"]
    assert {name: {b: {k: len(v) for k, v in kinds.items()} for b, kinds in found.items()} for name, found in ranks.items()} == {
        name: {"ucf101": {"action": 6}, "msvd": {"t2v": 12, "v2t": 6}} for name in ("ours", "other")
    }  # fmt: skip
    pictures = [item["own"] for items in told["retrievals"]["msvd"].values() for item in items]
    pictures += [item["picture"] for item in told["mistakes"]["ucf101"]["videos"]]
    assert pictures and all((tmp_path / name).stat().st_size for name in pictures)


@pytest.mark.parametrize(
    ("flags", "key", "value"),
    [
        (["--frames", "2"], "num_frames", 2),
        (["--sampling", "endpoints"], "sampling", "endpoints"),
        (["--views", "2"], "num_views", 2),
        (["--resize", "crop", "--crops", "3"], "num_crops", 3),
        (["--templates", "name"], "templates", ["{}"]),
        (["--average", "embeddings"], "template_averaging", "embeddings"),
        (["--dual-softmax", "0.01"], "dual_softmax", 0.01),
        (["--dual-softmax"], "dual_softmax", 1.0),
        (["--single-frame"], "single_frame", True),
        (["--text-length", "8"], "text_length", 8),
        (["--raw-text"], "text_clean_up", False),
    ],
)
def test_every_choice_is_a_flag_and_in_the_result(
    flags: list[str], key: str, value: object, data: Path, tmp_path: Path
) -> None:
    told = run(data, tmp_path, *flags)
    assert told["protocol"][key] == value
    assert told["protocol_told"] != Protocol().told() or key == "template_averaging" or key == "templates"


def ucf(data: Path) -> Benchmark:
    videos = tuple(data / f"v_{i}.mp4" for i in range(NUM_VIDEOS))
    return Benchmark("ucf101", "action", videos, ("high jump", "yo yo", "surfing"), (0, 1, 2, 0, 1, 2))


def contender(data: Path, protocol: Protocol) -> Contender:
    return load_contender("ours", data / "ours", protocol)


@torch.inference_mode()
def test_scores_are_the_naive_ones(data: Path) -> None:
    """Frames read by hand; similarities averaged over templates, and over views."""
    protocol = Protocol(templates=("{}", "a {}!"), num_views=2)
    model = contender(data, protocol).model
    wanted = np.zeros((NUM_VIDEOS, 3))
    for row, video in enumerate(ucf(data).videos):
        frames = [frame.to_ndarray(format="rgb24") for frame in av.open(str(video)).decode(video=0)]
        # 20 frames in 4 spans of 5, each in halves: their middles
        for chosen in ([1, 6, 11, 16], [3, 8, 13, 18]):
            small = np.stack([cv2.resize(frames[i], (16, 16), interpolation=cv2.INTER_AREA) for i in chosen])
            video_1E = model.encode_video(torch.from_numpy(small).permute(0, 3, 1, 2)[None])
            for column, name in enumerate(ucf(data).classes):
                texts = model.encode_text([name, f"a {name}"])
                wanted[row, column] += float((texts @ video_1E[0]).mean()) / 2
    found = score(contender(data, protocol), ucf(data), protocol, workers=3)
    assert found.matrix == pytest.approx(wanted, abs=1e-5)


@torch.inference_mode()
def test_single_frames_are_embedded_alone(data: Path) -> None:
    protocol = Protocol(single_frame=True, templates=("{}",))
    model = contender(data, protocol).model
    frames = next(read_benchmark(ucf(data), 4, protocol))
    small = np.stack([cv2.resize(frame, (16, 16), interpolation=cv2.INTER_AREA) for frame in frames])
    each = [model.encode_video(torch.from_numpy(one).permute(2, 0, 1)[None, None])[0] for one in small]
    mean = torch.nn.functional.normalize(torch.stack(each).mean(0), dim=0)
    wanted = model.encode_text(["high jump", "yo yo", "surfing"]) @ mean
    assert score(contender(data, protocol), ucf(data), protocol).matrix[0] == pytest.approx(wanted.numpy(), abs=1e-5)


def test_weights_are_averaged_but_for_the_temporal_table(data: Path) -> None:
    ours, clip = (load_contender(n, data / n, Protocol()).model.state_dict() for n in ("ours", "clip"))
    mixed = contender(data, Protocol(average_with=str(data / "clip"), alpha=0.25)).model.state_dict()
    table = "vision_encoder.temporal_positional_embedding"
    assert torch.equal(mixed[table], ours[table]) and not torch.equal(ours[table], clip[table])
    for name in ("vision_encoder.proj", "text_encoder.text_projection", "temp"):
        assert torch.allclose(mixed[name], 0.25 * ours[name] + 0.75 * clip[name])


def test_another_number_of_frames_interpolates_the_temporal_table(data: Path) -> None:
    table = contender(data, Protocol(num_frames=12)).model.vision_encoder.temporal_positional_embedding
    assert table.shape == (1, 12, 64)


def test_frames_of_a_video_and_of_its_beginning(data: Path) -> None:
    video = data / "v_0.mp4"
    frames = [frame.to_ndarray(format="rgb24") for frame in av.open(str(video)).decode(video=0)]
    assert positions(4)(100) == [12, 37, 62, 87] and positions(4, "endpoints")(100) == [0, 33, 66, 99]
    ends = read_frames(video, positions(3, "endpoints"))
    assert [(ours == frames[i]).all() for ours, i in zip(ends, (0, 10, 19), strict=True)] == [True] * 3
    [last] = read_frames(video, lambda count: [count - 1], max_seconds=0.5)  # ten frames a second: five of them
    assert (last == frames[4]).all()


def test_crops_lie_along_the_long_side() -> None:
    picture = np.repeat(np.arange(96, dtype=np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2)
    assert [crop[0].shape for crop in centre_crops([picture], 64, 3)] == [(64, 64, 3)] * 3
    assert [int(crop[0][0, 0, 0]) for crop in centre_crops([picture], 64, 3)] == [0, 16, 32]
    assert int(centre_crops([picture], 64, 1)[0][0][0, 0, 0]) == 16
    assert centre_crops([picture.transpose(1, 0, 2)], 32, 1)[0][0].shape == (32, 32, 3)


def test_a_head_answers_for_classes_that_it_knows_by_name(data: Path, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "tuned", 0)
    torch.manual_seed(3)
    classifier = VideoClassifier(load_contender("x", folder, Protocol()).model, 4)
    torch.nn.init.normal_(classifier.head.weight)
    save_head(folder, split_state(classifier.state_dict())[1], ["Yo_Yo", "walking", "Surfing", "high jump"])
    (folder / "finetuning.json").write_text(json.dumps({"benchmark": "k710", "task": "action"}))
    tuned = load_contender("tuned", folder, Protocol())
    assert tuned.setting(ucf(data)) == "fine-tuned"
    found = score(tuned, ucf(data), Protocol()).matrix
    video = torch.from_numpy(np.stack([cv2.resize(f, (16, 16), interpolation=cv2.INTER_AREA) for f in next(read_benchmark(ucf(data), 4, Protocol()))]))  # fmt: skip
    with torch.inference_mode():
        [logits] = classifier.eval()(video.permute(0, 3, 1, 2)[None])
    assert found[0] == pytest.approx(logits[0, [3, 0, 2]].softmax(0).numpy(), abs=1e-5)
    assert load_contender("tuned", folder, Protocol(use_head=False)).setting(ucf(data)) == "zero-shot"
    with pytest.raises(ValueError, match="the head knows 4 classes, but not 1 of these 1, the first: 'diving'"):
        score(tuned, Benchmark("other", "action", ucf(data).videos, ("diving",), (0,) * 6), Protocol())
    assert load_head(data / "ours") is None


def test_videos_that_cannot_be_read_stop_or_are_counted(data: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    broken = replace(ucf(data), videos=(tmp_path / "broken.mp4", *ucf(data).videos[1:]))
    with pytest.raises(ValueError, match=r"broken.mp4 cannot be read"):
        score(contender(data, Protocol()), broken, Protocol())
    found = score(contender(data, Protocol()), broken, Protocol(), skip=True)
    assert found.matrix.shape == (5, 3) and found.benchmark.labels == (1, 2, 0, 1, 2)
    assert "1 videos cannot be read" in found.benchmark.note


def test_mistakes_name_classes_pairs_and_videos(data: Path, tmp_path: Path) -> None:
    matrix = np.eye(3)[[0, 1, 0, 0, 2, 0]] + np.array([0, 0, 1, 0, 0, 2])[:, None] * np.eye(3)[0]
    found = mistakes(Scores(ucf(data), matrix), tmp_path)
    assert [(c["name"], c["accuracy"], c["taken_for"]) for c in found["classes"]] == [
        ("surfing", 0.0, "high jump"), ("yo yo", 0.5, "surfing"), ("high jump", 1.0, ""),
    ]  # fmt: skip
    assert found["confusions"][0] == {"truth": "surfing", "answer": "high jump", "count": 2}
    assert next((v["video"], v["answer"], v["rank"]) for v in found["videos"]) == ("v_5.mp4", "high jump", 3)
    assert confusion_table(Scores(ucf(data), matrix)) == {
        "classes": ["high jump", "yo yo", "surfing"], "counts": [[2, 0, 0], [0, 1, 1], [2, 0, 0]],
    }  # fmt: skip


def test_pairs_of_shards(data: Path, shards: Path, tmp_path: Path) -> None:
    assert len(training_pairs(shards)) == 30
    arguments = ["--checkpoint", f"ours={data / 'ours'}", "--shards", str(shards), "--output", str(tmp_path)]
    assert main([*arguments, "--shards", str(shards)]) == 0
    told = json.loads((tmp_path / "evaluation.json").read_text())
    assert {r["benchmark"] for r in told["results"]} == {"pairs_of_subsets.test"}
    assert "not a measure of generalisation" in told["results"][0]["note"]


def test_list_and_check_need_no_model(data: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["--list"]) == 0 and "testlist01.txt with classInd.txt" in capsys.readouterr().out
    assert main(["--check", "--data", f"ucf101={data}"]) == 0
    assert "ucf101: 6 items of 3 classes, action" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data", "k400=nowhere"], "benchmark k400: nowhere is not a folder"),
        (["--data", "k400"], "must be of the form NAME=PATH"),
        ([], "nothing to evaluate on: give --data NAME=FOLDER with one of k400"),
        (["--crops", "3"], "needs --resize crop"),
        (["--crops", "2", "--resize", "crop"], "--crops = 2 must be 1 or 3"),
        (["--alpha", "0.3"], "no effect without --average-with"),
        (["--frames", "0"], "--frames = 0 must be at least 1"),
        (["--dual-softmax", "-1"], "must be a temperature above 0"),
        (["--templates", "none"], "templates 'none'"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["--checkpoint", "a=b", "--output", str(tmp_path), *flags]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("evaluation: ") and message in line
