"""The stand-in behaves as a cluster does, where tests of the project rely on it; asked with the real client."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes
import pytest
import urllib3
from kubernetes.client import ApiException, BatchV1Api, CoreV1Api

from tests.kubesim import KubeSim

NAMESPACE = "test"


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[KubeSim]:
    """Pods without namespaces of their own: any user may run these tests."""
    with KubeSim(tmp_path, isolated=False) as sim:
        yield sim


@pytest.fixture
def core(sim: KubeSim) -> CoreV1Api:
    return CoreV1Api(kubernetes.config.new_client_from_config(str(sim.kubeconfig)))


@pytest.fixture
def batch(sim: KubeSim) -> BatchV1Api:
    return BatchV1Api(kubernetes.config.new_client_from_config(str(sim.kubeconfig)))


def job(script: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "image", "command": ["bash", "-c", script]}
    template = {"metadata": {"labels": {"app": "it"}}, "spec": {"restartPolicy": "Never", "containers": [container]}}
    values = {"completionMode": "Indexed", "completions": 2, "parallelism": 2, "template": template, **spec}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "work"}, "spec": values}


def run(sim: KubeSim, batch: BatchV1Api, script: str, **spec: Any) -> Any:
    """A Job's status at its end."""
    batch.create_namespaced_job(NAMESPACE, job(script, **spec))

    def ended() -> Any:
        status = batch.read_namespaced_job("work", NAMESPACE).status
        return status if any(c.type in ("Complete", "Failed") for c in status.conditions or []) else None

    return sim.until(ended)


def log(core: CoreV1Api, name: str, **more: Any) -> list[str]:
    return core.read_namespaced_pod_log(name, NAMESPACE, _preload_content=False, **more).data.decode().splitlines()


