"""What the launcher does when things go wrong: each reason, cancelling, a moody API, and a Job that is there already.

The pods run a shell command instead of the trainer, by manifests of the test's own; everything else is as in earnest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from internvid_assets.settings import S3Settings, Settings, ViclipSettings
from internvid_assets.store import open_store
from internvid_assets.viclip.kubernetes.failures import TrainingFailed
from internvid_assets.viclip.kubernetes.launcher import KubernetesLauncher
from internvid_assets.viclip.kubernetes.manifest import MANIFESTS, QUEUE_LABEL
from internvid_assets.viclip.launch import FILES, Training
from tests.kubesim import KubeSim
from tests.viclip.kubernetes.conftest import kubernetes_settings

SLEEP = "echo hello; exec sleep 600"
DONE = (
    "mkdir -p $INTERNVID_HOME/cache/training/key-viclip; cd $INTERNVID_HOME/cache/training/key-viclip; touch {}".format(
        " ".join(FILES)
    )
)
NAME = "viclip-key-viclip"
Make = Callable[..., "Bench"]


class Bench:
    """A launcher whose pods run a shell command."""

    def __init__(self, sim: KubeSim, script: str, **kubernetes: Any):
        claim, folder = sim.claim("shared"), sim.folder / "manifests"
        folder.mkdir(exist_ok=True)
        for file in MANIFESTS.glob("*.yaml"):
            manifest = yaml.safe_load(file.read_text())
            if file.stem == "job":
                manifest["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 1
                [container] = manifest["spec"]["template"]["spec"]["containers"]
                container["command"] = ["bash", "-c", script]
            (folder / file.name).write_text(yaml.safe_dump(manifest))
        values = {
            "claim": "shared",
            "claim_path": str(claim),
            "manifests": str(folder),
            "backoff_limit": 0,
            **kubernetes,
        }
        self.sim, self.said = sim, list[str]()
        self.settings = Settings(
            home=claim / "home",
            s3=S3Settings(access_key_id="key", secret_access_key="secret"),
            viclip=ViclipSettings(
                launcher="k8s", num_processes=1, recipe="debug_tiny", kubernetes=kubernetes_settings(sim, **values)
            ),
        )
        output = self.settings.cache_folder / "training" / "key-viclip"
        self.training = Training("key", "viclip", "debug_tiny", "shards", output)
        self.lines: list[str] = []

    def train(self, on_line: Callable[[str], None] | None = None) -> None:
        launcher = KubernetesLauncher(self.settings, open_store(self.settings), self.said.append)
        launcher.train(self.training, {}, on_line or self.lines.append)

    def in_background(self) -> threading.Thread:
        thread = threading.Thread(target=self.train, daemon=True)
        thread.start()
        return thread

    def pod(self, index: int = 0) -> str:
        """The newest running pod of an index."""

        def running() -> str | None:
            pods = self.sim.all("pods", f"batch.kubernetes.io/job-completion-index={index}")
            names = [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Running"]
            return names[-1] if names else None

        return self.sim.until(running)

    def left(self) -> list[str]:
        """Everything that is still in the cluster."""
        return [f"{plural}/{item['metadata']['name']}" for plural in ("jobs", "pods", "services", "secrets")
                for item in self.sim.all(plural)]  # fmt: skip


@pytest.fixture
def bench(sim: KubeSim) -> Make:
    return lambda script=SLEEP, **kubernetes: Bench(sim, script, **kubernetes)


def failure(bench: Bench) -> TrainingFailed:
    with pytest.raises(TrainingFailed) as failed:
        bench.train()
    return failed.value


class Cancelled(BaseException):
    """As Dagster interrupts a step."""


def test_cancelling_leaves_nothing(bench: Make) -> None:
    one = bench()

    def cancel(line: str) -> None:
        assert sorted(name.split("/")[0] for name in one.left()) == ["jobs", "pods", "pods", "secrets", "services"]
        raise Cancelled(line)

    with pytest.raises(Cancelled, match="hello"):
        one.train(cancel)
    assert one.left() == []


def test_a_job_that_can_never_be_scheduled_fails_in_time_with_the_schedulers_words(bench: Make) -> None:
    one = bench(node_selector={"pool": "gpu"}, start_timeout_seconds=1.0)
    failed = failure(one)
    assert failed.reason == "Unschedulable"
    assert "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector" in str(failed)
    assert "not started within 1 s" in str(failed) and one.left() == []


def test_too_few_gpus_are_told(bench: Make) -> None:
    failed = failure(bench(gpu_resource="nvidia.com/gpu", start_timeout_seconds=1.0))
    assert "2 Insufficient nvidia.com/gpu" in str(failed)


def test_a_missing_image_fails_with_that_reason(bench: Make) -> None:
    one = bench(start_timeout_seconds=1.0)
    one.sim.faults.missing_images.add("internvid-trainer:test")
    failed = failure(one)
    assert failed.reason == "ImagePullBackOff" and "Back-off pulling image" in str(failed) and one.left() == []


def test_a_missing_secret_fails_with_that_reason(bench: Make, s3_server: S3Settings) -> None:
    one = bench(start_timeout_seconds=1.0)
    kubernetes = one.settings.viclip.kubernetes.model_copy(update={"s3_secret": "nowhere"})
    viclip = one.settings.viclip.model_copy(update={"kubernetes": kubernetes})
    one.settings = one.settings.model_copy(update={"viclip": viclip, "media_root": "s3://internvid/x", "s3": s3_server})
    failed = failure(one)
    assert failed.reason == "CreateContainerConfigError" and 'secret "nowhere" not found' in str(failed)


def test_a_quota_that_forbids_pods_is_told(bench: Make) -> None:
    one = bench(start_timeout_seconds=1.0)
    one.sim.faults.quota["internvid"] = 0
    failed = failure(one)
    assert failed.reason == "FailedCreate" and "exceeded quota" in str(failed) and one.left() == []


def test_a_failed_process_is_told_with_its_last_lines_and_can_be_looked_at(bench: Make) -> None:
    one = bench("for i in $(seq 30); do echo line $i; done; exit 3")
    failed = failure(one)
    assert failed.reason == "Error" and "exit code 3 (BackoffLimitExceeded" in str(failed)
    assert failed.log[-1] == "line 30" and len(failed.log) == 20
    assert "jobs/viclip-key-viclip" in one.left()  # until its time to live is over


def test_used_wrongly_is_not_repeated(bench: Make) -> None:
    one = bench("echo training: no such recipe; exit 2", backoff_limit=5)
    failed = failure(one)
    assert "PodFailurePolicy" in str(failed) and failed.log == ("training: no such recipe",)
    assert max(one.sim.kubelet.num_started.values()) == 1 and len(one.sim.kubelet.num_started) <= 2  # one of each node


@pytest.mark.parametrize("evicted", [False, True])
def test_a_node_out_of_memory_counts_and_an_evicted_one_does_not(bench: Make, evicted: bool) -> None:
    """The pods wait for a file that is written when one was lost: who may start again, ends well."""
    one = bench(f"echo hello; until [ -e $INTERNVID_HOME/go ]; do sleep 0.1; done; {DONE}")
    home = one.settings.home
    thread_error: list[BaseException] = []

    def train() -> None:
        try:
            one.train()
        except TrainingFailed as error:
            thread_error.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    lost = one.pod(1)
    one.pod(0)
    one.sim.end_pod(lost, "OOMKilled", evicted)
    if evicted:
        one.sim.until(lambda: one.pod(1) != lost)
        home.mkdir(exist_ok=True)
        (home / "go").touch()
        home.chmod(0o777)
    thread.join()
    if evicted:
        assert not thread_error and any(f"Evicted: pod {lost}" in line for line in one.said)
    else:
        assert isinstance(thread_error[0], TrainingFailed) and thread_error[0].reason == "OOMKilled"
        assert f"OOMKilled: pod {lost} on node-0: exit code 137" in str(thread_error[0])


def test_a_job_deleted_by_somebody_is_told(bench: Make) -> None:
    one = bench()

    def delete(line: str) -> None:
        one.sim.call(lambda: one.sim.objects.delete("jobs", "internvid", NAME, "Background"))

    with pytest.raises(TrainingFailed, match="was deleted while it ran"):
        one.train(delete)
    assert one.left() == []


def test_too_long_a_training_fails_with_the_jobs_own_reason(bench: Make) -> None:
    failed = failure(bench(deadline_seconds=1))
    assert failed.reason == "DeadlineExceeded"


def test_a_moody_api_is_borne_with(bench: Make) -> None:
    """Too many requests, internal errors, conflicts, broken connections and a log that is cut: every line comes once."""
    one = bench("sleep 1; for i in $(seq 40); do echo line $i; sleep 0.02; done; " + DONE)
    faults = one.sim.faults
    faults.answer("POST", "/jobs$", 429, headers={"Retry-After": "1"})
    faults.answer("POST", "/jobs$", 500)
    faults.answer("POST", "/services$", 500)
    faults.answer("PATCH", "/jobs/", 409, reason="Conflict")
    faults.answer("GET", "/jobs/", 503, 2)
    faults.answer("GET", "/pods$", 0, 3)
    faults.answer("GET", "/log$", 500)
    faults.cut_logs_after[:] = [10, 12]
    one.train()
    assert one.lines == [f"line {i}" for i in range(1, 41)]
    assert faults.num_served == 10 and faults.cut_logs_after == []


def test_what_the_account_may_not_do_is_told_in_one_line(bench: Make) -> None:
    one = bench()
    one.sim.faults.answer("POST", "/jobs$", 403, reason="Forbidden")
    with pytest.raises(ValueError, match=r"^the cluster refuses: a fault of the test's; see docs"):
        one.train()
    assert one.left() == []


def test_another_launch_goes_on_with_the_job_that_runs(bench: Make) -> None:
    """As when the Dagster run was lost without a chance to clear up: one Job, each pod once, all lines from the start."""
    one = bench(f"echo hello; until [ -e $INTERNVID_HOME/go ]; do sleep 0.1; done; {DONE}")
    one.in_background()
    one.pod(0)
    again = Bench(one.sim, SLEEP, port=one.settings.viclip.kubernetes.port)
    thread = again.in_background()
    again.sim.until(lambda: again.lines)
    home = one.settings.home
    home.mkdir(exist_ok=True)
    home.chmod(0o777)
    (home / "go").touch()
    thread.join()
    assert again.lines == ["hello"] and len(one.sim.all("jobs")) == 1 and len(one.sim.all("pods")) == 2
    again.train()  # done already
    assert len(one.sim.all("pods")) == 2


def test_a_failed_job_makes_way_for_a_new_one(bench: Make) -> None:
    one = bench("exit 3")
    failure(one)
    first = one.sim.all("jobs")[0]["metadata"]["uid"]
    Bench(one.sim, DONE).train()
    assert [job["metadata"]["uid"] == first for job in one.sim.all("jobs")] == [False]
    assert {name.split("/")[0] for name in one.left()} == {"jobs", "pods", "services", "secrets"}


def test_a_queued_job_waits_for_its_queue_however_long(bench: Make) -> None:
    """Kueue lets it go; until then no pod is late."""
    one = bench(DONE, queue="team-a", start_timeout_seconds=0.5)
    thread = one.in_background()
    [job] = one.sim.until(lambda: one.sim.all("jobs"))
    assert job["metadata"]["labels"][QUEUE_LABEL] == "team-a"
    one.sim.until(lambda: one.sim.all("secrets"))
    assert not one.sim.all("pods")
    thread.join(1.5)
    assert thread.is_alive()
    one.sim.call(
        lambda: one.sim.objects.update("jobs", "internvid", NAME, lambda held: held["spec"].update(suspend=False))
    )
    thread.join()
    assert one.sim.all("jobs")[0]["status"]["succeeded"] == 2


def test_settings_under_which_no_pod_could_run_are_refused(tmp_path: Path, sim: KubeSim) -> None:
    cases = [
        ({"image": ""}, "viclip.kubernetes.image is empty"),
        ({}, "pods cannot reach the media in .*: set media_root to s3://"),
        ({"claim": "shared", "claim_path": str(tmp_path), "messages": "s3"}, "viclip.kubernetes.messages is s3"),
        ({"claim": "shared", "claim_path": str(tmp_path), "context": "nobody"}, "no cluster to train on"),
    ]
    for more, message in cases:
        kubernetes = kubernetes_settings(sim, **more)
        settings = Settings(home=tmp_path / "home", viclip=ViclipSettings(launcher="k8s", kubernetes=kubernetes))
        with pytest.raises(ValueError, match=message):
            KubernetesLauncher(settings, open_store(settings), print)
