"""The pods that Dagster itself makes, by real dagster-k8s from the chart's files: what they get, and what they may do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import kubernetes_validate
import pytest
from dagster._core.launcher import LaunchRunContext
from dagster._core.test_utils import create_run_for_test

from internvid_assets.definitions import defs
from tests.k8s.charts import VARIANTS, file_of, find, render
from tests.k8s.lint import containers_of, pod_of, problems
from tests.k8s.recorded import RecordedApi, job_origin, launcher_of, step_bodies


@pytest.fixture(params=VARIANTS)
def documents(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return render(request.param)


@pytest.fixture
def instance(documents: list[dict[str, Any]], tmp_path: Path, recorded: RecordedApi) -> Iterator[dg.DagsterInstance]:
    """Dagster with the chart's launcher, its storage in a folder."""
    with dg.DagsterInstance.local_temp(
        str(tmp_path), overrides={"run_launcher": launcher_of(documents, tmp_path)}
    ) as made:
        yield made


def ops() -> set[str]:
    return {name for job in defs.resolve_all_job_defs() for name in job.graph.node_dict}


def checked(body: dict[str, Any], documents: list[dict[str, Any]]) -> dict[str, Any]:
    """The container of a launched Job, which is valid and keeps our rules."""
    kubernetes_validate.validate(body, "1.34", strict=True)
    held = [d for d in documents if d["kind"] in ("ConfigMap", "Secret", "ServiceAccount")]
    assert problems([body, *held]) == []
    pod = pod_of(body)
    assert pod is not None
    [container] = containers_of(pod)
    return container


def launched(instance: dg.DagsterInstance) -> dg.DagsterRun:
    job = defs.resolve_job_def("maintain_lake")
    run = create_run_for_test(
        instance,
        job_name=job.name,
        job_code_origin=job_origin(job.name),
        remote_job_origin=None,
        status=dg.DagsterRunStatus.STARTED,
    )
    instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    return run


def test_a_run_pod_is_sound(
    documents: list[dict[str, Any]], instance: dg.DagsterInstance, recorded: RecordedApi
) -> None:
    launched(instance)
    [body] = recorded.bodies
    container = checked(body, documents)
    assert container["image"] == "internvid/code:0.1.0"
    assert body["spec"]["template"]["spec"]["serviceAccountName"] == "internvid-run"
    named = find(documents, "NetworkPolicy", "run")["spec"]["podSelector"]["matchLabels"]
    assert named.items() <= body["spec"]["template"]["metadata"]["labels"].items()
    paths = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"/tmp", "/dev/shm", "/etc/internvid", "/var/lib/internvid", "/var/lib/dagster"} <= paths


def test_every_step_pod_gets_what_its_class_says(
    documents: list[dict[str, Any]], instance: dg.DagsterInstance, tmp_path: Path, recorded: RecordedApi
) -> None:
    config = file_of(documents, "settings", "executor.yaml")
    bodies = step_bodies(documents, instance, tmp_path, sorted(ops()), recorded)
    for op, body in bodies.items():
        container, spec = checked(body, documents), body["spec"]["template"]["spec"]
        wanted = config["per_step_k8s_config"].get(op, config["step_k8s_config"])
        resources = wanted["container_config"]["resources"]
        assert container["resources"] == {k: {n: str(v) for n, v in r.items()} for k, r in resources.items()}, op
        assert container["image"] == wanted["container_config"]["image"], op
        assert spec.get("nodeSelector", {}) == wanted["pod_spec_config"]["nodeSelector"], op
        assert spec.get("tolerations", []) == wanted["pod_spec_config"]["tolerations"], op
        assert body["metadata"]["labels"].get("kueue.x-k8s.io/queue-name") == wanted["job_metadata"]["labels"].get(
            "kueue.x-k8s.io/queue-name"
        ), op
        assert {e["name"] for e in container["env"]} >= {"DAGSTER_HOME", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def test_only_the_step_that_trains_has_an_account_with_rights(
    documents: list[dict[str, Any]], instance: dg.DagsterInstance, tmp_path: Path, recorded: RecordedApi
) -> None:
    bodies = step_bodies(documents, instance, tmp_path, sorted(ops()), recorded)
    accounts = {op: body["spec"]["template"]["spec"]["serviceAccountName"] for op, body in bodies.items()}
    assert [op for op, account in accounts.items() if account != "internvid-step"] == ["viclip__viclip_checkpoint"]
    assert set(accounts.values()) == {"internvid-step", "internvid-train"}


def test_the_steps_named_in_the_chart_are_steps_of_ours(documents: list[dict[str, Any]]) -> None:
    named = set(file_of(documents, "settings", "executor.yaml")["per_step_k8s_config"])
    assert named - ops() == set()
    heavy = {"__".join(key.path) for key in defs.resolve_asset_graph().executable_asset_keys}
    heavy = {op for op in heavy if op.split("__")[0] in ("videos", "clips", "captions", "scores", "viclip")}
    assert heavy - named == set(), "assets that decode or run models have a class of their own"


def test_gpus_go_to_the_steps_that_run_models() -> None:
    config = file_of(render("gpu"), "settings", "executor.yaml")["per_step_k8s_config"]
    gpus = {op for op, c in config.items() if c["container_config"]["resources"]["limits"].get("nvidia.com/gpu")}
    assert {"captions__coarse_captions", "captions__fine_captions", "scores__clip_scores"} <= gpus
    assert {"videos__raw_videos", "clips__clips"} & gpus == set()
    assert {config[op]["container_config"]["image"] for op in gpus} == {"internvid/gpu:0.1.0"}
