"""Checkpoints become numbers and a report: evaluate every run that lacks an evaluation by the current protocol."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from internvid_assets.clips.frames import FrameSource
from internvid_assets.lake import Append, Lake
from internvid_assets.lake.stage import StageResult
from internvid_assets.settings import ViclipSettings
from internvid_assets.store import ObjectStore
from internvid_assets.viclip.launch import check_finished, evaluate_command, evaluation_key, run_key
from internvid_assets.viclip.newest import newest_report
from internvid_assets.viclip.report import write_report
from internvid_assets.viclip.train import Launch

_COLUMNS = ("metric", "value", "low", "high", "chance", "num_items")
_WAITING = """
select run_key, max_by(checkpoint_id, role = 'viclip') as checkpoint_id, any_value(shards_id) as shards_id,
    map_from_entries(list((role, checkpoint_key) order by role desc)) as checkpoints
from viclip.viclip_checkpoint
where run_key not in (
    select c.run_key from viclip.viclip_checkpoint as c
    join viclip.viclip_evaluation as e using (checkpoint_id) where e.evaluation_key = $1 and c.role = 'viclip'
)
group by run_key order by run_key
"""


def evaluate_models(
    lake: Lake, store: ObjectStore, settings: ViclipSettings, cache: Path, launch: Launch
) -> tuple[StageResult, str | None]:
    """Evaluate and report; the rows to store, and the key of the newest report's folder.

    Raises: ValueError when there is no checkpoint.
    """
    if not lake.value("select count(*) from viclip.viclip_checkpoint"):
        raise ValueError("there is no checkpoint: make the asset viclip_checkpoint first")
    key = evaluation_key(settings)
    rows: list[dict[str, Any]] = []
    waiting = [run for run in lake.rows(_WAITING, [key]) if not _only_compared(lake, settings, run)]
    report_key = None
    for run in waiting:
        output = cache / "evaluation" / f"{run['run_key']}-{key}"
        shutil.rmtree(output, ignore_errors=True)
        folders = {role: store.local_folder(folder) for role, folder in run["checkpoints"]}
        shards = [] if settings.benchmarks else [store.local_folder(f"shards/{run['shards_id']}")]
        launch(evaluate_command(settings, folders, shards, output))
        check_finished(output, ["evaluation.json"])
        evaluation = json.loads((output / "evaluation.json").read_text())
        write_report(output, lake, FrameSource(lake, store), run["checkpoint_id"], folders, evaluation)
        report_key = f"reports/{run['checkpoint_id']}-{key}"
        for torn in list(store.keys(f"{report_key}/")):
            store.delete(torn)
        store.put_folder(report_key, output)
        rows += [{**row, "checkpoint_id": run["checkpoint_id"], "evaluation_key": key, "report_key": report_key}
                 for row in evaluation_rows(evaluation)]  # fmt: skip
    change = Append(
        "viclip.viclip_evaluation",
        lake.to_arrow("viclip.viclip_evaluation", rows),
        ("checkpoint_id", "evaluation_key", "model", "benchmark", "metric"),
    )
    num_in = lake.value("select count(*) from viclip.viclip_checkpoint")
    metadata = {row["model"] + " " + row["benchmark"] + " " + row["metric"]: row["value"] for row in rows}
    return StageResult([change], num_in, len(rows), metadata=metadata), report_key or newest_report(lake)


def _only_compared(lake: Lake, settings: ViclipSettings, run: Mapping[str, Any]) -> bool:
    """Whether a run was made by `internvid compare`, which evaluates for itself, and is none of these settings."""
    if run["run_key"] == run_key(settings, run["shards_id"]):
        return False
    found = lake.rows(
        "select 1 from viclip.viclip_evaluation where checkpoint_id = ? and report_key like 'comparisons/%' limit 1",
        [run["checkpoint_id"]],
    )
    return bool(found)


def evaluation_rows(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The shares in an `evaluation.json` as rows of the lake; ranks are no shares and stay in the report."""
    return [
        {"model": result["model"], "benchmark": result["benchmark"], **{n: figure[n] for n in _COLUMNS}}
        for result in evaluation["results"]
        for figure in result["figures"]
        if not figure["metric"].endswith("_rank")
    ]
