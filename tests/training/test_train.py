"""Whole training runs: exact resume, one process against two, wrong use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.training.conftest import train
from training.recipe import with_overrides
from training.recipes import RECIPES, load_recipe
from training.run_log import read_metrics

QUICK = ["--set", "stages.0.batch_size=8", "--set", "stages.1.batch_size=8"]


@pytest.fixture(scope="module")
def straight(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("straight") / "run"
    result = train(shards, output, *QUICK)
    assert result.returncode == 0, result.stderr
    return output


def test_a_run_explains_itself(straight: Path, shards: Path) -> None:
    run = json.loads((straight / "run.json").read_text())
    assert run["shards_id"] == json.loads((shards / "manifest.json").read_text())["shards_id"]
    assert run["recipe"]["name"] == "debug_tiny" and run["num_steps"] == 6 and run["num_samples_seen"] == 48
    assert [row["step"] for row in read_metrics(straight)] == [1, 2, 3, 4, 5, 6]
    assert list(straight.glob("tensorboard/events*"))


def test_resuming_gives_the_same_weights(straight: Path, shards: Path, tmp_path: Path) -> None:
    """A run that saved every step and whose newest whole state is step 2 of the second stage, as after a kill."""
    often = [*QUICK, "--set", "save_every=1"]
    killed = tmp_path / "killed"
    assert train(shards, killed, *often).returncode == 0
    (killed / "state" / "stage1-step00000003").rename(tmp_path / "lost")
    (killed / "model.safetensors").unlink()
    result = train(shards, killed, *often)
    assert result.returncode == 0, result.stderr
    assert "step 6/6" in result.stderr and "step 5/6" not in result.stderr
    ours, theirs = load_file(killed / "model.safetensors"), load_file(straight / "model.safetensors")
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    assert len(list((killed / "state").glob("stage*"))) == 2  # older states are dropped


def test_two_processes_learn_what_one_learns(shards: Path, tmp_path: Path) -> None:
    options = [*QUICK, "--set", "stages.0.mask_ratio=0.0", "--set", "stages.1.mask_ratio=0.0"]
    for processes in (1, 2):
        result = train(shards, tmp_path / str(processes), *options, processes=processes)
        assert result.returncode == 0, result.stderr
    losses = [[row["loss"] for row in read_metrics(tmp_path / name)] for name in ("1", "2")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)


def test_stages_follow_each_other_under_every_engine(shards: Path, tmp_path: Path) -> None:
    """Without clipping, stage 0 updates each weight as its gradient comes; ZeRO 3 cuts the weights up."""
    losses = []
    for zero_stage in ("0", "3"):
        options = [*QUICK, "--set", f"zero_stage={zero_stage}", "--set", "optimiser.max_grad_norm=0"]
        result = train(shards, tmp_path / zero_stage, *options)
        assert result.returncode == 0, result.stderr
        losses.append([row["loss"] for row in read_metrics(tmp_path / zero_stage)])
    assert len(losses[0]) == 6 and losses[0] == pytest.approx(losses[1], abs=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "nobody"], "recipe 'nobody' does not exist; there are paper_l14_64gpu"),
        (["--set", "stages.0.stepps=1"], "'stepps' is none of"),
        (["--set", "stages.7.steps=1"], "there are 2 stages"),
        (["--set", "precision=fp8"], "precision = 'fp8'"),
        (["--set", "log_every"], "path.to.field=value"),
        (["--shards", "nowhere"], "lacks manifest.json"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(shards: Path, tmp_path: Path, options: list[str], message: str) -> None:
    result = train(shards, tmp_path / "run", *options)
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if line.startswith("training:")]
    assert len(lines) == 1 and message in lines[0]


def test_another_run_is_not_overwritten(straight: Path, shards: Path) -> None:
    result = train(shards, straight, *QUICK, "--seed", "5")
    assert result.returncode == 2 and "holds another run" in result.stderr


def test_a_batch_larger_than_the_shards_is_lowered(shards: Path, tmp_path: Path) -> None:
    result = train(shards, tmp_path / "run", "--set", "stages.0.batch_size=64")
    assert result.returncode == 0 and "lowered to 30" in result.stderr


def test_the_papers_recipe_says_what_the_paper_says() -> None:
    recipe = load_recipe("paper_l14_64gpu")
    first, second = recipe.stages
    assert (first.batch_size, first.learning_rate, first.epochs, first.mask_ratio) == (32768, 4e-4, 10, 0.9)
    assert (second.batch_size, second.learning_rate, second.epochs, second.mask_ratio) == (2048, 4e-6, 0.5, 0.0)
    config = recipe.deepspeed_config(first, recipe.world_size)
    assert (config["train_micro_batch_size_per_gpu"], config["bf16"]["enabled"]) == (512, True)
    with pytest.raises(ValueError, match="multiple of 7"):
        recipe.deepspeed_config(first, 7)


def test_every_recipe_has_its_own_name_and_can_be_changed() -> None:
    for name in RECIPES:
        recipe = load_recipe(name)
        assert recipe.name == name
        changed = with_overrides(
            recipe, ["stages.0.learning_rate=0.5", "data.cache_frames=true", "loss_chunk_rows=none"]
        )
        assert (changed.stages[0].learning_rate, changed.data.cache_frames, changed.loss_chunk_rows) == (
            0.5,
            True,
            None,
        )
