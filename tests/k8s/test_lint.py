"""Our own rules find what breaks them: each is broken once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.k8s.charts import find, render
from tests.k8s.lint import pod_of, problems

Documents = list[dict[str, Any]]


def code(documents: Documents) -> dict[str, Any]:
    pod = pod_of(find(documents, "Deployment", "code"))
    assert pod is not None
    return pod


def container(documents: Documents) -> dict[str, Any]:
    return code(documents)["spec"]["containers"][0]


def without(documents: Documents, kind: str, name: str) -> None:
    documents.remove(find(documents, kind, name))


BREAKS: dict[str, tuple[Callable[[Documents], Any], str]] = {
    "root": (lambda d: code(d)["spec"]["securityContext"].pop("runAsNonRoot"), "may run as root"),
    "seccomp": (lambda d: code(d)["spec"]["securityContext"].pop("seccompProfile"), "no seccomp profile"),
    "host": (lambda d: code(d)["spec"].update(hostNetwork=True), "shares the node's namespaces"),
    "token": (lambda d: code(d)["spec"].pop("automountServiceAccountToken"), "is left open"),
    "account": (lambda d: without(d, "ServiceAccount", "step"), "internvid-step does not exist"),
    "latest": (lambda d: container(d).update(image="internvid/code:latest"), "not pinned"),
    "untagged": (lambda d: container(d).update(image="internvid/code"), "not pinned"),
    "limits": (lambda d: container(d)["resources"]["limits"].pop("memory"), "no memory in its limits"),
    "requests": (lambda d: container(d)["resources"]["requests"].pop("cpu"), "no cpu in its requests"),
    "privileges": (lambda d: container(d)["securityContext"].update(allowPrivilegeEscalation=True), "gain privileges"),
    "writable": (lambda d: container(d)["securityContext"].pop("readOnlyRootFilesystem"), "is writable"),
    "capabilities": (lambda d: container(d)["securityContext"].pop("capabilities"), "keeps capabilities"),
    "probe": (lambda d: container(d).pop("readinessProbe"), "no readinessProbe"),
    "secret": (lambda d: container(d)["env"].append({"name": "PGPASSWORD", "value": "x"}), "is written out"),
    "volume": (lambda d: code(d)["spec"]["volumes"].pop(0), "which is no volume"),
    "unused volume": (lambda d: container(d)["volumeMounts"].pop(0), "is mounted nowhere"),
    "config map": (lambda d: without(d, "ConfigMap", "settings"), "there is no ConfigMap internvid-settings"),
    "environment": (lambda d: without(d, "ConfigMap", "env"), "there is no ConfigMap internvid-env"),
    "key": (lambda d: find(d, "ConfigMap", "instance")["data"].clear(), "no key dagster.yaml"),
    "selector": (
        lambda d: code(d)["metadata"]["labels"].update({"app.kubernetes.io/component": "x"}),
        "not match its own",
    ),
    "service": (lambda d: find(d, "Service", "code")["spec"]["selector"].update(a="b"), "pods of 0 workloads"),
    "port": (lambda d: find(d, "Service", "code")["spec"]["ports"][0].update(targetPort="x"), "has a port x"),
    "budget": (lambda d: find(d, "PodDisruptionBudget", "webserver")["spec"].update(minAvailable=2), "ever be drained"),
    "role": (lambda d: without(d, "Role", "run"), "there is no Role internvid-run"),
    "everything": (lambda d: find(d, "Role", "run")["rules"][0].update(verbs=["*"]), "allows everything"),
    "restart": (
        lambda d: pod_of(find(d, "Job", "migrate"))["spec"].update(restartPolicy="OnFailure"),
        "restarts by itself",
    ),  # type: ignore[index]
    "name": (lambda d: find(d, "Job", "migrate")["metadata"].update(name="x" * 64), "no DNS label"),
}


@pytest.mark.parametrize("rule", BREAKS)
def test_a_broken_rule_is_told(rule: str) -> None:
    documents = render("gpu")
    break_it, told = BREAKS[rule]
    break_it(documents)
    assert any(told in line for line in problems(documents)), problems(documents)
