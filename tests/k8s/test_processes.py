"""The long-running pods as processes of this machine: the chart's own commands, files and environment, and its probes.

What stands in: addresses and folders of this machine for the cluster's, PostgreSQL with a password, a real S3 server.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import grpc
import pytest
import yaml
from dagster._core.execution.plan.state import KnownExecutionState
from dagster._core.execution.retries import RetryMode
from dagster._core.test_utils import create_run_for_test
from dagster._grpc.types import ExecuteStepArgs
from dagster._serdes import ConfigurableClassData
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub

from internvid_assets.lake import Lake
from internvid_assets.lake.models import discover as discover_models
from internvid_assets.settings import Settings
from internvid_assets.subsets.build import build_model
from tests.k8s.charts import ROOT, environment, file_of, find, render
from tests.k8s.recorded import job_origin, launcher_of
from tests.servers import free_ports

PATIENCE_SECONDS = 120


class Pods:
    """The release as processes: starts the container of a Deployment, and asks its probes."""

    def __init__(self, folder: Path, catalog: str, storage: dict[str, Any], s3: dict[str, str]):
        self.folder, self.documents = folder, render("kind")
        self.ports = dict(zip((3000, 4000), free_ports(2), strict=True))
        self.stack = contextlib.ExitStack()
        self.etc, self.home = folder / "etc", folder / "dagster"
        self.etc.mkdir()
        self.home.mkdir()
        self._write(storage)
        self.environment = {
            **{n: v for n, v in os.environ.items() if not n.startswith(("INTERNVID_", "AWS_"))},
            **environment(self.documents, {"PGPASSWORD": "p'w", **s3}),
            "INTERNVID_LAKE__CATALOG": catalog,
            "INTERNVID_CONFIG": str(self.etc / "internvid.toml"),
            "INTERNVID_EXECUTION__CONFIG": str(self.etc / "executor.yaml"),
            "INTERNVID_HOME": str(folder / "home"),
            "DAGSTER_HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
            "PATH": f"{Path(os.sys.executable).parent}:{os.environ['PATH']}",  # type: ignore[attr-defined]
        }

    def _write(self, storage: dict[str, Any]) -> None:
        """The ConfigMaps, with this machine's addresses."""
        for name, text in find(self.documents, "ConfigMap", "settings")["data"].items():
            (self.etc / name).write_text(text)
        workspace = file_of(self.documents, "settings", "workspace.yaml")
        workspace["load_from"][0]["grpc_server"] |= {"host": "127.0.0.1", "port": self.ports[4000]}
        (self.etc / "workspace.yaml").write_text(yaml.safe_dump(workspace))
        instance = file_of(self.documents, "instance", "dagster.yaml")
        instance["storage"]["postgres"]["postgres_db"] |= storage
        instance["run_launcher"] = launcher_of(self.documents, self.folder)
        instance.pop("compute_logs")  # its endpoint is the cluster's; test_files.py loads it
        (self.home / "dagster.yaml").write_text(yaml.safe_dump(instance))

    def container(self, name: str) -> dict[str, Any]:
        [container] = find(self.documents, "Deployment", name)["spec"]["template"]["spec"]["containers"]
        return container

    def here(self, argument: str) -> str:
        """An argument with this machine's ports and folders."""
        for inside, outside in self.ports.items():
            argument = argument.replace(f"--port={inside}", f"--port={outside}")
        return argument.replace("0.0.0.0", "127.0.0.1").replace("/etc/internvid", str(self.etc))

    def start(self, name: str) -> subprocess.Popen:
        """The container's command, ended with the test."""
        container = self.container(name)
        command = [self.here(part) for part in (*container["command"], *container["args"])]
        log = self.stack.enter_context((self.folder / f"{name}.log").open("w"))
        process = subprocess.Popen(
            command, env=self.environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
            preexec_fn=lambda: [signal.signal(s, signal.SIG_DFL) for s in (signal.SIGINT, signal.SIGTERM)],
        )  # fmt: skip
        self.stack.callback(_end, process)
        return process

    def wait(self, name: str, process: subprocess.Popen) -> None:
        """Until each probe of the container succeeds. Raises: AssertionError with its log when it does not."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            while not self.probe(self.container(name)[probe]):
                log = (self.folder / f"{name}.log").read_text()[-3000:]
                assert process.poll() is None, f"{name} ended with {process.returncode}:\n{log}"
                assert time.monotonic() < deadline, f"{name}: its {probe} fails:\n{log}"
                time.sleep(0.5)

    def probe(self, probe: dict[str, Any]) -> bool:
        """As the kubelet asks: by gRPC health check, by HTTP, or by a command."""
        if "grpc" in probe:
            address = f"127.0.0.1:{self.ports[probe['grpc']['port']]}"
            with contextlib.suppress(grpc.RpcError), grpc.insecure_channel(address) as channel:
                answer = HealthStub(channel).Check(HealthCheckRequest(service=probe["grpc"]["service"]), timeout=5)
                return answer.status == 1
            return False
        if "httpGet" in probe:
            with contextlib.suppress(OSError):
                url = f"http://127.0.0.1:{self.ports[3000]}{probe['httpGet']['path']}"
                with urllib.request.urlopen(url, timeout=5) as answer:
                    return 200 <= answer.status < 400
            return False
        ended = subprocess.run(probe["exec"]["command"], env=self.environment, capture_output=True, check=False)
        return ended.returncode == 0


def _end(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)


@pytest.fixture
def pods(tmp_path: Path, postgres_with_password: dict[str, Any], s3_server: Any) -> Iterator[Pods]:
    server = postgres_with_password
    catalog = f"postgres:host={server['hostname']} port={server['port']} user={server['username']} dbname=lake"
    keys = {
        "INTERNVID_S3__ACCESS_KEY_ID": s3_server.access_key_id,
        "INTERNVID_S3__SECRET_ACCESS_KEY": s3_server.secret_access_key,
        "INTERNVID_S3__ENDPOINT_URL": s3_server.endpoint_url,
    }
    made = Pods(tmp_path, catalog, {**server, "params": {"sslmode": "disable"}}, keys)
    with made.stack:
        yield made


def graphql(pods: Pods, query: str) -> dict[str, Any]:
    import json

    request = urllib.request.Request(
        f"http://127.0.0.1:{pods.ports[3000]}/graphql", json.dumps({"query": query}).encode(),
        {"Content-Type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["data"]


def test_the_release_starts_and_answers_its_probes(pods: Pods) -> None:
    for name in ("code", "webserver", "daemon"):
        pods.wait(name, pods.start(name))
    found = graphql(pods, "{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus } } } }")
    assert found["workspaceOrError"]["locationEntries"] == [{"name": "internvid", "loadStatus": "LOADED"}]
    found = graphql(pods, '{ schedulesOrError(repositorySelector: {repositoryName: "__repository__", repositoryLocationName: "internvid"}) { ... on Schedules { results { name } } } }')  # fmt: skip
    assert {s["name"] for s in found["schedulesOrError"]["results"]} == {"nightly_recaption", "nightly_maintenance"}


def test_a_dead_code_location_fails_its_probe(pods: Pods) -> None:
    assert not pods.probe(pods.container("code")["livenessProbe"])


def test_migrating_works_on_a_new_database_and_again(pods: Pods) -> None:
    spec = find(pods.documents, "Job", "migrate")["spec"]["template"]["spec"]["containers"][0]
    for _ in range(2):
        ended = subprocess.run(
            [*spec["command"], *spec["args"]], env=pods.environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr[-2000:]


def run_step(
    pods: Pods, run: dg.DagsterRun, instance: dg.DagsterInstance, step: str, home: Path, launcher: dict[str, Any]
) -> subprocess.CompletedProcess[str]:
    """The command of a step's pod, in a pod's conditions: a Dagster home of its own, and no API server."""
    data = ConfigurableClassData(launcher["module"], launcher["class"], yaml.safe_dump(launcher["config"]))
    arguments = ExecuteStepArgs(
        job_origin=job_origin("recaption"), run_id=run.run_id, step_keys_to_execute=[step],
        instance_ref=instance.get_ref()._replace(run_launcher_data=data), retry_mode=RetryMode.DISABLED,
        known_state=KnownExecutionState(), should_verify_step=True,
    )  # fmt: skip
    home.mkdir()
    environment = {**pods.environment, "DAGSTER_HOME": str(home)}
    command = arguments.get_command_args()
    return subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=False)


def make_empty_subsets() -> None:
    """The SQL models over no rows, without which nothing can be re-captioned."""
    settings = Settings()
    lake = Lake(settings)
    for model in discover_models():
        result = build_model(lake, model, settings)
        lake.commit(result.write(model.table, "run", None, lake.snapshot_id(), [], model.code_version), result.changes)
    lake.close()


def test_steps_in_different_pods_hand_over_their_values(pods: Pods, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in pods.environment.items():
        monkeypatch.setenv(name, value)
    make_empty_subsets()
    with dg.DagsterInstance.from_config(str(pods.home)) as instance:
        run = create_run_for_test(
            instance, job_name="recaption", job_code_origin=job_origin("recaption"), status=dg.DagsterRunStatus.STARTED
        )
        for number, step in enumerate(("recaption_stale_clips", "score_new_captions")):
            launcher = launcher_of(pods.documents, pods.folder)
            ended = run_step(pods, run, instance, step, pods.folder / f"pod{number}", launcher)
            assert ended.returncode == 0, ended.stderr[-3000:]
        logs = instance.all_logs(run.run_id)
    done = [e.step_key for e in logs if e.dagster_event and e.dagster_event.is_step_success]
    assert done == ["recaption_stale_clips", "score_new_captions"], "\n".join(
        f"{entry.user_message} {entry.dagster_event and entry.dagster_event.event_specific_data}" for entry in logs
    )


def test_a_step_without_a_token_would_not_start(pods: Pods, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why every pod of Dagster's has one, if without rights. When this fails, take the tokens away."""
    for name, value in pods.environment.items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.from_config(str(pods.home)) as instance:
        run = create_run_for_test(instance, job_name="recaption", job_code_origin=job_origin("recaption"))
        launcher = file_of(pods.documents, "instance", "dagster.yaml")["run_launcher"]
        ended = run_step(pods, run, instance, "recaption_stale_clips", pods.folder / "pod", launcher)
    assert ended.returncode != 0 and "ConfigException" in ended.stderr
