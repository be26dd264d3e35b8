"""Fine-tuning on toy sets: it learns, resumes exactly, and is evaluated by its head or as a retriever."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.media import write_video
from tests.training.toys import TINY, save_model
from training.benchmarks import Benchmark, load_benchmark
from training.classify import depth, erase, layered_optimiser, mix, smooth_labels
from training.contenders import load_contender
from training.data.annotated import AnnotatedClips, make_order
from training.evaluate import main as evaluate_main
from training.finetune import main as finetune_main
from training.finetune import starting_model
from training.heads import VideoClassifier, load_head, save_head
from training.kinetics710 import load_k710, merge_classes, merge_training, youtube_id
from training.protocol import Protocol
from training.recipe import DataConfig, with_overrides
from training.recipes import RECIPES
from training.recipes.finetuning import FINETUNING, load_finetuning
from training.run_log import read_metrics
from training.viclip import ViCLIP, load_viclip

ROOT = Path(__file__).parents[2]
SMALL = {
    "precision": "fp32", "zero_stage": 0, "checkpointing": "false", "world_size": 1, "data.loader_workers": 0,
    "stages.0.batch_size": 8, "model.vision.num_frames": 4, "model.vision.drop_path": 0.1, "log_every": 1, "save_every": 2,
    "data.min_crop_area": 1.0, "data.horizontal_flip": "false",
}  # fmt: skip


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen videos of a dark or a bright square, as action and as retrieval files, and weights to start from."""
    folder = tmp_path_factory.mktemp("toys")
    rows, entries = ["path,label"], []
    for number in range(16):
        bright = number % 2 == 1
        rng = np.random.default_rng(number)
        pictures = [
            np.full((32, 32, 3), 190 if bright else 60, np.uint8) + rng.integers(0, 9, (32, 32, 3), np.uint8)
        ] * 6
        name = write_video(folder / f"{number:02d}.mp4", pictures, fps=6).name
        rows.append(f"{name},{'bright' if bright else 'dark'}")
        entries.append({"video": name, "caption": [f"a {'bright' if bright else 'dark'} thing", f"number {number}"]})
    (folder / "actions.csv").write_text("\n".join(rows) + "\n")
    (folder / "pairs.json").write_text(json.dumps(entries))
    save_model(folder / "start", 0)
    return folder


class Run(NamedTuple):
    """How a run ended."""

    returncode: int
    stderr: str


