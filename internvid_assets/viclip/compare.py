"""Two subsets, one recipe: the same small model trained on each with equal steps and seeds, and what differs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from internvid_assets.errors import RunFailed
from internvid_assets.lake import Append, Lake
from internvid_assets.lake.stage import StageResult, short_hash
from internvid_assets.progress import bar
from internvid_assets.release.publish import CODE_VERSION, build_shards
from internvid_assets.settings import Settings, ViclipSettings
from internvid_assets.store import ObjectStore
from internvid_assets.viclip.evaluate import evaluation_rows
from internvid_assets.viclip.launch import (
    check_finished,
    check_settings,
    environment,
    evaluate_command,
    evaluation_key,
    source_hash,
)
from internvid_assets.viclip.train import Launch, train_here, train_models
from training.compare import compare_ranks
from training.recipe import Recipe, with_overrides
from training.recipes import load_recipe

FILES = ("compare.json", "compare.md")


@dataclass(frozen=True)
class Plan:
    """What is compared: subset A, subset B, and the settings of every run."""

    subsets: tuple[str, str]
    viclip: ViclipSettings
    num_seeds: int

    @property
    def seeds(self) -> range:
        """Of the runs, from the settings' seed on."""
        return range(self.viclip.seed, self.viclip.seed + self.num_seeds)


@dataclass(frozen=True)
class Side:
    """One subset with its shards and the overrides that give it the steps of the other."""

    subset: str
    shards_id: str
    num_samples: int
    overrides: Mapping[str, str]


def make_plan(lake: Lake, settings: Settings, subsets: tuple[str, str], recipe: str, num_seeds: int) -> Plan:
    """Raises: ValueError naming the subset that does not exist or is empty, the recipe that does not, or a wrong setting."""
    if subsets[0] == subsets[1]:
        raise ValueError(f"both subsets are {subsets[0]}: name two")
    for subset in subsets:
        if not subset.isidentifier() or not lake.has_table(f"subsets.{subset}"):
            known = lake.rows(
                "select table_name as name from information_schema.tables where table_catalog = 'lake' and "
                "table_schema = 'subsets' order by 1"
            )
            raise ValueError(
                f"subset {subset!r} does not exist; there are {', '.join(r['name'] for r in known) or 'none yet'}"
            )
        if missing := {"clip_id", "video_id", "caption"} - set(lake.schema(f"subsets.{subset}").names):
            raise ValueError(f"subset {subset} holds no pairs to train on: it lacks {', '.join(sorted(missing))}")
        if not lake.value(f"select count(*) from subsets.{subset}"):
            raise ValueError(f"subset {subset} is empty")
    here = {"recipe": recipe, "control_recipe": None, "launcher": "local"}
    viclip = settings.viclip.model_copy(update=here)
    check_settings(viclip)
    return Plan(subsets, viclip, num_seeds)


def compare_subsets(lake: Lake, store: ObjectStore, settings: Settings, plan: Plan, launch: Launch) -> str:
    """Make shards, models and evaluations where they are missing; gives the key of the folder with compare.json and .md.

    Raises: ValueError when shards cannot be made; RunFailed when the runs did not take equal steps.
    """
    shards = [_shards(lake, store, settings, subset) for subset in plan.subsets]
    totals = [int(lake.value(_NUM_SAMPLES, [shards_id])) for shards_id in shards]
    recipe = with_overrides(load_recipe(plan.viclip.recipe), [f"{k}={v}" for k, v in plan.viclip.overrides.items()])
    overrides = equal_steps(recipe, totals, plan.viclip.num_processes)
    sides = [Side(*values) for values in zip(plan.subsets, shards, totals, overrides, strict=True)]
    key = _comparison_key(plan, sides)
    folder = f"comparisons/{key}"
    if store.exists(f"{folder}/{FILES[0]}"):
        return folder
    runs = {}
    for seed in plan.seeds:
        for side in sides:
            print(f"compare: {side.subset}, seed {seed}", file=sys.stderr)
            runs[f"{side.subset} seed {seed}"] = _train(lake, store, settings, plan, side, seed, launch)
    if len({run["num_steps"] for run in runs.values()}) > 1:
        raise RunFailed(f"the runs took different numbers of steps: { {n: r['num_steps'] for n, r in runs.items()} }")
    evaluation, ranks = _evaluate(store, settings, plan, sides, runs, key, launch)
    _store(lake, store, folder, _facts(plan, sides, runs, evaluation, ranks), key)
    _record(lake, runs, evaluation, folder, key, sides)
    return folder