def config_map(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "data": {"key": name}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backofLimit": 3}, "backofLimit"),
        ({"completions": "two"}, "completions"),
        ({"podFailurePolicy": {"rules": []}, "template": {"spec": {"restartPolicy": "OnFailure", "containers": [
            {"name": "a", "image": "b"}]}}}, "only Never is supported"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_schema_is_not_let_in(batch: BatchV1Api, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ApiException, match=message) as refused:
        batch.create_namespaced_job(NAMESPACE, job("true", **change))
    assert refused.value.status == 422


def test_names_are_taken_once_and_generated_on_request(core: CoreV1Api) -> None:
    core.create_namespaced_config_map(NAMESPACE, config_map("one"))
    with pytest.raises(ApiException, match="AlreadyExists") as taken:
        core.create_namespaced_config_map(NAMESPACE, config_map("one"))
    assert taken.value.status == 409
    made = [core.create_namespaced_config_map(NAMESPACE, {"metadata": {"generateName": "some-"}}) for _ in range(2)]
    assert len({one.metadata.name for one in made}) == 2 and made[0].metadata.uid != made[1].metadata.uid


def test_of_two_writers_of_one_version_the_second_is_refused(core: CoreV1Api) -> None:
    mine = core.create_namespaced_config_map(NAMESPACE, config_map("one"))
    theirs = core.read_namespaced_config_map("one", NAMESPACE)
    mine.data = {"key": "mine"}
    assert (
        core.replace_namespaced_config_map("one", NAMESPACE, mine).metadata.resource_version
        > mine.metadata.resource_version
    )
    with pytest.raises(ApiException, match="has been modified") as refused:
        core.replace_namespaced_config_map("one", NAMESPACE, theirs)
    assert refused.value.status == 409


def test_selectors(core: CoreV1Api) -> None:
    for name, labels in (("a", {"app": "x"}), ("b", {"app": "y", "old": "1"}), ("c", {})):
        core.create_namespaced_config_map(NAMESPACE, config_map(name, **labels))

    def names(**selector: str) -> list[str]:
        return [item.metadata.name for item in core.list_namespaced_config_map(NAMESPACE, **selector).items]

    assert names(label_selector="app=x") == ["a"] and names(label_selector="app!=x") == ["b", "c"]
    assert names(label_selector="app in (x,y),!old") == ["a"] and names(label_selector="app notin (x)") == ["b", "c"]
    assert names(label_selector="old") == ["b"] and names(field_selector="metadata.name=c") == ["c"]
    assert core.list_namespaced_config_map("elsewhere").items == []


def test_a_watch_tells_what_happens_and_is_taken_up_after_a_cut(sim: KubeSim, core: CoreV1Api) -> None:
    core.create_namespaced_config_map(NAMESPACE, config_map("one"))
    seen = core.list_namespaced_config_map(NAMESPACE)
    core.patch_namespaced_config_map("one", NAMESPACE, {"data": {"key": "new"}})
    core.create_namespaced_config_map(NAMESPACE, config_map("two", app="x"))
    core.delete_namespaced_config_map("one", NAMESPACE)

    def events(version: str, **more: Any) -> list[tuple[str, str]]:
        watch = kubernetes.watch.Watch()
        stream = watch.stream(
            core.list_namespaced_config_map, NAMESPACE, resource_version=version, timeout_seconds=1, **more
        )
        return [(event["type"], event["object"].metadata.name) for event in stream]

    wanted = [("MODIFIED", "one"), ("ADDED", "two"), ("DELETED", "one")]
    assert events(seen.metadata.resource_version) == wanted
    assert events(seen.metadata.resource_version, label_selector="app=x") == [("ADDED", "two")]
    sim.faults.drop_watches_after.append(1)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        events(seen.metadata.resource_version)
    assert events(seen.metadata.resource_version) == wanted  # nothing is lost by asking again


def test_what_is_owned_goes_with_its_owner(sim: KubeSim, core: CoreV1Api, batch: BatchV1Api) -> None:
    owner = batch.create_namespaced_job(NAMESPACE, job("sleep 60"))
    reference = {"apiVersion": "batch/v1", "kind": "Job", "name": "work", "uid": owner.metadata.uid}
    core.create_namespaced_secret(
        NAMESPACE, {"metadata": {"name": "s", "ownerReferences": [reference]}, "stringData": {"a": "b"}}
    )
    core.create_namespaced_secret(NAMESPACE, {"metadata": {"name": "other"}})
    sim.until(lambda: sum(pod["status"]["phase"] == "Running" for pod in sim.all("pods")) == 2)
    batch.delete_namespaced_job("work", NAMESPACE, propagation_policy="Foreground")
    sim.until(lambda: not sim.all("jobs") and not sim.all("pods"))
    assert [secret["metadata"]["name"] for secret in sim.all("secrets")] == ["other"]


def test_an_indexed_job_runs_each_index_once(sim: KubeSim, core: CoreV1Api, batch: BatchV1Api) -> None:
    status = run(sim, batch, "echo I am $JOB_COMPLETION_INDEX of $HOSTNAME", completions=5)
    assert (status.succeeded, status.failed, status.completed_indexes) == (5, 0, "0,1,2,3,4")
    pods = core.list_namespaced_pod(NAMESPACE).items
    logs = {log(core, pod.metadata.name)[0] for pod in pods}
    assert logs == {f"I am {index} of work-{index}" for index in range(5)}


def test_failures_count_against_the_limit_unless_the_policy_ignores_them(
    sim: KubeSim, batch: BatchV1Api, tmp_path: Path
) -> None:
    status = run(sim, batch, "exit 7", completions=1, parallelism=1, backoffLimit=2)
    assert status.failed == 3 and status.conditions[-1].reason == "BackoffLimitExceeded"
    batch.delete_namespaced_job("work", NAMESPACE, propagation_policy="Background")
    sim.until(lambda: not sim.all("pods"))
    policy = {"rules": [{"action": "Ignore", "onExitCodes": {"containerName": "main", "operator": "In", "values": [7]}},
                        {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "NotIn", "values": [9]}}]}  # fmt: skip
    script = f"echo x >> {tmp_path}/tries; [ $(wc -l < {tmp_path}/tries) -gt 4 ] && exit 8; exit 7"
    status = run(sim, batch, script, completions=1, parallelism=1, backoffLimit=0, podFailurePolicy=policy)
    assert status.failed == 5 and status.conditions[-1].reason == "PodFailurePolicy"
    assert "exit code (rule 1)" in status.conditions[-1].message


def test_a_suspended_job_has_no_pods_and_a_finished_one_lives_its_time(sim: KubeSim, batch: BatchV1Api) -> None:
    batch.create_namespaced_job(NAMESPACE, job("true", suspend=True, ttlSecondsAfterFinished=0))
    sim.until(lambda: any(c["type"] == "Suspended" for c in sim.all("jobs")[0].get("status", {}).get("conditions", [])))
    assert not sim.all("pods")
    batch.patch_namespaced_job("work", NAMESPACE, {"spec": {"suspend": False}})
    sim.until(lambda: not sim.all("jobs") and not sim.all("pods"))
    assert len(sim.kubelet.num_started) == 2


def test_a_jobs_template_cannot_be_changed(batch: BatchV1Api) -> None:
    batch.create_namespaced_job(NAMESPACE, job("true", suspend=True))
    with pytest.raises(ApiException, match="field is immutable"):
        batch.patch_namespaced_job("work", NAMESPACE, {"spec": {"completions": 3}})


def test_a_deleted_pod_gets_its_grace(sim: KubeSim, core: CoreV1Api, batch: BatchV1Api, tmp_path: Path) -> None:
    script = f"trap 'echo bye > {tmp_path}/bye; exit 0' TERM; echo up; while true; do sleep 0.05; done"
    batch.create_namespaced_job(NAMESPACE, job(script, completions=1, parallelism=1))
    [pod] = sim.until(lambda: core.list_namespaced_pod(NAMESPACE).items)
    name = pod.metadata.name
    sim.until(lambda: sim.log_of(name) == ["up"])
    batch.delete_namespaced_job("work", NAMESPACE, propagation_policy="Background")
    sim.until(lambda: not sim.all("pods"))
    assert (tmp_path / "bye").exists()


def test_a_log_can_be_followed_and_asked_for_in_part(sim: KubeSim, core: CoreV1Api, batch: BatchV1Api) -> None:
    batch.create_namespaced_job(
        NAMESPACE, job("for i in 1 2 3; do echo $i; sleep 0.1; done", completions=1, parallelism=1)
    )
    [pod] = sim.until(lambda: core.list_namespaced_pod(NAMESPACE).items)
    name = pod.metadata.name
    sim.until(lambda: sim.log_of(name))
    began = time.monotonic()
    lines = log(core, name, follow=True, timestamps=True)
    assert [line.split(" ")[1] for line in lines] == ["1", "2", "3"] and time.monotonic() - began > 0.1
    assert log(core, name, tail_lines=1) == ["3"]
    with pytest.raises(ApiException, match="NotFound"):
        log(core, "nobody")
