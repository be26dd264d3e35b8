"""What made a run: enough to resume and to explain it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from training.phases import Shards
from training.recipe import Recipe


def identity_of(recipe: Recipe, shards: Sequence[Shards], seed: int, init: Path | None) -> dict[str, Any]:
    """What decides the weights; a resumed run must agree in all of it. Of a mixture, lists in the order given."""
    manifests = [one.manifest for one in shards]
    facts: dict[str, list[Any]] = {
        "shards_id": [manifest.shards_id for manifest in manifests],
        "shards_manifest_sha256": [manifest.sha256 for manifest in manifests],
        "subset": [manifest.subset for manifest in manifests],
        "snapshot_id": [manifest.snapshot_id for manifest in manifests],
        "shards_weight": [one.weight for one in shards],
    }
    return {
        "recipe": recipe.to_dict(),
        **{name: values[0] if len(shards) == 1 else values for name, values in facts.items()},
        "seed": seed,
        "init": str(init) if init else None,
    }


def circumstances(world_size: int) -> dict[str, Any]:
    return {
        "git_commit": _git_commit(),
        "world_size": world_size,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "versions": {name: version(name) for name in ("torch", "deepspeed", "transformers")},
    }


def _git_commit() -> str:
    """Of this checkout; `unknown` where there is no git or the code was installed without its history."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    command = [git, "rev-parse", "HEAD"]
    found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def claim(output: Path, identity: dict[str, Any], rank: int) -> None:
    """Mark the folder as this run's. Raises: ValueError when it is another's."""
    path = output / "identity.json"
    wanted = json.loads(json.dumps(identity))
    if path.exists() and json.loads(path.read_text()) != wanted:
        raise ValueError(
            f"{output} holds another run (see {path}): choose another --output, or delete it to start anew"
        )
    dist.barrier()
    if rank == 0:
        output.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(wanted, indent=1) + "\n")
    dist.barrier()
