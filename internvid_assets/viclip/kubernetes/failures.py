"""Why a training does not start, or has ended, in the cluster's own words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from internvid_assets.viclip.kubernetes.pod import PEER_LOST

_INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
_HARMLESS_WAITING = frozenset({"ContainerCreating", "PodInitializing"})


@dataclass(frozen=True)
class PodProblem:
    """One pod's own reason, e.g. `OOMKilled`, with what the cluster says about it."""

    pod: str
    node: str
    reason: str
    detail: str
    ended_at: str = ""

    def __str__(self) -> str:
        where = f" on {self.node}" if self.node else ""
        return f"{self.reason}: pod {self.pod}{where}" + (f": {self.detail}" if self.detail else "")


class TrainingFailed(RuntimeError):
    """A training in the cluster that did not end well: the reason, and the last lines of the pod that it is about.

    `has_ended`: by the cluster's own verdict, so there is something to look at; else the launcher gave up.
    """

    def __init__(self, reason: str, message: str, log: Sequence[str] = (), has_ended: bool = False):
        tail = "\n".join(["; its last lines:", *log]) if log else ""
        super().__init__(f"training on Kubernetes failed: {message}{tail}")
        self.reason, self.log, self.has_ended = reason, tuple(log), has_ended


def outcome(workload: dict[str, Any]) -> tuple[str, str]:
    """(`running`, `suspended`, `succeeded` or `failed`; the cluster's words) of a Job, JobSet or TrainJob."""
    for condition in workload.get("status", {}).get("conditions", []):
        if condition["status"] == "True" and condition["type"] in ("Complete", "Completed", "Failed"):
            words = ": ".join(condition[key] for key in ("reason", "message") if condition.get(key))
            return "failed" if condition["type"] == "Failed" else "succeeded", words
    return "suspended" if workload["spec"].get("suspend") else "running", ""


def node_index(pod: dict[str, Any]) -> int:
    """Rank of a pod's node."""
    metadata = pod["metadata"]
    return int({**metadata.get("labels", {}), **metadata.get("annotations", {})}.get(_INDEX_LABEL, -1))


def has_started(pod: dict[str, Any]) -> bool:
    """Whether the container has run, or runs."""
    return any(s.get("state", {}).keys() & {"running", "terminated"} for s in _containers(pod)) or is_over(pod)


def is_over(pod: dict[str, Any]) -> bool:
    """Whether the pod will not run again."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def waiting_problem(pod: dict[str, Any]) -> PodProblem:
    """Why a pod has not started: its container's reason, or the scheduler's."""
    for status in _containers(pod):
        waiting = status.get("state", {}).get("waiting") or {}
        if waiting.get("reason") and waiting["reason"] not in _HARMLESS_WAITING:
            return _problem(pod, waiting["reason"], waiting.get("message", ""))
    for condition in pod.get("status", {}).get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return _problem(pod, condition.get("reason", "Unschedulable"), condition.get("message", ""))
    return _problem(pod, "NotStarted", "its containers are still being made")


def end_problem(pod: dict[str, Any]) -> PodProblem | None:
    """Why a pod failed; None when it did not."""
    status = pod.get("status", {})
    if status.get("phase") != "Failed":
        return None
    for condition in status.get("conditions", []):
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True" and not status.get("reason"):
            return _problem(pod, condition.get("reason", "Disrupted"), condition.get("message", ""), _ended_at(pod))
    if status.get("reason"):  # Evicted, NodeLost, DeadlineExceeded: the node's or the scheduler's words
        return _problem(pod, status["reason"], status.get("message", ""), _ended_at(pod))
    ends = [s["state"]["terminated"] for s in _containers(pod) if s.get("state", {}).get("terminated")]
    if not ends:
        return _problem(pod, "Failed", "it left no exit code", _ended_at(pod))
    end = ends[0]
    code = end["exitCode"]
    reason = "PeerLost" if code == PEER_LOST else end.get("reason") or "Error"
    detail = f"exit code {code}" + (f", {end['message']}" if end.get("message") else "")
    return _problem(pod, reason, detail, _ended_at(pod))


def main_problem(problems: Sequence[PodProblem]) -> PodProblem | None:
    """The newest that is not only the echo of another's loss."""
    return max(problems, key=lambda p: (p.reason != "PeerLost", p.ended_at), default=None)


def _problem(pod: dict[str, Any], reason: str, detail: str, ended_at: str = "") -> PodProblem:
    return PodProblem(pod["metadata"]["name"], pod.get("spec", {}).get("nodeName", ""), reason, detail, ended_at)


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    status = pod.get("status", {})
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def _ended_at(pod: dict[str, Any]) -> str:
    ends = [
        s["state"]["terminated"].get("finishedAt") for s in _containers(pod) if s.get("state", {}).get("terminated")
    ]
    return max((end for end in ends if end), default=pod["metadata"].get("creationTimestamp", ""))
