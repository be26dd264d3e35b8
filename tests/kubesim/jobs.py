"""The Job controller: Indexed and plain Jobs, suspension, retries, failure policies and deadlines."""

from __future__ import annotations

import time
from typing import Any

from tests.kubesim.faults import Faults
from tests.kubesim.objects import Object, Objects, now

INDEX = "batch.kubernetes.io/job-completion-index"
_PODS = "pods"


class JobController:
    """Brings pods into line with Jobs, and writes the Jobs' status. `backoff_seconds` is 10 on a real cluster."""

    def __init__(self, objects: Objects, faults: Faults, backoff_seconds: float):
        self._objects, self._faults, self._backoff_seconds = objects, faults, backoff_seconds
        self._started: dict[str, float] = {}
        self._finished: dict[str, float] = {}

    def reconcile(self) -> None:
        for job in self._objects.each("jobs"):
            if is_finished(job):
                self._expire(job)
            elif not job["metadata"].get("deletionTimestamp"):
                self._reconcile(job)

    def _reconcile(self, job: Object) -> None:
        uid = job["metadata"]["uid"]
        pods = [pod for _, pod in self._objects.owned_by(uid, _PODS)]
        if job["spec"]["suspend"]:
            self._started.pop(uid, None)
            self._end_pods(pods)
            self._write(job, pods, [_condition("Suspended", "JobSuspended", "Job suspended")])
            return
        started = self._started.setdefault(uid, time.monotonic())
        verdict = self._verdict(job, pods, time.monotonic() - started)
        if verdict is not None:
            self._end_pods(pods)
            self._write(job, pods, [_condition("FailureTarget", *verdict), _condition("Failed", *verdict)])
            return
        if len(_done(job, pods)) == job["spec"]["completions"]:
            words = ("CompletionsReached", "Reached expected number of succeeded pods")
            self._write(job, pods, [_condition("SuccessCriteriaMet", *words), _condition("Complete", *words)])
            return
        self._make_pods(job, pods)
        self._write(job, pods, [])

    def _verdict(self, job: Object, pods: list[Object], seconds: float) -> tuple[str, str] | None:
        """Why the Job has failed, if it has."""
        spec, num_counted = job["spec"], 0
        for pod in pods:
            if pod["status"].get("phase") != "Failed":
                continue
            action, rule = _action(spec, pod)
            if action == "FailJob":
                name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
                return "PodFailurePolicy", f"Pod {name} failed by {rule}, matching FailJob rule"
            num_counted += action == "Count"
        if num_counted > spec["backoffLimit"]:
            return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        deadline = spec.get("activeDeadlineSeconds")
        if deadline is not None and seconds >= deadline:
            return "DeadlineExceeded", "Job was active longer than specified deadline"
        return None

    def _make_pods(self, job: Object, pods: list[Object]) -> None:
        spec = job["spec"]
        alive = [pod for pod in pods if pod["status"].get("phase") not in ("Succeeded", "Failed")]
        missing = spec["parallelism"] - len(alive)
        if spec["completionMode"] == "Indexed":
            taken = _done(job, pods) | {_index(pod) for pod in alive}
            wanted: list[int | None] = [i for i in range(spec["completions"]) if i not in taken][:missing]
        else:
            wanted = [None] * min(missing, spec["completions"] - len(_done(job, pods)) - len(alive))
        failed = [pod for pod in pods if pod["status"].get("phase") == "Failed"]
        newest = max((pod["status"].get("kubesimEnded", 0.0) for pod in failed), default=0.0)
        if failed and time.time() < newest + self._backoff_seconds * 2 ** (len(failed) - 1):
            return
        namespace = job["metadata"]["namespace"]
        for index in wanted:
            if len(self._objects.each(_PODS)) >= self._faults.quota.get(namespace, 10**9):
                message = f'pods "{job["metadata"]["name"]}-" is forbidden: exceeded quota'
                record_event(self._objects, job, "FailedCreate", f"Error creating: {message}")
                return
            self._objects.create(_PODS, namespace, _pod(job, index))

    def _end_pods(self, pods: list[Object]) -> None:
        for pod in pods:
            if pod["status"].get("phase") not in ("Succeeded", "Failed") and not pod["metadata"].get(
                "deletionTimestamp"
            ):
                self._objects.delete(_PODS, pod["metadata"]["namespace"], pod["metadata"]["name"], "Background")

    def _write(self, job: Object, pods: list[Object], conditions: list[Object]) -> None:
        pods = [pod for _, pod in self._objects.owned_by(job["metadata"]["uid"], _PODS)]
        ended = any(condition["type"] in ("Complete", "Failed") for condition in conditions)
        phases = [pod["status"].get("phase") for pod in pods]
        done = _done(job, pods)
        counts = {
            "active": 0 if ended else sum(phase in ("Pending", "Running") for phase in phases),
            "ready": phases.count("Running"),
            "succeeded": len(done),
            "failed": phases.count("Failed"),
            "completedIndexes": ",".join(map(str, sorted(i for i in done if isinstance(i, int)))),
        }

        def change(target: Object) -> None:
            status = target.setdefault("status", {})
            status.update(counts)
            status.setdefault("startTime", now())
            held = {c["type"] for c in status.get("conditions", [])}
            status["conditions"] = [
                c if c["type"] != "Suspended" or conditions else {**c, "status": "False"}
                for c in status.get("conditions", [])
            ] + [c for c in conditions if c["type"] not in held]
            if ended and any(c["type"] == "Complete" for c in conditions):
                status["completionTime"] = now()

        self._objects.update("jobs", job["metadata"]["namespace"], job["metadata"]["name"], change)

    def _expire(self, job: Object) -> None:
        seconds, uid = job["spec"].get("ttlSecondsAfterFinished"), job["metadata"]["uid"]
        if job["metadata"].get("deletionTimestamp"):
            return
        ended = self._finished.setdefault(uid, time.monotonic())
        if seconds is not None and time.monotonic() >= ended + seconds:
            self._objects.delete("jobs", job["metadata"]["namespace"], job["metadata"]["name"], "Foreground")


