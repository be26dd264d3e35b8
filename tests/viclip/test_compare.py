"""Two subsets compared: equal steps, lineage, tables and files; and what is refused before any work."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from internvid_assets.cli import main
from internvid_assets.lake import Lake
from internvid_assets.lake.lineage import explain
from internvid_assets.release import publish
from internvid_assets.settings import Settings
from internvid_assets.store import open_store
from internvid_assets.viclip.compare import equal_steps
from internvid_assets.viclip.newest import newest_report
from tests.training.conftest import frames_of
from training.recipe import with_overrides
from training.recipes import load_recipe

PAIRS = """
create table lake.subsets.{name} as
select 'video' || (i // 3) || '_' || i as clip_id, 'video' || (i // 3) as video_id, 'thing ' || i || ' of {name}' as caption
from range({first}, {last}) as numbers(i)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A lake with subsets of 16 and of 12 pairs, and frames that need no videos."""
    environment = dict(os.environ)
    os.environ["INTERNVID_VICLIP__NUM_PROCESSES"] = "1"
    lake = Lake(Settings(home=tmp_path / "home"))
    lake.connection.execute("create schema if not exists lake.subsets")
    for name, first, last in (("alpha", 0, 16), ("beta", 4, 16), ("nobody", 0, 0)):
        lake.connection.execute(PAIRS.format(name=name, first=first, last=last))
    lake.connection.execute("create table lake.subsets.items as select 1 as clip_id")
    lake.close()
    monkeypatch.setattr(
        publish, "FrameSource", lambda lake, store: type("Frames", (), {"of_clips": staticmethod(frames_of)})
    )
    yield tmp_path / "home"
    os.environ.clear()
    os.environ.update(environment)


def internvid(*arguments: str) -> int:
    """The exit code of a command run in this process."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code  # type: ignore[return-value]


def test_two_subsets_are_compared_and_remembered(home: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["compare", "alpha", "beta", "--recipe", "debug_tiny", "--home", str(home)]
    assert internvid(*command) == 0
    told = capsys.readouterr().out
    assert "# alpha (A) against beta (B)" in told and "| pairs_of_beta | t2v_R@1 |" in told and "One seed" in told

    lake, store = Lake(Settings(home=home)), open_store(Settings(home=home))
    runs = lake.rows("select * from viclip.viclip_checkpoint order by checkpoint_id")
    assert len(runs) == 2 and {run["num_steps"] for run in runs} == {6} and {run["seed"] for run in runs} == {0}
    assert lake.value("select count(distinct shards_id) from release.training_shards") == 2
    [folder] = {row["report_key"] for row in lake.rows("select report_key from viclip.viclip_evaluation")}
    facts = json.loads(store.get_bytes(f"{folder}/compare.json"))
    assert (facts["a"]["num_samples"], facts["b"]["num_samples"], facts["num_steps"]) == (16, 12, 6)
    assert set(facts["checkpoints"].values()) == {run["checkpoint_id"] for run in runs}
    assert {d["benchmark"] for d in facts["differences"]} == {"pairs_of_alpha", "pairs_of_beta"}
    assert all(d["low"] <= d["difference"] <= d["high"] for d in facts["differences"])
    # every figure of the table in the lake is that of the comparison
    stored = lake.rows("select benchmark, metric, value, checkpoint_id from viclip.viclip_evaluation")
    assert len(stored) == 2 * 2 * 6  # runs, benchmarks, shares
    ours = {(row["benchmark"], row["metric"]): row["value"] for row in stored if row["checkpoint_id"] == facts["checkpoints"]["alpha seed 0"]}  # fmt: skip
    assert {key: value for key, value in ours.items() if "R@1" in key[1]} == pytest.approx(
        {(d["benchmark"], d["metric"]): d["value_a"] for d in facts["differences"] if "R@1" in d["metric"]}
    )
    for run in runs:
        lines = "\n".join(explain(lake, run["checkpoint_id"]))
        assert run["shards_id"] in lines and "evaluated: viclip pairs_of_alpha t2v_R@1" in lines
    assert newest_report(lake) is None  # a comparison is no report

    before = lake.snapshot_id()
    lake.close()
    assert internvid(*command) == 0
    assert capsys.readouterr().out == told
    assert Lake(Settings(home=home)).snapshot_id() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["alpha", "gamma"], "subset 'gamma' does not exist; there are alpha, beta, items, nobody"),
        (["alpha", "alpha"], "both subsets are alpha: name two"),
        (["alpha", "nobody"], "subset nobody is empty"),
        (["alpha", "items"], "subset items holds no pairs to train on: it lacks caption, video_id"),
        (["alpha", "beta", "--recipe", "huge"], "recipe 'huge' does not exist; there are"),
        (["alpha", "beta", "--seeds", "0"], "Invalid value for '--seeds'"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, home: Path, capsys: pytest.CaptureFixture
) -> None:
    assert internvid("compare", "--recipe", "debug_tiny", "--home", str(home), *arguments) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert not (home / "media").exists()


def test_a_failed_run_is_one_line_and_exit_code_1(home: Path, capsys: pytest.CaptureFixture) -> None:
    os.environ["INTERNVID_VICLIP__OVERRIDES"] = '{"stages.0.learning_rate": "1e30"}'
    assert internvid("compare", "alpha", "beta", "--recipe", "debug_tiny", "--home", str(home)) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "the loss of step" in line and "lower the learning rate" in line and "compare.log" in line


def test_steps_are_equal_whatever_the_sizes() -> None:
    recipe = load_recipe("paper_b16")
    first, second = equal_steps(recipe, [100_000, 70_000], 8)
    for overrides, total in ((first, 100_000), (second, 70_000)):
        stages = with_overrides(recipe, [f"{name}={value}" for name, value in overrides.items()]).stages
        assert [stage.batch_size for stage in stages] == [32768, 2048]
        assert [round((s.epochs or 0) * (total // s.batch_size)) for s in stages] == [30, 24]  # 10 x 3, 0.5 x 48
    small = equal_steps(load_recipe("demo_cpu"), [50, 33], 2)
    assert small == [{"stages.0.batch_size": "32", "stages.1.batch_size": "32"}] * 2
    assert equal_steps(load_recipe("debug_tiny"), [50, 33], 1) == [{}, {}]
