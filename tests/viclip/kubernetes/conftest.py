"""A cluster of two nodes, a home on a volume that they share (or on S3), and shards to train on."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from internvid_assets.lake import Lake
from internvid_assets.settings import KubernetesSettings, S3Settings, Settings, ViclipSettings
from internvid_assets.store import open_store
from internvid_assets.viclip.assets import viclip_checkpoint
from tests.kubesim import KubeSim
from tests.kubesim.container import why_no_namespaces
from tests.servers import free_ports
from tests.training.conftest import shards as shards
from training.run_log import read_metrics

QUICK = {"stages.0.batch_size": "8", "stages.1.batch_size": "8", "save_every": "1"}


@pytest.fixture
def sim() -> Iterator[KubeSim]:
    """A folder of its own: pods run as another user, who may not look into pytest's."""
    if reason := why_no_namespaces():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="kubesim-"))
    folder.chmod(0o755)
    try:
        with KubeSim(folder) as sim:
            yield sim
    finally:
        shutil.rmtree(folder)


def kubernetes_settings(sim: KubeSim, **more: Any) -> KubernetesSettings:
    values: dict[str, Any] = {
        "image": "internvid-trainer:test", "nodes": 2, "gpu_resource": "none", "resources": {"cpu": "1", "memory": "2Gi"},
        "poll_seconds": 0.1, "kubeconfig": str(sim.kubeconfig), "port": free_ports(1)[0] & ~1 | 1,
        "start_timeout_seconds": 60.0, "backoff_limit": 2,
    }  # fmt: skip
    return KubernetesSettings(**{**values, **more})


@pytest.fixture
def home(sim: KubeSim, shards: Path) -> Callable[..., Settings]:
    """Makes a home with shards: on the claim, or with its media on S3."""

    def make(
        s3: S3Settings | None = None, overrides: dict[str, str] | None = None, **kubernetes: Any
    ) -> Settings:  # fmt: skip
        claim = sim.claim("shared")
        on_claim = {} if s3 else {"claim": "shared", "claim_path": str(claim)}
        settings = Settings(
            home=claim / "home",
            media_root=f"s3://internvid/{sim.folder.name}" if s3 else None,
            s3=s3 or S3Settings(),
            viclip=ViclipSettings(
                recipe="debug_tiny", num_processes=1, launcher="k8s", overrides={**QUICK, **(overrides or {})},
                kubernetes=kubernetes_settings(sim, **on_claim, **kubernetes),
            ),
        )  # fmt: skip
        hold_shards(settings, shards)
        return settings

    return make


def hold_shards(settings: Settings, folder: Path) -> None:
    """Put a shard folder into the store, and its rows into the lake."""
    manifest = json.loads((folder / "manifest.json").read_text())
    open_store(settings).put_folder(f"shards/{manifest['shards_id']}", folder)
    lake = Lake(settings)
    for shard in manifest["shards"]:
        lake.connection.execute(
            "insert into lake.release.training_shards by name select ? as shards_id, ? as subset, 1 as snapshot_id, "
            "? as shard_key, ? as num_samples",
            [manifest["shards_id"], settings.release.training_subset, shard["name"], shard["num_samples"]],
        )
    lake.close()


def materialize(settings: Settings, instance: dg.DagsterInstance | None = None) -> dg.ExecuteInProcessResult:
    """`viclip_checkpoint`, by Dagster."""
    lake = Lake(settings)
    try:
        return dg.materialize(
            [viclip_checkpoint],
            resources={"settings": settings, "lake": lake, "store": open_store(settings)},
            instance=instance,
            raise_on_error=False,
        )
    finally:
        lake.close()


def losses(settings: Settings) -> list[tuple[int, float]]:
    """Step and loss of every logged step."""
    [output] = (settings.cache_folder / "training").iterdir()
    return [(row["step"], row["loss"]) for row in read_metrics(output)]


def only_row(settings: Settings) -> dict[str, Any]:
    """The one checkpoint of the lake."""
    lake = Lake(settings)
    [row] = lake.rows("select * from viclip.viclip_checkpoint")
    lake.close()
    return row