def is_finished(job: Object) -> bool:
    conditions = job.get("status", {}).get("conditions", [])
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)


def record_event(objects: Objects, about: Object, reason: str, message: str) -> None:
    """A Warning about an object, once."""
    metadata = about["metadata"]
    name = f"{metadata['name']}.{reason.lower()}"
    if objects.find("events", metadata["namespace"], name) is None:
        objects.create(
            "events",
            metadata["namespace"],
            {"apiVersion": "v1", "kind": "Event", "metadata": {"name": name}, "type": "Warning", "reason": reason,
             "message": message, "firstTimestamp": now(), "lastTimestamp": now(), "count": 1,
             "involvedObject": {"kind": about["kind"], "name": metadata["name"], "uid": metadata["uid"],
                                "namespace": metadata["namespace"]}},
        )  # fmt: skip


def _action(spec: Object, pod: Object) -> tuple[str, str]:
    """What the failure policy says of a failed pod, and by which rule: the first that matches."""
    ends = [
        (status["name"], status["state"]["terminated"]["exitCode"])
        for status in pod["status"].get("containerStatuses", [])
        if status["state"].get("terminated")
    ]
    for number, rule in enumerate(spec.get("podFailurePolicy", {}).get("rules", [])):
        if codes := rule.get("onExitCodes"):
            mine = [code for name, code in ends if codes.get("containerName") in (None, name) and code != 0]
            if any((code in codes["values"]) == (codes["operator"] == "In") for code in mine):
                return rule["action"], f"exit code (rule {number})"
        for wanted in rule.get("onPodConditions", []):
            for condition in pod["status"].get("conditions", []):
                if (condition["type"], condition["status"]) == (wanted["type"], wanted.get("status", "True")):
                    return rule["action"], f"condition {wanted['type']} (rule {number})"
    return "Count", ""


def _done(job: Object, pods: list[Object]) -> set[Any]:
    """Succeeded indexes, or of a plain Job the names of its succeeded pods."""
    succeeded = [pod for pod in pods if pod["status"].get("phase") == "Succeeded"]
    if job["spec"]["completionMode"] == "Indexed":
        return {_index(pod) for pod in succeeded}
    return {pod["metadata"]["name"] for pod in succeeded}


def _index(pod: Object) -> int:
    return int(pod["metadata"]["annotations"][INDEX])


def _pod(job: Object, index: int | None) -> Object:
    """A pod of the Job's template."""
    metadata, template = job["metadata"], job["spec"]["template"]
    owner = {"batch.kubernetes.io/controller-uid": metadata["uid"], "batch.kubernetes.io/job-name": metadata["name"],
             "controller-uid": metadata["uid"], "job-name": metadata["name"]}  # fmt: skip
    given = template.get("metadata", {})
    labels = {**given.get("labels", {}), **owner}
    annotations = dict(given.get("annotations", {}))
    spec: dict[str, Any] = {"terminationGracePeriodSeconds": 30, **template["spec"]}
    prefix = f"{metadata['name']}-"
    if index is not None:
        annotations[INDEX] = labels[INDEX] = str(index)
        prefix = f"{metadata['name']}-{index}-"
        spec["hostname"] = f"{metadata['name']}-{index}"
        [container] = spec["containers"]
        source = {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}}
        variable = {"name": "JOB_COMPLETION_INDEX", "valueFrom": source}
        spec["containers"] = [{**container, "env": [*container.get("env", []), variable]}]
    return {
        "apiVersion": "v1", "kind": "Pod", "spec": spec, "status": {"phase": "Pending"},
        "metadata": {"generateName": prefix, "labels": labels, "annotations": annotations,
                     "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"],
                                          "uid": metadata["uid"], "controller": True, "blockOwnerDeletion": True}]},
    }  # fmt: skip


def _condition(kind: str, reason: str, message: str) -> Object:
    return {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now(),
            "lastProbeTime": now()}  # fmt: skip
