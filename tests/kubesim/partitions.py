"""Launches many partitions through the real K8sRunLauncher, run queue and k8s_job_executor against the stand-in.

Real: Dagster's instance on PostgreSQL, its queue with its limit, dagster-k8s and the Kubernetes client over HTTP, the run worker
and step commands of the pods. Not real: pods are forks of one process that has imported Dagster, and share the machine's files.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._core.instance.ref import InstanceRef
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from tests.kubesim import KubeSim
from tests.kubesim.cluster import ROOT

NAMESPACE = "dagster"
_UNFINISHED = [status for status in dg.DagsterRunStatus if status.value not in ("SUCCESS", "FAILURE", "CANCELED")]


@dataclass(frozen=True)
class Launched:
    """What became of the partitions."""

    seconds: float
    statuses: list[str]
    steps: list[tuple[str, float, float]]
    """Partition, beginning and end of every step that ran."""
    max_runs: int
    """Most run pods that were alive at once."""
    num_jobs: int
    """Of runs and of steps."""
    num_restarted_pods: int

    def most_steps(self) -> int:
        """Most steps that ran at once."""
        marks = sorted([(begin, 1) for _, begin, _ in self.steps] + [(end, -1) for _, _, end in self.steps])
        running = 0
        return max((running := running + change) for _, change in marks)


def launch(folder: Path, postgres: str, database: str, num_partitions: int, max_runs: int) -> Launched:
    """Launch so many partitions, at most `max_runs` runs at once, and wait for all of them.

    Args:
        postgres: libpq string of a server, without a database; `database` is made there.
    """
    notes, socket = folder / "notes", folder / "zygote.sock"
    home = folder / "dagster"
    home.mkdir(parents=True)
    environment = {"DAGSTER_HOME": str(home), "KUBESIM_NOTES": str(notes), "DAGSTER_DISABLE_TELEMETRY": "1"}
    with _zygote(socket, environment), KubeSim(folder / "sim", environment=environment, isolated=False) as sim:
        sim.container.forked = (str(Path(__file__).parent / "zygote.py"), str(socket))
        (home / "dagster.yaml").write_text(
            yaml.safe_dump(_instance(sim, home, _database(postgres, database), max_runs))
        )
        began = time.monotonic()
        with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home))) as instance:
            statuses, most = _run_all(instance, sim, num_partitions)
        text = notes.read_text() if notes.exists() else ""
        return Launched(
            time.monotonic() - began,
            statuses,
            [(p, float(a), float(b)) for p, a, b, _ in (line.split() for line in text.splitlines())],
            most,
            len(sim.all("jobs")),
            sum(count > 1 for count in sim.kubelet.num_started.values()),
        )


def _run_all(instance: dg.DagsterInstance, sim: KubeSim, num_partitions: int) -> tuple[list[str], int]:
    """Submit every partition to the queue and work the queue off, as the daemon does."""
    target = PythonFileTarget(
        python_file=str(ROOT / "tests/kubesim/many.py"),
        attribute=None,
        working_directory=str(ROOT),
        location_name="many",
    )
    most = 0
    with WorkspaceProcessContext(instance, target) as process:
        workspace = process.create_request_context()
        location = workspace.get_code_location("many")
        repository = location.get_repository("__repository__")
        job = repository.get_full_job("pieces")
        names = [f"p{number:03d}" for number in range(num_partitions)]
        for name in names:
            _submit(instance, workspace, location, job, name)
        daemon = QueuedRunCoordinatorDaemon(interval_seconds=1)
        while True:
            for error in daemon.run_iteration(process):
                assert error is None, error
            most = max(most, sim.call(lambda: _num_run_pods(sim)))
            if not instance.get_runs_count(dg.RunsFilter(statuses=_UNFINISHED)):
                return [run.status.value for run in instance.get_runs()], most
            time.sleep(0.5)


def _num_run_pods(sim: KubeSim) -> int:
    """Pods of runs, not of steps, that are alive."""
    alive = [pod for pod in sim.objects.each("pods") if pod["status"].get("phase") in ("Pending", "Running")]
    return sum("dagster/op" not in pod["metadata"]["labels"] for pod in alive)


def _submit(instance: Any, workspace: Any, location: Any, job: Any, partition: str) -> None:
    plan = location.get_execution_plan(job, {}, step_keys_to_execute=None, known_state=None)
    run = instance.create_run(
        job_name=job.name, run_id=None, run_config={}, resolved_op_selection=None, step_keys_to_execute=None, status=None,
        tags={"dagster/partition": partition}, root_run_id=None, parent_run_id=None, op_selection=None,
        job_snapshot=job.job_snapshot, execution_plan_snapshot=plan.execution_plan_snapshot,
        parent_job_snapshot=job.parent_job_snapshot, remote_job_origin=job.get_remote_origin(),
        job_code_origin=job.get_python_origin(), asset_selection=None, asset_check_selection=None, asset_graph=workspace.asset_graph,
    )  # fmt: skip
    instance.submit_run(run.run_id, workspace)


def _instance(sim: KubeSim, home: Path, url: str, max_runs: int) -> dict[str, Any]:
    cluster = {"job_namespace": NAMESPACE, "load_incluster_config": False, "kubeconfig_file": str(sim.kubeconfig),
               "job_image": "internvid", "service_account_name": "dagster", "image_pull_policy": "IfNotPresent",
               "dagster_home": str(home), "instance_config_map": "dagster-instance"}  # fmt: skip
    return {
        "storage": {"postgres": {"postgres_url": url}},
        "run_launcher": {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": cluster},
        "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "QueuedRunCoordinator",
                            "config": {"max_concurrent_runs": max_runs}},
        "telemetry": {"enabled": False},
    }  # fmt: skip


def _database(postgres: str, name: str) -> str:
    import psycopg2

    connection = psycopg2.connect(f"{postgres} dbname=postgres")
    connection.autocommit = True
    connection.cursor().execute(f"create database {name}")
    connection.close()
    values = dict(part.split("=") for part in postgres.split())
    return f"postgresql://{values['user']}@{values['host']}:{values['port']}/{name}"


@contextmanager
def _zygote(socket: Path, environment: dict[str, str]) -> Iterator[None]:
    modules = ["dagster_k8s", "dagster_postgres", "psycopg2", "tests.kubesim.many"]
    command = [sys.executable, "-m", "tests.kubesim.zygote", str(socket), *modules]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment, "PYTHONPATH": str(ROOT)})
    try:
        while not socket.exists():
            assert process.poll() is None, "the zygote ended"
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()
