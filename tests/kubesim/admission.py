"""What is let in: documents that fit the pinned schemas, with the defaults that the API server fills in."""

from __future__ import annotations

import base64
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate

from tests.kubesim.objects import ApiError, Object

KUBERNETES = "1.36"
SCHEMAS = Path(__file__).parents[2] / "k8s" / "schemas"
_NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
_CUSTOM = {"JobSet": "jobset", "TrainJob": "trainjob", "ClusterTrainingRuntime": "clustertrainingruntime"}


def admit(item: Object) -> Object:
    """The object with its defaults. Raises: ApiError 422 naming what is wrong with it."""
    check_schema(item)
    name = item["metadata"].get("name") or item["metadata"].get("generateName", "").rstrip("-.")
    if not _NAME.match(name) or len(name) > 253:
        raise _invalid(item, f"metadata.name: {name!r} must be a lower case DNS name")
    fill = {"Job": _fill_job, "Secret": _fill_secret, "Pod": _fill_pod}.get(item["kind"])
    if fill is not None:
        fill(item)
    return item


def check_schema(item: Object) -> None:
    """Raises: ApiError 422 for an unknown field or a wrong type."""
    kind = item.get("kind", "")
    try:
        if kind in _CUSTOM:
            jsonschema.validate(item, custom_schema(_CUSTOM[kind]))
        else:
            kubernetes_validate.validate(item, KUBERNETES, strict=True)
    except (kubernetes_validate.ValidationError, jsonschema.ValidationError) as error:
        raise _invalid(item, f"{'.'.join(map(str, error.path))}: {error.message}") from error


@cache
def custom_schema(name: str) -> dict[str, Any]:
    """A pinned schema of `k8s/schemas`."""
    return json.loads((SCHEMAS / f"{name}.json").read_text())


def check_update(before: Object, after: Object) -> None:
    """Raises: ApiError 422 when what may not change was changed."""
    check_schema(after)
    if after["kind"] == "Job":
        for field in ("completions", "completionMode", "selector", "podFailurePolicy", "template"):
            if before["spec"].get(field) != after["spec"].get(field):
                raise _invalid(after, f"spec.{field}: field is immutable")


def _fill_job(job: Object) -> None:
    spec = job["spec"]
    job.setdefault("status", {})
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("backoffLimit", 6)
    spec.setdefault("parallelism", 1)
    spec.setdefault("completions", 1)
    spec.setdefault("suspend", False)
    pod = spec["template"]["spec"]
    if pod.get("restartPolicy") not in ("Never", "OnFailure"):
        raise _invalid(job, "spec.template.spec.restartPolicy: supported values: OnFailure, Never")
    if "podFailurePolicy" in spec and pod["restartPolicy"] != "Never":
        raise _invalid(job, "spec.template.spec.restartPolicy: only Never is supported with a podFailurePolicy")
    names = {container["name"] for container in pod["containers"]}
    for rule in spec.get("podFailurePolicy", {}).get("rules", []):
        if (codes := rule.get("onExitCodes")) and codes.get("containerName") not in names | {None}:
            raise _invalid(job, f"spec.podFailurePolicy: no container {codes['containerName']!r}")
    _check_pod(job, pod)


def _fill_pod(pod: Object) -> None:
    _check_pod(pod, pod["spec"])
    pod["spec"].setdefault("restartPolicy", "Always")
    pod["spec"].setdefault("terminationGracePeriodSeconds", 30)
    pod.setdefault("status", {"phase": "Pending"})


def _check_pod(item: Object, spec: dict[str, Any]) -> None:
    if len(spec["containers"]) != 1 or spec.get("initContainers"):
        raise _invalid(item, "the stand-in runs pods of one container")
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    for mount in spec["containers"][0].get("volumeMounts", []):
        if mount["name"] not in volumes:
            raise _invalid(item, f"volumeMounts: {mount['name']!r} not found")


def _fill_secret(secret: Object) -> None:
    data = secret.setdefault("data", {})
    for key, value in secret.pop("stringData", {}).items():
        data[key] = base64.b64encode(value.encode()).decode()


def _invalid(item: Object, message: str) -> ApiError:
    name = item.get("metadata", {}).get("name", "")
    return ApiError(422, "Invalid", f'{item.get("kind")} "{name}" is invalid: {message}')
