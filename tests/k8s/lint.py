"""What every manifest of ours must keep, as functions from documents to the lines of what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Document = dict[str, Any]
_LONG = {"Deployment", "StatefulSet"}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_PINNED = re.compile(r"\S+(:[\w.-]*\d+\.\d+[\w.-]*|@sha256:[0-9a-f]{64})")


def pod_of(document: Document) -> Document | None:
    """The pod template of a document that has one, with its labels."""
    spec = document.get("spec", {})
    if document["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    template = spec.get("template")
    return template if isinstance(template, dict) and "spec" in template else None


def containers_of(pod: Document) -> list[Document]:
    """All containers, those that run first included."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def where(document: Document) -> str:
    return f"{document['kind']} {document['metadata']['name']}"


def problems(documents: list[Document]) -> list[str]:
    """Every broken rule of every document."""
    found: list[str] = []
    for document in documents:
        if not _NAME.fullmatch(document["metadata"]["name"]):
            found.append(f"{where(document)}: its name is no DNS label of at most 63 characters")
        pod = pod_of(document)
        if pod is not None:
            found += [f"{where(document)}: {line}" for line in _pod_problems(document, pod, documents)]
    return found + list(_selector_problems(documents)) + list(_access_problems(documents))


def _pod_problems(document: Document, pod: Document, documents: list[Document]) -> Iterator[str]:
    spec = pod["spec"]
    security = spec.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
        yield "the pod may run as root"
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "the pod has no seccomp profile"
    if any(spec.get(host) for host in ("hostNetwork", "hostPID", "hostIPC")):
        yield "the pod shares the node's namespaces"
    if spec.get("automountServiceAccountToken") is None:
        yield "whether the pod has a token is left open"
    if document["kind"] in ("Job", "CronJob") and spec.get("restartPolicy") != "Never":
        yield "a Job's pod restarts by itself, unseen by its failure policy"
    accounts = {d["metadata"]["name"] for d in documents if d["kind"] == "ServiceAccount"}
    if spec.get("serviceAccountName") not in accounts:
        yield f"service account {spec.get('serviceAccountName')} does not exist"
    claims = {claim["metadata"]["name"] for claim in document["spec"].get("volumeClaimTemplates", [])}
    yield from _volume_problems(spec, claims, documents)
    for container in containers_of(pod):
        long = document["kind"] in _LONG
        yield from (f"container {container['name']}: {line}" for line in _container_problems(container, long))


def _container_problems(container: Document, long: bool) -> Iterator[str]:
    if not _PINNED.fullmatch(container["image"]):
        yield f"image {container['image']} is not pinned to a version or digest"
    resources = container.get("resources", {})
    for kind in ("requests", "limits"):
        for name in ("cpu", "memory"):
            if name not in resources.get(kind, {}):
                yield f"no {name} in its {kind}"
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False:
        yield "it may gain privileges"
    if security.get("readOnlyRootFilesystem") is not True:
        yield "its root file system is writable"
    if security.get("capabilities", {}).get("drop") != ["ALL"]:
        yield "it keeps capabilities"
    if long:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if probe not in container:
                yield f"no {probe}"
    for variable in container.get("env", []):
        if re.search("PASSWORD|SECRET|TOKEN|(ACCESS|API|ENDPOINT)_KEY", variable["name"]) and "value" in variable:
            yield f"{variable['name']} is written out instead of read from a Secret"


def _volume_problems(spec: Document, claims: set[str], documents: list[Document]) -> Iterator[str]:
    held = {(d["kind"], d["metadata"]["name"]): d for d in documents if d["kind"] in ("ConfigMap", "Secret")}
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        for mount in container.get("volumeMounts", []):
            volume = volumes.get(mount["name"])
            if volume is None:
                if mount["name"] not in claims:
                    yield f"container {container['name']} mounts {mount['name']}, which is no volume"
            elif "configMap" in volume:
                source = held.get(("ConfigMap", volume["configMap"]["name"]))
                if source is None:
                    yield f"volume {volume['name']}: there is no ConfigMap {volume['configMap']['name']}"
                elif "subPath" in mount and mount["subPath"] not in source["data"]:
                    yield f"volume {volume['name']}: no key {mount['subPath']} in {source['metadata']['name']}"
        for source in container.get("envFrom", []):
            name = source.get("configMapRef", {}).get("name")
            if name and ("ConfigMap", name) not in held:
                yield f"container {container['name']}: there is no ConfigMap {name}"
    for name in set(volumes) - {m["name"] for c in containers_of({"spec": spec}) for m in c.get("volumeMounts", [])}:
        yield f"volume {name} is mounted nowhere"


def _matches(selector: Document, labels: Document) -> bool:
    return all(labels.get(name) == value for name, value in selector.items())


def _selector_problems(documents: list[Document]) -> Iterator[str]:
    pods = [(where(d), pod["metadata"]["labels"], pod) for d in documents if (pod := pod_of(d))]
    for document in documents:
        spec = document.get("spec", {})
        if document["kind"] in _LONG:
            if not _matches(spec["selector"]["matchLabels"], spec["template"]["metadata"]["labels"]):
                yield f"{where(document)}: its selector does not match its own pods"
        elif document["kind"] == "Service":
            chosen = [pod for _, labels, pod in pods if _matches(spec["selector"], labels)]
            if len(chosen) != 1:
                yield f"{where(document)}: selects the pods of {len(chosen)} workloads, not of one"
            names = {p["name"] for pod in chosen for c in containers_of(pod) for p in c.get("ports", [])}
            for port in spec["ports"]:
                if port["targetPort"] not in names:
                    yield f"{where(document)}: no container has a port {port['targetPort']}"
        elif document["kind"] == "PodDisruptionBudget":
            selector = spec["selector"]["matchLabels"]
            owners = [
                d for d in documents if d["kind"] in _LONG and _matches(selector, pod_of(d)["metadata"]["labels"])
            ]  # type: ignore[index]
            if len(owners) != 1:
                yield f"{where(document)}: guards {len(owners)} workloads, not one"
            elif owners[0]["spec"]["replicas"] <= spec.get("minAvailable", 0):
                yield f"{where(document)}: no node with a pod of {where(owners[0])} could ever be drained"


def _access_problems(documents: list[Document]) -> Iterator[str]:
    named = {(d["kind"], d["metadata"]["name"]) for d in documents}
    for document in documents:
        if document["kind"] == "RoleBinding":
            for kind, name in [("Role", document["roleRef"]["name"]), *(("ServiceAccount", s["name"]) for s in document["subjects"])]:  # fmt: skip
                if (kind, name) not in named:
                    yield f"{where(document)}: there is no {kind} {name}"
        elif document["kind"] in ("Role", "ClusterRole"):
            for rule in document["rules"]:
                if "*" in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]:
                    yield f"{where(document)}: allows everything of something"
