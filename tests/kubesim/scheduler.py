"""A small scheduler: pods go to the first node that has their labels and their resources free."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from tests.kubesim.objects import Object, Objects, now

_UNITS = {
    "m": 1e-3,
    "": 1.0,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


@dataclass(frozen=True)
class Node:
    """What a node has."""

    name: str
    allocatable: dict[str, str]
    labels: dict[str, str] = field(default_factory=dict)


def amount(text: str) -> float:
    """A Kubernetes quantity as a number."""
    number, unit = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", str(text)).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS[unit]


class Scheduler:
    """Sets `spec.nodeName`, or the reason why it cannot."""

    def __init__(self, objects: Objects, nodes: list[Node]):
        self._objects, self.nodes = objects, nodes

    def reconcile(self) -> None:
        for pod in self._objects.each("pods"):
            if not pod["spec"].get("nodeName") and not pod["metadata"].get("deletionTimestamp"):
                self._schedule(pod)

    def _schedule(self, pod: Object) -> None:
        reasons = Counter[str]()
        for node in self.nodes:
            lacks = self._lacks(node, pod)
            if lacks is None:
                self._bind(pod, node)
                return
            reasons[lacks] += 1
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        message = f"0/{len(self.nodes)} nodes are available: {told}."
        self._condition(pod, {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message})

    def _lacks(self, node: Node, pod: Object) -> str | None:
        wanted = pod["spec"].get("nodeSelector") or {}
        if any(node.labels.get(name) != value for name, value in wanted.items()):
            return "node(s) didn't match Pod's node affinity/selector"
        for resource, need in _requests(pod).items():
            used = sum(
                _requests(other).get(resource, 0.0)
                for other in self._objects.each("pods")
                if other["spec"].get("nodeName") == node.name
                and other["status"].get("phase") not in ("Succeeded", "Failed")
            )
            if used + need > amount(node.allocatable.get(resource, "0")):
                return f"Insufficient {resource}"
        return None

    def _bind(self, pod: Object, node: Node) -> None:
        metadata = pod["metadata"]
        self._objects.update(
            "pods", metadata["namespace"], metadata["name"], lambda one: one["spec"].update(nodeName=node.name)
        )
        self._condition(pod, {"type": "PodScheduled", "status": "True"})

    def _condition(self, pod: Object, condition: Object) -> None:
        def change(one: Object) -> None:
            conditions = one["status"].setdefault("conditions", [])
            if not any({**condition, "lastTransitionTime": c.get("lastTransitionTime")} == c for c in conditions):
                conditions[:] = [c for c in conditions if c["type"] != condition["type"]]
                conditions.append({**condition, "lastTransitionTime": now()})

        self._objects.update("pods", pod["metadata"]["namespace"], pod["metadata"]["name"], change)


def _requests(pod: Object) -> dict[str, float]:
    total = Counter[str]()
    for container in pod["spec"]["containers"]:
        resources = container.get("resources") or {}
        for name, text in {**(resources.get("limits") or {}), **(resources.get("requests") or {})}.items():
            total[name] += amount(text)  # type: ignore[assignment]
    return dict(total)
