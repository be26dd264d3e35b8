"""What Dagster shows as stale when the recipe changes, before and after a re-captioning: code versions in real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from internvid_assets.home import prepare_home
from internvid_assets.lake import Lake
from internvid_assets.settings import Settings
from internvid_assets.store import open_store
from tests.captions.homes import make_home

PROGRAM = """
import json, sys
import dagster as dg
from internvid_assets import automation
from internvid_assets.definitions import defs

TEXTS = ["captions.coarse_captions", "captions.fine_captions", "captions.transcripts", "captions.captions"]
instance = automation.instance()
instance.add_dynamic_partitions("batch", ["b"])
for job, assets, batch, config in json.loads(sys.argv[1]):
    assert automation.run_job(job, assets, batch, config).error is None
graph, stale = defs.resolve_asset_graph(), []
for name in TEXTS:
    key = dg.AssetKey(name.split("."))
    newest = instance.fetch_materializations(dg.AssetRecordsFilter(key, asset_partitions=["b"]), 1).records[0]
    if newest.asset_materialization.tags["dagster/code_version"] != graph.get(key).code_version:
        stale.append(name)
print(json.dumps(stale))
"""
TEXTS = ["captions.coarse_captions", "captions.fine_captions", "captions.transcripts", "captions.captions"]


def stale_after(home: Path, *jobs: tuple, **settings: str) -> list[str]:
    """The tables of texts whose newest materialisation is not of the current code version, once the jobs have run."""
    env = {
        **os.environ,
        "INTERNVID_HOME": str(home),
        "DAGSTER_HOME": str(home / "dagster"),
        "INTERNVID_SCORES__NSFW": "none",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(jobs)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**env, **settings},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def told(home: Path, **settings: str) -> dict[str, int]:
    """The tables that `internvid stale` says lack rows by the current versions, and how many."""
    env = {**os.environ, "INTERNVID_HOME": str(home), "INTERNVID_SCORES__NSFW": "none", **settings}
    command = [sys.executable, "-c", "from internvid_assets.cli import main; main()", "stale", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env, check=True)
    return {item["table"]: item["num_items"] for item in json.loads(done.stdout) if item["num_items"]}


def recaption(budget: int) -> tuple:
    return ("recaption", None, None, {"ops": {"recaption_stale_clips": {"config": {"budget": budget}}}})


def test_another_merge_rule_makes_the_captions_stale_and_nothing_else(tmp_path: Path) -> None:
    prepare_home(tmp_path)
    lake = Lake(Settings(home=tmp_path))
    make_home(lake, open_store(Settings(home=tmp_path)), 1, 6)
    lake.close()
    first = [("build_dataset", [*TEXTS, "scores.clip_scores"], "b", None), ("refresh_subsets", None, None, None)]
    assert stale_after(tmp_path, *first) == []
    assert told(tmp_path) == {}
    other = {"INTERNVID_CAPTIONS__MERGE_RULE": "coarse"}
    assert stale_after(tmp_path, **other) == ["captions.captions"]
    assert told(tmp_path, **other) == {"captions.captions": 6}
    assert stale_after(tmp_path, recaption(2), **other) == ["captions.captions"]  # four of six are still stale
    assert told(tmp_path, **other) == {"captions.captions": 4}
    assert stale_after(tmp_path, recaption(100), **other) == []
    assert stale_after(tmp_path) == ["captions.captions"]
    other_frames = {"INTERNVID_CAPTIONS__OPTIONS": '{"max_second_frames": "1"}'}
    assert stale_after(tmp_path, **other_frames) == ["captions.fine_captions", "captions.captions"]