_NUM_SAMPLES = "select sum(num_samples) from release.training_shards where shards_id = ?"


def equal_steps(recipe: Recipe, totals: Sequence[int], num_processes: int) -> list[dict[str, str]]:
    """Overrides of the recipe for each set of so many samples, after which all take the same steps and batches.

    Batches become as large as the smallest set can fill. A stage in steps is equal already; of one in epochs the first set
    decides the steps, and the others get as many epochs as these take.
    """
    found: list[dict[str, str]] = [{} for _ in totals]
    fitting = min(totals) // num_processes * num_processes
    for number, stage in enumerate(recipe.stages):
        batch = min(stage.batch_size, fitting)
        if batch < stage.batch_size:
            for overrides in found:
                overrides[f"stages.{number}.batch_size"] = str(batch)
        if stage.epochs is None or batch == 0:
            continue
        steps = max(1, round(stage.epochs * (totals[0] // batch)))
        for overrides, total in zip(found, totals, strict=True):
            overrides[f"stages.{number}.epochs"] = repr(steps / (total // batch))
    return found


def _shards(lake: Lake, store: ObjectStore, settings: Settings, subset: str) -> str:
    """Id of the subset's shards, made where they are missing."""
    release = settings.release.model_copy(update={"training_subset": subset})
    began, read = time.perf_counter(), lake.snapshot_id()
    result = build_shards(lake, store, release, settings.cache_folder, bar)
    if result.changes:
        _commit(
            lake, result, "release.training_shards", read, [f"subsets.{subset}", "clips.clips"], CODE_VERSION, began
        )
    return str(result.metadata.get("shards_id") or result.metadata["unchanged"])


def _train(
    lake: Lake, store: ObjectStore, settings: Settings, plan: Plan, side: Side, seed: int, launch: Launch
) -> dict[str, Any]:
    """The row of a model trained on a side; it is not trained again when it is there."""
    viclip = plan.viclip.model_copy(update={"seed": seed, "overrides": {**plan.viclip.overrides, **side.overrides}})
    began, read = time.perf_counter(), lake.snapshot_id()
    train = train_here(viclip, store, launch)
    result = train_models(lake, store, viclip, side.subset, settings.cache_folder, train)
    if result.metadata["shards_id"] != side.shards_id:
        raise RunFailed(f"shards of {side.subset} changed while the comparison ran; repeat it")
    if result.changes:
        _commit(lake, result, "viclip.viclip_checkpoint", read, ["release.training_shards"], source_hash(), began)
    key = [result.metadata["run_key"]]
    return lake.rows("select * from viclip.viclip_checkpoint where run_key = ? and role = 'viclip' limit 1", key)[0]


def _evaluate(
    store: ObjectStore,
    settings: Settings,
    plan: Plan,
    sides: Sequence[Side],
    runs: Mapping[str, Any],
    key: str,
    launch: Launch,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """All models in one process on the same items: the configured benchmarks, or the pairs of both sets of shards."""
    output = settings.cache_folder / "comparisons" / key
    shutil.rmtree(output, ignore_errors=True)
    folders = {name: store.local_folder(run["checkpoint_key"]) for name, run in runs.items()}
    shards = [] if plan.viclip.benchmarks else [store.local_folder(f"shards/{side.shards_id}") for side in sides]
    launch(evaluate_command(plan.viclip, folders, shards, output))
    names = ("evaluation.json", "ranks.json")
    check_finished(output, names)
    evaluation, ranks = (json.loads((output / name).read_text()) for name in names)
    shutil.rmtree(output)
    return evaluation, ranks


def _facts(
    plan: Plan, sides: Sequence[Side], runs: Mapping[str, Any], evaluation: Mapping[str, Any], ranks: Mapping[str, Any]
) -> dict[str, Any]:
    """All that the comparison says, as plain values."""
    models = [[ranks["models"][f"{side.subset} seed {seed}"] for seed in plan.seeds] for side in sides]
    owners = {name: videos for name, videos in ranks["owners"].items() if len(set(videos)) < len(videos)}
    return {
        "a": vars(sides[0]),
        "b": vars(sides[1]),
        "recipe": plan.viclip.recipe,
        "seeds": list(plan.seeds),
        "num_steps": next(iter(runs.values()))["num_steps"],
        "checkpoints": {name: run["checkpoint_id"] for name, run in runs.items()},
        "protocol": evaluation["protocol_told"],
        "notes": sorted({result["note"] for result in evaluation["results"]} - {""}),
        "differences": [difference.to_dict() for difference in compare_ranks(models[0], models[1], owners)],
    }


def _store(lake: Lake, store: ObjectStore, folder: str, facts: Mapping[str, Any], key: str) -> None:
    page = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = page.from_string(Path(__file__).with_name("compare.md").read_text()).render(**facts, key=key)
    with tempfile.TemporaryDirectory() as made:
        (Path(made) / "compare.md").write_text(text)
        store.put_file(f"{folder}/compare.md", Path(made) / "compare.md")
        (Path(made) / "compare.json").write_text(json.dumps(facts, indent=1) + "\n")
        store.put_file(f"{folder}/compare.json", Path(made) / "compare.json")  # last: it marks the folder as whole


def _record(
    lake: Lake, runs: Mapping[str, Any], evaluation: Mapping[str, Any], folder: str, key: str, sides: Sequence[Side]
) -> None:
    """Every figure as a row of its checkpoint."""
    rows = [
        {**row, "model": "viclip", "checkpoint_id": runs[row["model"]]["checkpoint_id"], "evaluation_key": key, "report_key": folder}
        for row in evaluation_rows(evaluation)
    ]  # fmt: skip
    table = "viclip.viclip_evaluation"
    columns = ("checkpoint_id", "evaluation_key", "model", "benchmark", "metric")
    result = StageResult([Append(table, lake.to_arrow(table, rows), columns)], num_in=len(runs), num_out=len(rows))
    _commit(lake, result, table, lake.snapshot_id(), ["viclip.viclip_checkpoint"], source_hash(), time.perf_counter())


def _commit(
    lake: Lake, result: StageResult, table: str, read: int, inputs: Sequence[str], code_version: str, began: float
) -> None:
    """Store a result with its lineage, as the asset of that table would."""
    run_id = f"compare-{os.getpid()}-{int(time.time())}"
    write = result.write(table, run_id, None, read, [(name, None) for name in inputs], code_version, seconds=time.perf_counter() - began)  # fmt: skip
    lake.commit(write, result.changes)


def _comparison_key(plan: Plan, sides: Sequence[Side]) -> str:
    """Hash of all that decides the numbers."""
    return short_hash(
        [(side.subset, side.shards_id, dict(side.overrides)) for side in sides], plan.viclip.recipe, plan.viclip.overrides,
        plan.viclip.num_processes, list(plan.seeds), evaluation_key(plan.viclip),
    )  # fmt: skip


def run_quietly(log: Path) -> Launch:
    """Runs commands with their output in a file. The launch raises RunFailed with what they said when one fails."""

    def launch(command: Sequence[str]) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            ended = subprocess.run(command, env={**os.environ, **environment()}, stdout=file, stderr=file, check=False)
        if ended.returncode:
            lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] or ["no output"]
            own = [line for line in lines if line.startswith(("training: ", "evaluation: "))]
            raise RunFailed(f"{(own or lines)[-1]} (the whole output is in {log})")

    return launch
