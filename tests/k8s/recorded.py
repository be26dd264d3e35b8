"""The Kubernetes API as dagster-k8s sees it, answered here and written down: who asked for what."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import dagster as dg
import kubernetes.client
import pytest
import yaml
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.executor.init import InitExecutorContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.storage.dagster_run import DagsterRun
from dagster_k8s.executor import K8sStepHandler

from internvid_assets.definitions import defs
from internvid_assets.executor import executor
from internvid_assets.settings import ExecutionSettings, Settings
from tests.k8s.charts import NAMESPACE, file_of

_PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/v\w+/namespaces/(?P<namespace>[^/]+)/(?P<resource>\w+)(?:/(?P<name>[^/]+)(?P<sub>/\w+)?)?"
)
_VERBS = {"POST": "create", "DELETE": "delete", "PATCH": "patch"}
_ENDED = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
_META = {"name": "pod-1", "namespace": NAMESPACE, "uid": "1", "labels": {"job-name": "job"}}
_STATUS = {"name": "dagster", "ready": False, "restartCount": 0, "image": "i", "imageID": "i", "state": _ENDED}
_POD = {
    "metadata": _META,
    "spec": {"containers": [{"name": "dagster"}]},
    "status": {"phase": "Failed", "containerStatuses": [_STATUS]},
}
_JOB = {"metadata": _META, "spec": {"template": {"spec": {"containers": []}}}, "status": {"failed": 1}}
_ANSWERS: dict[tuple[str, str], Any] = {
    ("pods/log", "get"): "Killed",
    ("jobs/status", "get"): _JOB,
    ("pods", "list"): {"items": [_POD], "metadata": {}},
    ("jobs", "list"): {"items": [], "metadata": {}},
    ("events", "list"): {"items": [], "metadata": {}},
}
"""Of a run's Job whose one pod was killed for its memory."""


@dataclass
class RecordedApi:
    """All that was asked, as (API group, resource, verb), and the manifests that were to be made."""

    asked: set[tuple[str, str, str]] = field(default_factory=set)
    bodies: list[dict[str, Any]] = field(default_factory=list)

    def call(self, client: Any, method: str, url: str, body: Any = None, **_: Any) -> Any:
        """In place of the client's HTTP: write down, and answer."""
        found = _PATH.fullmatch(urlsplit(url).path)
        assert found is not None and found["namespace"] == NAMESPACE, f"{method} {url}: beyond the release's namespace"
        resource = found["resource"] + (found["sub"] or "")
        verb = _VERBS.get(method) or ("get" if found["name"] else "list")
        self.asked.add((found["group"] or "", resource, verb))
        if method == "POST":
            self.bodies.append(body)
        answer = _ANSWERS.get((resource, verb)) or body or {"kind": "Status", "status": "Success"}
        return _Response(answer if isinstance(answer, str) else json.dumps(answer))


class _Response:
    """As much of an HTTP answer as the client reads."""

    status, reason, headers = 200, "OK", {"Content-Type": "application/json"}

    def __init__(self, text: str):
        self.data = text.encode()

    def getheaders(self) -> dict[str, str]:
        return self.headers

    def getheader(self, name: str, default: str | None = None) -> str | None:
        return self.headers.get(name, default)


def record(monkeypatch: pytest.MonkeyPatch) -> RecordedApi:
    """Until the test ends, every call of the kubernetes client in this process goes to what is given."""
    api = RecordedApi()
    monkeypatch.setattr(
        kubernetes.client.ApiClient,
        "request",
        lambda client, method, url, **more: api.call(client, method, url, **more),
    )
    return api


def launcher_of(documents: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """The chart's run launcher for Dagster's instance, but for where the API server is."""
    kubeconfig = folder / "kubeconfig"
    here = {"cluster": "here", "user": "me"}
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": "http://127.0.0.1:1"}}],
        "contexts": [{"name": "here", "context": here}], "users": [{"name": "me", "user": {}}],
    }  # fmt: skip
    kubeconfig.write_text(yaml.safe_dump(config))
    launcher = file_of(documents, "instance", "dagster.yaml")["run_launcher"]
    away = {"load_incluster_config": False, "kubeconfig_file": str(kubeconfig)}
    return {**launcher, "config": {**launcher["config"], **away}}


def job_origin(job: str) -> JobPythonOrigin:
    """Where a run's pod finds a job of ours."""
    pointer = ModuleCodePointer("internvid_assets.definitions", "defs")
    repository = RepositoryPythonOrigin("python", pointer, "internvid/code:0.1.0", ["dagster"], {})
    return JobPythonOrigin(job, repository)


def handler_of(documents: list[dict[str, Any]], instance: dg.DagsterInstance, folder: Path) -> K8sStepHandler:
    """dagster-k8s' maker of step pods, configured by the chart through our own `executor`."""
    path = folder / "executor.yaml"
    path.write_text(yaml.safe_dump(file_of(documents, "settings", "executor.yaml")))
    settings = Settings(home=folder / "home", execution=ExecutionSettings(executor="k8s", config=path))
    definition = executor(settings)
    assert definition is not None
    config = definition.apply_config_mapping({"config": {}}).value["config"]
    job = InMemoryJob(defs.resolve_job_def("build_dataset"))
    made = definition.executor_creation_fn(InitExecutorContext(job, definition, config, instance))  # type: ignore[misc]
    return made._step_handler  # type: ignore[attr-defined]


def step_context(instance: dg.DagsterInstance, op: str) -> Any:
    """As much of a step as the handler reads."""
    step = SimpleNamespace(step=SimpleNamespace(op_name=op))
    arguments = SimpleNamespace(
        step_keys_to_execute=[op], run_id="r", known_state=None, get_command_args=lambda **_: ["dagster", "api"],
        get_command_env=list, job_origin=SimpleNamespace(repository_origin=SimpleNamespace(container_image="i:1.0")),
    )  # fmt: skip
    return SimpleNamespace(
        execute_step_args=arguments, dagster_run=DagsterRun(job_name="build_dataset", run_id="r"), instance=instance,
        step_tags={op: {}}, get_step_context=lambda _: step,
    )  # fmt: skip


def step_bodies(
    documents: list[dict[str, Any]], instance: dg.DagsterInstance, folder: Path, ops: list[str], recorded: RecordedApi
) -> dict[str, dict[str, Any]]:
    """The Job that dagster-k8s asks for each op's step, with the chart's launcher and executor."""
    handler = handler_of(documents, instance, folder)
    found = {}
    for op in ops:
        with mock.patch("dagster._core.events.DagsterEvent.step_worker_starting"):
            list(handler.launch_step(step_context(instance, op)))
        found[op] = recorded.bodies.pop()
    return found
