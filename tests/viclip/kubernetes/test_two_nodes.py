"""Training over two nodes for real: pods of the stand-in run the trainer, meet by the Service's name and train together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
import yaml

from internvid_assets.settings import S3Settings, Settings
from internvid_assets.store import open_store
from internvid_assets.viclip.kubernetes.manifest import MANIFESTS
from tests.kubesim import KubeSim
from tests.training.conftest import train as train_plainly
from tests.viclip.kubernetes.conftest import QUICK, losses, materialize, only_row
from training.run_log import read_metrics

LONGER = {"stages.0.steps": "14"}
NUM_STEPS = 17


@pytest.fixture(scope="module")
def undisturbed(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, float]]:
    """Steps and losses of the same training by two processes of one machine, without any cluster."""
    output = tmp_path_factory.mktemp("undisturbed") / "run"
    options = [part for name, value in {**QUICK, **LONGER}.items() for part in ("--set", f"{name}={value}")]
    done = train_plainly(shards, output, "--seed", "0", *options, processes=2)
    assert done.returncode == 0, done.stderr
    return [(row["step"], row["loss"]) for row in read_metrics(output)]


def lose(sim: KubeSim, node: int, after: str, reason: str, evicted: bool = False) -> threading.Thread:
    """Kill a node's pod as soon as the first node's log has a line with these words."""

    def act() -> None:
        def pod_of(index: int) -> str | None:
            label = f"batch.kubernetes.io/job-completion-index={index}"
            return next((pod["metadata"]["name"] for pod in sim.all("pods", label)), None)

        sim.until(lambda: (name := pod_of(0)) and any(after in line for line in sim.log_of(name)))
        name = pod_of(node)
        assert name is not None
        sim.end_pod(name, reason, evicted)

    thread = threading.Thread(target=act)
    thread.start()
    return thread


def logged(instance: dg.DagsterInstance, run_id: str) -> str:
    return "\n".join(entry.user_message for entry in instance.all_logs(run_id))


def test_a_lost_node_changes_neither_steps_nor_losses(
    sim: KubeSim, home: Callable[..., Settings], undisturbed: list[tuple[int, float]]
) -> None:
    """On a shared volume; the second node's pod is killed for its memory in the middle of training."""
    settings = home(overrides=LONGER)
    killer, instance = lose(sim, 1, "step 5/17", "OOMKilled"), dg.DagsterInstance.ephemeral()
    result = materialize(settings, instance)
    killer.join()
    assert result.success
    assert len(undisturbed) == NUM_STEPS and losses(settings) == undisturbed
    row = only_row(settings)
    assert (row["num_steps"], row["final_loss"]) == undisturbed[-1]
    told = logged(instance, result.run_id)
    assert "OOMKilled: pod" in told and "PeerLost: pod" in told
    assert "loss" in told and "step 17/17" in told  # metrics of both attempts came by Dagster Pipes
    pods = sim.all("pods")
    assert len(pods) == 4 and max(sim.kubelet.num_started.values()) == 1
    first = [pod for pod in pods if pod["metadata"]["name"].split("-")[3] == "0"]
    again = "\n".join(sim.log_of(first[-1]["metadata"]["name"]))
    assert "step 17/17" in again and "step 1/17" not in again  # resumed, not begun anew


def test_the_first_node_goes_on_from_its_state_on_s3(
    sim: KubeSim, home: Callable[..., Settings], undisturbed: list[tuple[int, float]], s3_server: S3Settings
) -> None:
    """The pods share nothing but S3; the first node's is evicted, and its successor starts with an empty disk."""
    settings = home(s3=s3_server, overrides=LONGER, messages="s3")
    killer, instance = lose(sim, 0, "step 6/17", "Error", evicted=True), dg.DagsterInstance.ephemeral()
    result = materialize(settings, instance)
    killer.join()
    assert result.success
    assert losses(settings) == undisturbed
    told = logged(instance, result.run_id)
    assert "Evicted: pod" in told and "step 17/17" in told
    [job] = sim.all("jobs")
    assert job["status"]["failed"] == 2 and job["status"]["succeeded"] == 2  # an eviction does not count
    store = open_store(settings)
    assert any("/state/" in key for key in store.keys("training/"))
    assert materialize(settings).success  # trained already; what the training left is dropped
    assert list(store.keys("training/")) == [] and len(sim.all("jobs")) == 1


def runtime() -> dict:
    """Kubeflow's own `torch-distributed` runtime, as far as training depends on it."""
    job = yaml.safe_load((MANIFESTS / "job.yaml").read_text())
    spec = {
        "backoffLimit": 2,
        "podFailurePolicy": {"rules": [{"action": "Ignore", "onExitCodes": {"containerName": "node", "operator": "In", "values": [75]}}]},
        "template": {"spec": {"restartPolicy": job["spec"]["template"]["spec"]["restartPolicy"],
                              "containers": [{"name": "node", "image": "pytorch"}]}},
    }  # fmt: skip
    replicated = [{"name": "node", "replicas": 1, "template": {"spec": spec}}]
    return {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "ClusterTrainingRuntime",
            "metadata": {"name": "torch-distributed"},
            "spec": {"template": {"spec": {"replicatedJobs": replicated}}}}  # fmt: skip


@pytest.mark.parametrize("backend", ["jobset", "trainjob"])
def test_jobset_and_trainjob_train_the_same(sim: KubeSim, home: Callable[..., Settings], backend: str) -> None:
    sim.create("clustertrainingruntimes", "", runtime())
    settings = home(backend=backend)
    result = materialize(settings)
    assert result.success, [sim.log_of(pod["metadata"]["name"]) for pod in sim.all("pods")]
    assert [step for step, _ in losses(settings)] == [1, 2, 3, 4, 5, 6]
    assert len(sim.all(f"{backend}s")) == 1 and len(sim.all("services")) == 1
    hosts = {pod["spec"]["hostname"] for pod in sim.all("pods")}
    assert hosts == {f"{sim.all(f'{backend}s')[0]['metadata']['name']}-node-0-{index}" for index in (0, 1)}
