"""The rights of each account are those that its processes use, no more and no fewer."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import pytest
from dagster_k8s.executor import K8sStepHandler

from tests.k8s.charts import ROOT, find, render
from tests.k8s.lint import containers_of, pod_of
from tests.k8s.recorded import RecordedApi, handler_of, launcher_of, step_context
from tests.k8s.test_jobs import launched

LAUNCHER = ROOT / "internvid_assets" / "viclip" / "kubernetes"


def granted(role: str, *values: str) -> set[tuple[str, str, str]]:
    """(API group, resource, verb) of a role."""
    rules = find(render("defaults", *values), "Role", role)["rules"]
    return {(g, r, v) for rule in rules for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}


@pytest.fixture
def instance(tmp_path: Path, recorded: RecordedApi) -> Any:
    overrides = {"run_launcher": launcher_of(render("defaults"), tmp_path)}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides=overrides) as made:
        yield made


def terminate(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    assert instance.run_launcher.terminate(run.run_id)


def launch(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    launched(instance)


def watch(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    health = instance.run_launcher.check_run_worker_health(run)
    assert health.status.value == "FAILED", health
    told = instance.run_launcher.get_run_worker_debug_info(run)
    assert told is not None and "OOMKilled" in told and "Killed" in told


def test_the_webserver_may_end_runs_and_no_more(instance: dg.DagsterInstance, recorded: RecordedApi) -> None:
    assert asked(instance, recorded, terminate) == granted("webserver")


def test_the_daemon_may_start_watch_and_end_runs(instance: dg.DagsterInstance, recorded: RecordedApi) -> None:
    without_pods = {("batch", "jobs", "list")}  # asked of a Job that has no pod yet
    assert asked(instance, recorded, launch, watch, terminate) | without_pods == granted("daemon")


def asked(
    instance: dg.DagsterInstance,
    recorded: RecordedApi,
    *acts: Callable[[dg.DagsterInstance, dg.DagsterRun], None],
) -> set[tuple[str, str, str]]:
    """What a process asks the API when it does these things with a run."""
    run = launched(instance)
    recorded.asked.clear()
    for act in acts:
        act(instance, run)
    return set(recorded.asked)


def test_a_run_s_pod_may_start_watch_and_end_steps(
    instance: dg.DagsterInstance, recorded: RecordedApi, tmp_path: Path
) -> None:
    handler: K8sStepHandler = handler_of(render("defaults"), instance, tmp_path)
    context = step_context(instance, "clips__clips")
    recorded.asked.clear()
    with mock.patch("dagster._core.events.DagsterEvent.step_worker_starting"):
        list(handler.launch_step(context))
    assert not handler.check_step_health(context).is_healthy
    with mock.patch("dagster._core.events.DagsterEvent.engine_event"):
        list(handler.terminate_step(context))
    assert recorded.asked == granted("run")


@pytest.mark.parametrize("backend", ["job", "jobset", "trainjob"])
def test_the_training_launcher_may_do_what_its_code_calls(backend: str) -> None:
    code = "\n".join(path.read_text() for path in LAUNCHER.glob("*.py"))
    called = set(re.findall(r"\b(create|delete|get|list|patch|read|watch)_namespaced_(\w+)", code))
    group, plural = {
        "job": ("batch", "jobs"),
        "jobset": ("jobset.x-k8s.io", "jobsets"),
        "trainjob": ("trainer.kubeflow.org", "trainjobs"),
    }[backend]
    names = {"custom_object": (group, plural), "job": ("batch", "jobs"), "pod_log": ("", "pods/log")}
    used = {(*names.get(thing, ("", f"{thing}s")), "get" if verb == "read" else verb) for verb, thing in called}
    assert used == granted("train", "training.enabled=true", f"training.backend={backend}")


def test_without_training_pods_no_account_may_read_secrets() -> None:
    roles = [document for document in render("defaults") if document["kind"] == "Role"]
    assert [rule for role in roles for rule in role["rules"] if "secrets" in rule["resources"]] == []
    assert {role["metadata"]["name"] for role in roles} == {"internvid-webserver", "internvid-daemon", "internvid-run"}


def test_what_reads_videos_or_waits_for_calls_has_no_rights() -> None:
    documents = render("everything")
    code = find(documents, "Deployment", "code")["spec"]["template"]["spec"]
    assert code["serviceAccountName"] == "internvid-step"
    bound = {s["name"] for d in documents if d["kind"] == "RoleBinding" for s in d["subjects"]}
    assert bound == {"internvid-webserver", "internvid-daemon", "internvid-run", "internvid-train"}


def test_a_token_is_where_dagster_runs_and_nowhere_else() -> None:
    """Dagster loads its run launcher in every process, and that wants a token; test_processes.py shows it."""
    for document in render("everything"):
        if pod := pod_of(document):
            programs = {container["command"][0] for container in containers_of(pod) if "command" in container}
            dagster = any(program.startswith("dagster") for program in programs)
            assert pod["spec"]["automountServiceAccountToken"] is dagster, document["metadata"]["name"]
    accounts = [document for document in render("everything") if document["kind"] == "ServiceAccount"]
    assert {account["automountServiceAccountToken"] for account in accounts} == {False}
