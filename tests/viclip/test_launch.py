"""What is run, and when it must be run again."""

from __future__ import annotations

from pathlib import Path

import pytest

from internvid_assets.settings import ViclipSettings
from internvid_assets.viclip.evaluate import evaluation_rows
from internvid_assets.viclip.launch import check_settings, evaluate_command, evaluation_key
from tests.training.test_benchmarks import msvd
from training.evaluate import make_parser


def test_a_folder_is_a_public_benchmark_and_a_file_a_plain_one(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("path,label\na.mp4,run\n")
    settings = ViclipSettings(benchmarks={"msvd": str(msvd(tmp_path / "data")), "mine": str(tmp_path / "mine.csv")})
    check_settings(settings)
    command = evaluate_command(settings, {"viclip": Path("run")}, [Path("one"), Path("two")], tmp_path)
    arguments = make_parser().parse_args(command[3:])
    assert arguments.data == [f"msvd={tmp_path / 'data'}"] and arguments.benchmark == [f"mine={tmp_path / 'mine.csv'}"]
    assert arguments.shards == [Path("one"), Path("two")] and arguments.checkpoint == ["viclip=run"]
    with pytest.raises(ValueError, match="benchmark k400: no annotations of its test split"):
        check_settings(ViclipSettings(benchmarks={"k400": str(tmp_path / "data")}))


def test_other_annotations_are_another_evaluation(tmp_path: Path) -> None:
    settings = ViclipSettings(benchmarks={"msvd": str(msvd(tmp_path))})
    before = evaluation_key(settings)
    assert evaluation_key(settings) == before
    (tmp_path / "msvd_ret_test.json").write_text('[{"video": "a.avi", "caption": "another"}]')
    assert evaluation_key(settings) != before


def test_only_shares_are_rows_of_the_lake() -> None:
    figure = {"value": 0.5, "low": 0.4, "high": 0.6, "chance": 0.1, "num_items": 10, "interval": "Wilson"}
    names = ("t2v_R@1", "t2v_median_rank", "v2t_mean_rank", "top1")
    result = {"model": "viclip", "benchmark": "b", "figures": [{"metric": name, **figure} for name in names]}
    rows = evaluation_rows({"results": [result]})
    assert [row["metric"] for row in rows] == ["t2v_R@1", "top1"] and "interval" not in rows[0]
