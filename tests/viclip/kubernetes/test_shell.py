"""`dagster job launch -j train_viclip` with the launcher `k8s`: settings by environment variables, nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef

from internvid_assets.home import prepare_home
from internvid_assets.lake import Lake
from internvid_assets.lake.changes import Write
from internvid_assets.release import publish
from internvid_assets.settings import Settings
from internvid_assets.store import open_store
from tests.kubesim import KubeSim
from tests.training.conftest import frames_of
from tests.viclip.kubernetes.conftest import only_row

ROOT = Path(__file__).parents[3]
PAIRS = """
create table lake.subsets.internvid_10m_flt as
select 'video' || (i // 3) || '_' || i as clip_id, 'video' || (i // 3) as video_id, 'thing ' || i as caption
from range(16) as numbers(i)
"""


def hold_subset(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A subset of 16 pairs and its shards, from frames that need no videos."""
    frames = type("Frames", (), {"of_clips": staticmethod(frames_of)})
    monkeypatch.setattr(publish, "FrameSource", lambda lake, store: frames)
    lake = Lake(settings)
    lake.connection.execute("create schema if not exists lake.subsets")
    lake.connection.execute(PAIRS)
    result = publish.build_shards(
        lake, open_store(settings), settings.release, settings.cache_folder, lambda it, *_: it
    )
    lake.commit(Write("release.training_shards", "test", None, lake.snapshot_id(), []), result.changes)
    lake.close()


def environment_of(settings: Settings) -> dict[str, str]:
    """What makes these settings of the defaults."""
    values = {
        "INTERNVID_HOME": str(settings.home), "DAGSTER_HOME": str(settings.home / "dagster"),
        "INTERNVID_VICLIP": settings.viclip.model_dump_json(), "DAGSTER_DISABLE_TELEMETRY": "1",
    }  # fmt: skip
    return {**os.environ, "PYTHONPATH": str(ROOT), **values}


def test_train_viclip_is_launched_on_the_cluster(
    sim: KubeSim, home: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = home(with_shards=False)
    hold_subset(settings, monkeypatch)
    prepare_home(settings.home)
    dagster = Path(sys.executable).parent / "dagster"
    command = [dagster, "job", "launch", "-w", ROOT / "workspace.yaml", "-j", "train_viclip"]
    subprocess.run(command, env=environment_of(settings), check=True, capture_output=True, timeout=120)
    reference = InstanceRef.from_dir(str(settings.home / "dagster"))
    with dg.DagsterInstance.from_ref(reference) as instance:
        run = sim.until(lambda: next((one for one in instance.get_runs() if one.is_finished), None), 240)
        told = "\n".join(entry.user_message for entry in instance.all_logs(run.run_id))
        assert run.is_success, told
        assert "step 6/6" in told
    assert len(sim.all("jobs")) == 1 and len(sim.all("pods")) == 2 and only_row(settings)["num_steps"] == 6