def finetune(toys: Path, output: Path, recipe: str, *options: str, processes: int = 1, **more: object) -> Run:
    """One process runs in this one, which has everything imported already; but DeepSpeed starts only once in a process."""
    sets = [
        part for name, value in {**SMALL, **more}.items() for part in ("--set", f"{name.replace('__', '.')}={value}")
    ]
    file = toys / ("pairs.json" if "retrieval" in recipe else "actions.csv")
    arguments = ["--recipe", recipe, "--benchmark", str(file), "--init", str(toys / "start"), "--output", str(output)]
    arguments += [*sets, *options]
    if processes == 1 and not more.get("zero_stage"):
        environment, told = dict(os.environ), io.StringIO()
        try:
            with contextlib.redirect_stderr(told):
                code = finetune_main(arguments)
            return Run(code, told.getvalue())
        finally:
            os.environ.clear()
            os.environ.update(environment)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += ["-m", "training.finetune", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    return Run(result.returncode, result.stderr)


ACTION = {"stages__0__epochs": 12, "stages__0__learning_rate": 3e-3, "mixup": 0.0, "cutmix": 0.0, "layer_decay": 0.9,
          "data__rand_augment": 0, "random_erasing": 0.0}  # fmt: skip


@pytest.fixture(scope="module")
def tuned(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("tuned") / "run"
    result = finetune(toys, output, "finetune_k400", **ACTION)
    assert result.returncode == 0, result.stderr
    return output


def test_a_head_learns_and_is_evaluated(tuned: Path, toys: Path, tmp_path: Path) -> None:
    losses = [row["loss"] for row in read_metrics(tuned)]
    assert losses[0] == pytest.approx(np.log(2), abs=0.02) and losses[-1] < 0.4
    arguments = [
        "--checkpoint",
        f"tuned={tuned}",
        "--benchmark",
        f"k400={toys / 'actions.csv'}",
        "--output",
        str(tmp_path),
    ]
    assert evaluate_main(arguments) == 0
    told = json.loads((tmp_path / "evaluation.json").read_text())
    [result] = told["results"]
    assert result["setting"] == "fine-tuned" and result["figures"][0]["value"] == 1.0
    assert {row["table"] for row in told["paper"]} == {"4"}
    assert load_viclip(tuned).config.vision.num_frames == 4
    run = json.loads((tuned / "run.json").read_text())
    assert (run["recipe"]["name"], run["benchmark"], run["num_steps"]) == ("finetune_k400", "k400", 48)


def test_resuming_gives_the_same_weights(tuned: Path, toys: Path, tmp_path: Path) -> None:
    """A run that was killed after a step in the middle, and repeated."""
    killed = tmp_path / "killed"
    assert finetune(toys, killed, "finetune_k400", **ACTION).returncode == 0
    for state in sorted((killed / "state").glob("stage*"))[1:]:
        state.rename(tmp_path / state.name)
    (killed / "model.safetensors").unlink()
    result = finetune(toys, killed, "finetune_k400", **ACTION)
    assert result.returncode == 0 and "step 48/48" in result.stderr and "step 46/48" not in result.stderr
    for name in ("model.safetensors", "head.safetensors"):
        ours, theirs = load_file(killed / name), load_file(tuned / name)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    other = finetune(toys, killed, "finetune_k400", "--seed", "5", **ACTION)
    assert other.returncode == 2 and "holds another run" in other.stderr


def test_two_processes_and_micro_batches_learn_what_one_learns(toys: Path, tmp_path: Path) -> None:
    plain = {
        "stages__0__epochs": 1,
        "model__vision__drop_path": 0.0,
        "mixup": 0.0,
        "cutmix": 0.0,
        "random_erasing": 0.0,
    }
    runs = {"one": {}, "two": {"processes": 2}, "micro": {"stages__0__micro_batch_size": 4}}
    losses = {}
    for name, options in runs.items():
        result = finetune(toys, tmp_path / name, "finetune_k400", **plain, **options)
        assert result.returncode == 0, result.stderr
        losses[name] = [row["loss"] for row in read_metrics(tmp_path / name)]
    assert losses["one"] == pytest.approx(losses["two"], abs=1e-5)
    assert losses["one"] == pytest.approx(losses["micro"], abs=1e-5)


def test_deepspeed_learns_what_plain_torch_learns(toys: Path, tmp_path: Path) -> None:
    losses = {}
    for stage in (0, 1):
        more = {"stages__0__epochs": 1, "model__vision__drop_path": 0.0, "zero_stage": stage}
        result = finetune(toys, tmp_path / str(stage), "finetune_ssv2", **more)
        assert result.returncode == 0, result.stderr
        losses[stage] = [row["loss"] for row in read_metrics(tmp_path / str(stage))]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_retrieval_trains_both_towers_and_is_evaluated_as_fine_tuned(toys: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    more = {"stages__0__epochs": 4, "stages__0__learning_rate": 1e-3, "model__vision__num_frames": 8}
    result = finetune(toys, run, "finetune_retrieval_msrvtt", **more)
    assert result.returncode == 0, result.stderr
    losses = [row["loss"] for row in read_metrics(run)]
    assert len(losses) == 16 and np.mean(losses[-4:]) < np.mean(losses[:4])
    before, after = load_viclip(toys / "start").state_dict(), load_viclip(run).state_dict()
    assert after["vision_encoder.temporal_positional_embedding"].shape == (1, 8, 64)
    for name in ("text_encoder.text_projection", "vision_encoder.proj", "vision_encoder.conv1.weight"):
        assert not torch.equal(before[name], after[name])
    contender = load_contender("tuned", run, Protocol())
    here = load_benchmark("msrvtt", toys / "pairs.json")
    assert contender.setting(here) == "fine-tuned"
    assert contender.setting(load_benchmark("msvd", toys / "pairs.json")) == "fine-tuned on msrvtt"


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("finetune_nothing", [], "recipe 'finetune_nothing' does not exist; there are finetune_retrieval_msrvtt"),
        ("finetune_k400", ["--set", "layer_decai=1"], "'layer_decai' is none of"),
        ("finetune_k400", ["--set", "repeats=3"], "must be a multiple of repeats = 3"),
        ("finetune_k400", ["--init", "nowhere"], "no weights at nowhere"),
        ("finetune_k400", ["--set", "stages.0.batch_size=64"], "lower it"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(
    recipe: str, options: list[str], message: str, toys: Path, tmp_path: Path
) -> None:
    result = finetune(toys, tmp_path / "run", recipe, *options)
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if line.startswith("fine-tuning:")]
    assert len(lines) == 1 and message in lines[0]


def test_k710_merges_by_name_and_drops_repeats_and_test_videos() -> None:
    assert merge_classes([["eat", "Run_fast"], ["run fast!", "sit"], ["EAT", "fly"]]) == (
        "eat",
        "Run_fast",
        "sit",
        "fly",
    )
    first = Benchmark("k400", "action", (Path("aaaaaaaaaaa_1.mp4"), Path("bbbbbbbbbbb_1.mp4")), ("eat", "run"), (0, 1))
    second = Benchmark("k600", "action", (Path("aaaaaaaaaaa_7.mp4"), Path("ccccccccccc_1.mp4")), ("sit", "Run"), (0, 1))
    merged = merge_training([first, second], ["val/bbbbbbbbbbb_000001_000011.mp4"])
    assert merged.classes == ("eat", "run", "sit")
    assert [(v.name, merged.classes[label]) for v, label in zip(merged.videos, merged.labels, strict=True)] == [
        ("aaaaaaaaaaa_1.mp4", "eat"), ("ccccccccccc_1.mp4", "run"),
    ]  # fmt: skip
    assert youtube_id("val/-abcdefghij_000001_000011.mp4") == "-abcdefghij"


def test_k710_is_read_from_three_folders(tmp_path: Path) -> None:
    header = "label,youtube_id,time_start,time_end\n"
    for part, classes in (("k400", "ab"), ("k600", "bc"), ("k700", "cd")):
        (tmp_path / part).mkdir()
        for split in ("train", "val"):
            rows = [f"{name},{name}{part}{split:_<6},0,10\n" for name in classes]
            (tmp_path / part / f"{split}.csv").write_text(header + "".join(rows))
            for row in rows if split == "train" else []:
                (tmp_path / part / f"{row.split(',')[1]}_000000_000010.mp4").touch()
    merged = load_k710({part: tmp_path / part for part in ("k400", "k600", "k700")})
    assert merged.classes == ("a", "b", "c", "d") and merged.labels == (0, 1, 1, 2, 2, 3)
    with pytest.raises(ValueError, match="k710 needs --data of k400, k600, k700; k700 is not given"):
        load_k710({"k400": tmp_path, "k600": tmp_path})


def test_the_head_of_k400_is_cut_from_that_of_k710(toys: Path, tmp_path: Path) -> None:
    start = save_model(tmp_path / "k710", 0)
    weight = torch.arange(3.0)[:, None].expand(3, 64).contiguous()
    save_head(start, {"weight": weight, "bias": torch.zeros(3)}, ["Dark", "other", "bright"])
    recipe = with_overrides(load_finetuning("finetune_k400"), [f"{k}={v}" for k, v in SMALL.items()])
    here = load_benchmark("k400", toys / "actions.csv")
    model = starting_model(recipe, here, start)
    assert isinstance(model, VideoClassifier) and here.classes == ("bright", "dark")
    assert model.head.weight[:, 0].tolist() == [2.0, 0.0]
    fresh = starting_model(recipe, here, toys / "start")
    assert isinstance(fresh, VideoClassifier) and float(fresh.head.weight.detach().abs().max()) < 1e-4
    assert load_head(toys / "start") is None


def test_labels_are_smoothed_and_mixed_with_the_clips() -> None:
    targets = smooth_labels(torch.tensor([0, 1]), 2, 0.2)
    assert targets.tolist() == [[pytest.approx(0.9), pytest.approx(0.1)], [pytest.approx(0.1), pytest.approx(0.9)]]
    clips = torch.stack([torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8)])
    for mixup, cutmix in ((0.8, 0.0), (0.0, 1.0), (0.8, 1.0)):
        for seed in range(8):
            mixed, soft = mix(
                clips, smooth_labels(torch.tensor([0, 1]), 2, 0.0), mixup, cutmix, np.random.default_rng(seed)
            )
            # the clips are 0 and 1, so the mean of a pixel is the share of the second clip
            assert mixed.mean(dim=(1, 2, 3, 4)).tolist() == pytest.approx(soft[:, 1].tolist(), abs=1e-6)
            assert soft.sum(1).tolist() == pytest.approx([1.0, 1.0])


def test_erasing_fills_one_rectangle_of_all_frames_with_noise() -> None:
    video_bTCHW = torch.zeros(200, 2, 3, 20, 30)
    erase(video_bTCHW, 0.25, np.random.default_rng(0))
    is_erased_bTHW = (video_bTCHW != 0).all(dim=2)
    assert torch.equal(is_erased_bTHW[:, 0], is_erased_bTHW[:, 1])
    erased = [mask.nonzero() for mask in is_erased_bTHW[:, 0] if mask.any()]
    assert 30 <= len(erased) <= 70
    for places in erased:
        (high, wide) = (places.max(0).values - places.min(0).values + 1).tolist()
        assert len(places) == high * wide and 0.01 * 600 <= high * wide <= 0.36 * 600
    noise = video_bTCHW[video_bTCHW != 0]
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    untouched = torch.zeros(3, 2, 3, 20, 30)
    erase(untouched, 0.0, np.random.default_rng(0))
    assert not untouched.any()


def test_learning_rates_fall_with_depth() -> None:
    names = {"conv1.weight": 0, "positional_embedding": 0, "ln_pre.bias": 0, "transformer.resblocks.0.ln_1.weight": 1,
             "transformer.resblocks.23.mlp.c_fc.weight": 24, "ln_post.weight": 25}  # fmt: skip
    assert {name: depth(f"viclip.vision_encoder.{name}", 24) for name in names} == names
    assert depth("head.weight", 24) == 25
    recipe = load_finetuning("finetune_k400")
    model = VideoClassifier(ViCLIP(TINY), 3)
    optimizer = layered_optimiser(model, recipe.optimiser, 1.0, 0.5, 2)
    rate = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert rate[id(model.head.weight)] == (1.0, 0.05) and rate[id(model.head.bias)] == (1.0, 0.0)
    assert rate[id(model.viclip.vision_encoder.conv1.weight)] == (0.125, 0.05)
    assert id(model.viclip.temp) not in rate and id(model.viclip.text_encoder.text_projection) not in rate


def test_every_pair_is_a_sample_and_copies_differ(toys: Path) -> None:
    pairs = AnnotatedClips(load_benchmark("r", toys / "pairs.json"), DataConfig(), 4, 16, 0, 32)
    assert len(pairs) == 32 and pairs[0, 1]["caption"] == "number 0" and pairs[0, 2]["video_id"] == 1
    actions = AnnotatedClips(load_benchmark("a", toys / "actions.csv"), DataConfig(), 4, 16, 0, 32)
    assert (actions[0, 1]["caption"], actions[0, 1]["text_id"], actions[0, 17]["text_id"]) == ("bright", 0, 0)
    one, other = (actions[0, number]["crop"].video(16) for number in (1, 17))
    assert not np.array_equal(one, other)
    order = make_order(16, 8, 2, 0)
    assert order.steps_per_epoch == 4
    assert sorted(n % 16 for step in range(4) for _, n in order.batch(step)) == sorted([*range(16)] * 2)


def test_the_recipes_say_what_table_10_and_umt_say() -> None:
    values = {}
    for name in ("msrvtt", "lsmdc", "didemo", "msvd", "anet"):
        recipe = load_finetuning(f"finetune_retrieval_{name}")
        [stage], model = recipe.stages, recipe.model
        values[name] = (stage.learning_rate, stage.epochs, model.text.context_length, model.vision.drop_path)
        assert (stage.batch_size, stage.mask_ratio, model.vision.num_frames, recipe.freeze_text) == (
            256,
            0.0,
            12,
            False,
        )
        assert round(stage.warmup_share * (stage.epochs or 0)) == 1
    assert values == {
        "msrvtt": (2e-5, 7, 32, 0.3), "lsmdc": (4e-5, 8, 96, 0.2), "didemo": (2e-5, 5, 64, 0.3),
        "msvd": (2e-5, 10, 64, 0.3), "anet": (4e-5, 20, 150, 0.2),
    }  # fmt: skip
    k710, k400 = load_finetuning("finetune_k710"), load_finetuning("finetune_k400")
    for name in ("k600", "k700"):
        assert replace(load_finetuning(f"finetune_{name}"), name=k400.name, benchmark="k400") == k400
    assert (k710.stages[0].learning_rate, k710.stages[0].epochs, k710.layer_decay) == (2e-4, 20, 0.85)
    assert (k400.stages[0].learning_rate, k400.stages[0].epochs, k400.model.vision.num_frames) == (2e-5, 5, 8)
    assert not load_finetuning("finetune_ssv2").data.horizontal_flip
    assert all(load_finetuning(name).name == name for name in FINETUNING) and not FINETUNING.keys() & RECIPES.keys()
