"""The files in the ConfigMaps, read by the programs that will read them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config
from dagster._core.instance.ref import InstanceRef
from dagster._core.workspace.load import location_origins_from_yaml_paths
from dagster_aws.s3.compute_log_manager import S3ComputeLogManager

from internvid_assets import automation
from internvid_assets.settings import Settings, ViclipSettings
from tests.k8s.charts import VARIANTS, environment, file_of, find, render

SECRET = {"PGPASSWORD": "p", "INTERNVID_S3__ACCESS_KEY_ID": "a", "INTERNVID_S3__SECRET_ACCESS_KEY": "s"}


@pytest.fixture(params=VARIANTS)
def documents(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return render(request.param)


def settings_of(documents: list[dict[str, Any]], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings as a pod has them: the chart's environment, and its file where it is mounted."""
    (folder / "internvid.toml").write_text(file_of(documents, "settings", "internvid.toml"))
    given = {**environment(documents, SECRET), "INTERNVID_CONFIG": str(folder / "internvid.toml")}
    for name in [name for name in os.environ if name.startswith("INTERNVID_")]:
        monkeypatch.delenv(name)
    for name, value in given.items():
        launcher = name.startswith(("INTERNVID_VICLIP__KUBERNETES", "INTERNVID_VICLIP__LAUNCHER"))
        if not launcher or "kubernetes" in ViclipSettings.model_fields:  # it comes with docs/kubernetes-training.md
            monkeypatch.setenv(name, value)
    return Settings()


def test_the_settings_load(documents: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(documents, tmp_path, monkeypatch)
    assert settings.execution.executor == "k8s"
    assert settings.media_uri.startswith("s3://") and settings.data_path.startswith("s3://")
    assert settings.catalog_uri.startswith("postgres:host=")
    assert (settings.s3.access_key_id, settings.s3.secret_access_key) == ("a", "s")
    assert automation.schedules(settings.execution.running_schedules)
    mounts = find(documents, "Deployment", "code")["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    [folder] = [mount["mountPath"] for mount in mounts if mount["name"] == "settings"]
    data = find(documents, "ConfigMap", "settings")["data"]
    assert str(settings.execution.config) in {f"{folder}/{name}" for name in data}


def test_dagster_accepts_its_file(
    documents: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(documents, SECRET).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "dagster.yaml").write_text(find(documents, "ConfigMap", "instance")["data"]["dagster.yaml"])
    reference = InstanceRef.from_dir(str(tmp_path))  # raises where a field is unknown or wrong
    assert type(reference.run_coordinator).__name__ == "QueuedRunCoordinator"
    logs = reference.compute_log_manager
    assert isinstance(logs, S3ComputeLogManager)
    assert f"s3://{logs._s3_bucket}/{logs._s3_prefix}".startswith(
        environment(documents, SECRET)["INTERNVID_MEDIA_ROOT"]
    )
    assert reference.run_storage_data.class_name == "PostgresRunStorage"


def test_a_wrong_field_of_dagster_s_file_would_be_noticed(tmp_path: Path) -> None:
    file = file_of(render("kind"), "instance", "dagster.yaml")
    file["run_monitoring"]["enable"] = True
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(file))
    with pytest.raises(dg.DagsterInvalidConfigError, match="enable"):
        dagster_instance_config(str(tmp_path))


def test_the_workspace_names_the_service_of_the_code_location(documents: list[dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "workspace.yaml"
    path.write_text(find(documents, "ConfigMap", "settings")["data"]["workspace.yaml"])
    [origin] = location_origins_from_yaml_paths([str(path)])
    service = find(documents, "Service", "code")
    assert (origin.host, origin.port) == (service["metadata"]["name"], service["spec"]["ports"][0]["port"])  # type: ignore[attr-defined]


def test_concurrency_limits_name_jobs_of_ours(documents: list[dict[str, Any]]) -> None:
    from internvid_assets.definitions import defs

    limits = file_of(documents, "instance", "dagster.yaml")["run_coordinator"]["config"]["tag_concurrency_limits"]
    names = {limit["value"] for limit in limits if limit["key"] == "dagster/job_name"}
    assert names <= {job.name for job in defs.resolve_all_job_defs()}


def test_keys_of_the_lake_come_from_where_the_store_s_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    from internvid_assets.lake.catalog import _s3_secret
    from internvid_assets.settings import S3Settings

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "role")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s'e")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "passing")
    made = _s3_secret(S3Settings(endpoint_url="https://s3.example"))
    assert "key_id 'role'" in made and "secret 's''e'" in made and "session_token 'passing'" in made
    assert "endpoint 's3.example'" in made
