"""Shards become checkpoints: train every role that is missing, put the weights into the store."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from internvid_assets.lake import Append, Lake
from internvid_assets.lake.stage import StageResult
from internvid_assets.settings import ViclipSettings
from internvid_assets.store import ObjectStore
from internvid_assets.store.objects import file_sha256
from internvid_assets.viclip.kubernetes.mirror import forget
from internvid_assets.viclip.launch import (
    FILES,
    Training,
    check_finished,
    check_settings,
    recipes,
    run_key,
    train_command,
)
from training.run_log import read_metrics

Launch = Callable[[Sequence[str]], None]
"""Runs a command to its end; raises when it fails."""
Train = Callable[[Training], None]
"""Trains to the end, wherever; raises when that fails."""


def train_here(settings: ViclipSettings, store: ObjectStore, launch: Launch) -> Train:
    """Training by a command on this machine."""

    def train(training: Training) -> None:
        shards = store.local_folder(f"shards/{training.shards_id}")
        launch(train_command(settings, training.recipe, shards, training.output))

    return train


def newest_shards(lake: Lake, subset: str) -> str:
    """Id of the shards of the subset that were written last.

    Raises: ValueError when there are none.
    """
    rows = lake.rows(
        "select shards_id from release.training_shards where subset = ? and withdrawn_by is null "
        "order by snapshot_id desc limit 1",
        [subset],
    )
    if not rows:
        raise ValueError(f"there are no shards of {subset}: make the asset training_shards first")
    return rows[0]["shards_id"]


def train_models(
    lake: Lake, store: ObjectStore, settings: ViclipSettings, subset: str, cache: Path, train: Train
) -> StageResult:
    """Train each role of the settings on the newest shards; a broken run goes on after its last saved step.

    The same recipes, seed, shards and code are trained once.
    """
    check_settings(settings)
    shards_id = newest_shards(lake, subset)
    key = run_key(settings, shards_id)
    held = {r["role"] for r in lake.rows("select role from viclip.viclip_checkpoint where run_key = ?", [key])}
    rows, gpu_seconds = [], 0.0
    for role, recipe in recipes(settings).items():
        training = Training(key, role, recipe, shards_id, cache / "training" / f"{key}-{role}")
        if role in held:
            forget(store, training.name)
            continue
        began = time.monotonic()
        train(training)
        check_finished(training.output, FILES)
        gpu_seconds += _num_gpus(training.output) * (time.monotonic() - began)
        rows.append({"run_key": key, "role": role, **_store(store, training.output)})
    trained = lake.to_arrow("viclip.viclip_checkpoint", rows)
    num_samples = lake.value("select sum(num_samples) from release.training_shards where shards_id = ?", [shards_id])
    return StageResult(
        [Append("viclip.viclip_checkpoint", trained, ("checkpoint_id", "run_key", "role"))],
        num_in=int(num_samples),
        num_out=len(recipes(settings)),
        metadata={"run_key": key, "shards_id": shards_id, **{r["role"]: store.uri(r["checkpoint_key"]) for r in rows}},
        costs={"gpu_seconds": gpu_seconds} if gpu_seconds else {},
    )


def _num_gpus(output: Path) -> int:
    """That a finished run trained on."""
    run = json.loads((output / "run.json").read_text())
    return 0 if run["device"] == "cpu" else int(run["world_size"])


def _store(store: ObjectStore, output: Path) -> dict[str, Any]:
    """Put a finished run under the hash of its weights; its row."""
    run = json.loads((output / "run.json").read_text())
    digest = file_sha256(output / "model.safetensors")
    checkpoint_id = f"{run['recipe']['name']}-{digest[:12]}"
    key = f"checkpoints/{checkpoint_id}"
    if not store.exists(f"{key}/run.json"):
        for torn in list(store.keys(f"{key}/")):
            store.delete(torn)
        for name in FILES:  # run.json last: it marks the folder as whole
            store.put_file(f"{key}/{name}", output / name)
    return {
        "checkpoint_id": checkpoint_id, "recipe": run["recipe"]["name"], "seed": run["seed"],
        "shards_id": run["shards_id"], "checkpoint_key": key, "weights_sha256": digest, "num_steps": run["num_steps"],
        "num_samples_seen": run["num_samples_seen"], "final_loss": read_metrics(output)[-1]["loss"], "git_commit": run["git_commit"],
    }  # fmt: skip
