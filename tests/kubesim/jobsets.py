"""JobSets become Jobs and a headless Service, TrainJobs become JobSets: as much of both controllers as training uses."""

from __future__ import annotations

import copy
from typing import Any

from tests.kubesim.jobs import is_finished
from tests.kubesim.objects import ApiError, Object, Objects, now

_NAME = "jobset.sigs.k8s.io/jobset-name"
_REPLICATED = "jobset.sigs.k8s.io/replicatedjob-name"


class JobSetController:
    """Without restarts: a failed Job fails the set."""

    def __init__(self, objects: Objects):
        self._objects = objects

    def reconcile(self) -> None:
        for jobset in self._objects.each("jobsets"):
            if jobset["metadata"].get("deletionTimestamp") or _state(jobset):
                continue
            jobs = {
                job["metadata"]["name"]: job for _, job in self._objects.owned_by(jobset["metadata"]["uid"], "jobs")
            }
            self._make_service(jobset)
            for replicated in jobset["spec"]["replicatedJobs"]:
                for index in range(replicated.get("replicas", 1)):
                    self._make_job(jobset, replicated, index, jobs)
            self._judge(jobset, list(jobs.values()))

    def _make_service(self, jobset: Object) -> None:
        metadata, network = jobset["metadata"], jobset["spec"].get("network", {})
        name = network.get("subdomain") or metadata["name"]
        if self._objects.find("services", metadata["namespace"], name) is None:
            spec = {"clusterIP": "None", "publishNotReadyAddresses": network.get("publishNotReadyAddresses", True),
                    "selector": {_NAME: metadata["name"]}}  # fmt: skip
            self._objects.create("services", metadata["namespace"], _owned(jobset, "v1", "Service", name, spec))

    def _make_job(self, jobset: Object, replicated: Object, index: int, jobs: dict[str, Object]) -> None:
        metadata = jobset["metadata"]
        name = f"{metadata['name']}-{replicated['name']}-{index}"
        suspended = jobset["spec"].get("suspend", False)
        if name in jobs:
            if jobs[name]["spec"]["suspend"] != suspended:
                self._objects.update(
                    "jobs", metadata["namespace"], name, lambda job: job["spec"].update(suspend=suspended)
                )
            return
        template = copy.deepcopy(replicated["template"])
        spec = {"completionMode": "NonIndexed", "backoffLimit": 6, "parallelism": 1, "completions": 1, **template["spec"],
                "suspend": suspended}  # fmt: skip
        labels = {_NAME: metadata["name"], _REPLICATED: replicated["name"]}
        pod = spec["template"]
        pod.setdefault("metadata", {}).setdefault("labels", {}).update(labels)
        pod["spec"]["subdomain"] = jobset["spec"].get("network", {}).get("subdomain") or metadata["name"]
        job = _owned(jobset, "batch/v1", "Job", name, spec)
        job["metadata"]["labels"] = {**template.get("metadata", {}).get("labels", {}), **labels}
        self._objects.create("jobs", metadata["namespace"], job)

    def _judge(self, jobset: Object, jobs: list[Object]) -> None:
        ends = [_job_end(job) for job in jobs if is_finished(job)]
        failed = [end for end in ends if end["type"] == "Failed"]
        if failed:
            message = f"jobset failed due to one or more job failures: {failed[0]['reason']}"
            _finish(self._objects, "jobsets", jobset, "Failed", "FailedJobs", message)
        elif jobs and len(ends) == len(jobs):
            _finish(self._objects, "jobsets", jobset, "Completed", "AllJobsCompleted", "jobset completed successfully")


class TrainJobController:
    """A TrainJob of a ClusterTrainingRuntime with one replicated job `node`."""

    def __init__(self, objects: Objects):
        self._objects = objects

    def reconcile(self) -> None:
        for trainjob in self._objects.each("trainjobs"):
            metadata = trainjob["metadata"]
            if metadata.get("deletionTimestamp") or _state(trainjob):
                continue
            jobset = self._objects.find("jobsets", metadata["namespace"], metadata["name"])
            if jobset is None:
                self._make(trainjob)
                continue
            self._suspend(jobset, trainjob["spec"].get("suspend", False))
            if state := _state(jobset):
                end = next(c for c in jobset["status"]["conditions"] if c["type"] == state)
                kind = "Complete" if state == "Completed" else "Failed"
                _finish(self._objects, "trainjobs", trainjob, kind, end["reason"], end["message"])

    def _suspend(self, jobset: Object, suspended: bool) -> None:
        metadata = jobset["metadata"]
        if jobset["spec"].get("suspend", False) != suspended:
            self._objects.update(
                "jobsets", metadata["namespace"], metadata["name"], lambda one: one["spec"].update(suspend=suspended)
            )

    def _make(self, trainjob: Object) -> None:
        metadata, spec = trainjob["metadata"], trainjob["spec"]
        try:
            runtime = self._objects.get("clustertrainingruntimes", "", spec["runtimeRef"]["name"])
        except ApiError:
            return
        jobset_spec = copy.deepcopy(runtime["spec"]["template"]["spec"])
        [replicated] = jobset_spec["replicatedJobs"]
        job = replicated["template"]["spec"]
        job.update(
            completionMode="Indexed", completions=spec["trainer"]["numNodes"], parallelism=spec["trainer"]["numNodes"]
        )
        pod = job["template"]["spec"]
        [container] = pod["containers"]
        trainer = spec["trainer"]
        for name in ("image", "command", "args"):
            container[name] = trainer[name]
        container["env"] = [*container.get("env", []), *trainer["env"]]
        container["resources"] = trainer["resourcesPerNode"]
        for patch in spec.get("runtimePatches", []):
            for one in patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]:
                _patch_pod(pod, container, one["template"]["spec"]["template"]["spec"])
        jobset_spec["suspend"] = spec.get("suspend", False)
        jobset = _owned(trainjob, "jobset.x-k8s.io/v1alpha2", "JobSet", metadata["name"], jobset_spec)
        self._objects.create("jobsets", metadata["namespace"], jobset)


def _patch_pod(pod: Object, container: Object, patch: Object) -> None:
    for name, value in patch.items():
        if name == "containers":
            for one in value:
                assert one["name"] == container["name"], f"the runtime has no container {one['name']}"
                container.update({key: held for key, held in one.items() if key != "name"})
        else:
            pod[name] = value


def _owned(owner: Object, version: str, kind: str, name: str, spec: Any) -> Object:
    reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
                 "uid": owner["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True}  # fmt: skip
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "ownerReferences": [reference]},
        "spec": spec,
    }


def _state(item: Object) -> str:
    for condition in item.get("status", {}).get("conditions", []):
        if condition["type"] in ("Completed", "Complete", "Failed") and condition["status"] == "True":
            return condition["type"]
    return ""


def _job_end(job: Object) -> Object:
    return next(c for c in job["status"]["conditions"] if c["type"] in ("Complete", "Failed"))


def _finish(objects: Objects, plural: str, item: Object, kind: str, reason: str, message: str) -> None:
    condition = {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now()}
    objects.update(
        plural,
        item["metadata"]["namespace"],
        item["metadata"]["name"],
        lambda one: one.setdefault("status", {}).setdefault("conditions", []).append(condition),
    )
