"""Where steps run: this machine unless the settings say otherwise."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from dagster_aws.s3 import S3PickleIOManager

from internvid_assets.automation import SCHEDULES, schedules
from internvid_assets.definitions import defs
from internvid_assets.executor import executor, shared_resources
from internvid_assets.settings import ExecutionSettings, Settings


def k8s(tmp_path: Path, text: str | None = None, **more: object) -> Settings:
    config = None
    if text is not None:
        config = tmp_path / "executor.yaml"
        config.write_text(text)
    return Settings(home=tmp_path, execution=ExecutionSettings(executor="k8s", config=config), **more)  # type: ignore[arg-type]


def test_by_default_nothing_is_chosen_and_dagster_s_own_processes_do_the_work(tmp_path: Path) -> None:
    assert executor(Settings(home=tmp_path)) is None
    assert shared_resources(Settings(home=tmp_path)) == {}
    assert defs.executor is None
    assert {job.executor_def.name for job in defs.resolve_all_job_defs()} == {dg.multi_or_in_process_executor.name}


def test_k8s_is_dagster_k8s_s_executor_with_the_file_s_configuration(tmp_path: Path) -> None:
    made = executor(k8s(tmp_path, "job_namespace: ml\nmax_concurrent: 3\n"))
    assert made is not None
    config = made.apply_config_mapping({"config": {}}).value["config"]
    assert (config["job_namespace"], config["max_concurrent"]) == ("ml", 3)


def test_a_wrong_file_is_told_by_name(tmp_path: Path) -> None:
    missing = Settings(home=tmp_path, execution=ExecutionSettings(executor="k8s", config=tmp_path / "none.yaml"))
    with pytest.raises(ValueError, match=r"none\.yaml.*no such file"):
        executor(missing)
    with pytest.raises(ValueError, match="want a mapping"):
        executor(k8s(tmp_path, "- a\n"))


def test_pods_hand_over_values_by_the_media_root(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs media_root"):
        shared_resources(k8s(tmp_path))
    made = shared_resources(k8s(tmp_path, media_root="s3://bucket/some/media"))["io_manager"]
    assert isinstance(made, S3PickleIOManager)
    assert (made.s3_bucket, made.s3_prefix) == ("bucket", "some/media/dagster")
    folder = shared_resources(k8s(tmp_path, media_root=str(tmp_path / "shared")))["io_manager"]
    assert folder.base_dir == str(tmp_path / "shared" / "dagster")


def test_schedules_named_in_the_settings_are_on_and_the_others_off() -> None:
    assert {s.name: s.default_status for s in schedules(("nightly_maintenance",))} == {
        "nightly_recaption": dg.DefaultScheduleStatus.STOPPED,
        "nightly_maintenance": dg.DefaultScheduleStatus.RUNNING,
    }
    assert {s.default_status for s in schedules()} == {dg.DefaultScheduleStatus.STOPPED}
    with pytest.raises(ValueError, match=f"no schedule 'weekly'; there are {', '.join(SCHEDULES)}"):
        schedules(("weekly",))
