"""The objects of one training: the files of `k8s/training` with named fields filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from internvid_assets.settings import KubernetesSettings, Settings
from internvid_assets.viclip.launch import Training, training_arguments

MANIFESTS = Path(__file__).parents[3] / "k8s" / "training"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
Manifest = dict[str, Any]


@dataclass(frozen=True)
class Backend:
    """How a cluster is asked for the pods: the object that is made, and how its pods are called."""

    kind: str
    group: str
    version: str
    plural: str
    pod_label: str
    first_host: str
    """Host name of the first node's pod, by the name of the object."""


BACKENDS = {
    "job": Backend("Job", "batch", "v1", "jobs", "batch.kubernetes.io/job-name", "{name}-0"),
    "jobset": Backend(
        "JobSet", "jobset.x-k8s.io", "v1alpha2", "jobsets", "jobset.sigs.k8s.io/jobset-name", "{name}-node-0-0"
    ),
    "trainjob": Backend(
        "TrainJob", "trainer.kubeflow.org", "v1alpha1", "trainjobs", "jobset.sigs.k8s.io/jobset-name", "{name}-node-0-0"
    ),
}


def job_name(name: str) -> str:
    """Of the objects of a training called `RUN_KEY-ROLE`."""
    return f"viclip-{name}"


def build_workload(settings: Settings, training: Training, environment: Mapping[str, str] | None = None) -> Manifest:
    """The Job, JobSet or TrainJob of the settings.

    Args:
        environment: for every process, beside the settings'.
    """
    kubernetes = settings.viclip.kubernetes
    job = _job(settings, training, environment or {})
    if kubernetes.backend == "jobset":
        return _jobset(kubernetes, job)
    return _trainjob(settings, job) if kubernetes.backend == "trainjob" else job


def build_owned(settings: Settings, name: str, owner: Mapping[str, Any]) -> list[Manifest]:
    """Service and Secret of a training, owned by its workload `owner` as the API server gave it back."""
    kubernetes, backend = settings.viclip.kubernetes, BACKENDS[settings.viclip.kubernetes.backend]
    owned = []
    if kubernetes.backend == "job":
        service = _load(kubernetes, "service", name)
        service["spec"]["selector"] = {backend.pod_label: job_name(name)}
        owned.append(service)
    if _needs_secret(settings):
        secret = _load(kubernetes, "secret", name)
        secret["stringData"] = {
            "access_key_id": settings.s3.access_key_id, "secret_access_key": settings.s3.secret_access_key,
        }  # fmt: skip
        owned.append(secret)
    for manifest in owned:
        manifest["metadata"]["ownerReferences"] = [
            {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
             "uid": owner["metadata"]["uid"], "controller": True, "blockOwnerDeletion": False}
        ]  # fmt: skip
    return owned


def check_kubernetes(settings: Settings) -> None:
    """Raises: ValueError when pods could not run, or not reach the media store, with these settings."""
    kubernetes = settings.viclip.kubernetes
    if not kubernetes.image:
        raise ValueError("viclip.launcher is k8s, but viclip.kubernetes.image is empty: name the trainer's image")
    if not settings.media_uri.startswith("s3://"):
        wanted = (str(settings.home.resolve()), settings.media_uri)
        if kubernetes.claim is None or not all(Path(p).is_relative_to(kubernetes.claim_path) for p in wanted):
            raise ValueError(
                f"pods cannot reach the media in {settings.media_uri}: set media_root to s3://…, or name a shared volume in "
                f"viclip.kubernetes.claim and keep home and media under its claim_path {kubernetes.claim_path}"
            )
    if kubernetes.messages == "s3" and not settings.media_uri.startswith("s3://"):
        raise ValueError(f"viclip.kubernetes.messages is s3, but media_root is {settings.media_uri}: use log")


def _job(settings: Settings, training: Training, environment: Mapping[str, str]) -> Manifest:
    kubernetes, name = settings.viclip.kubernetes, training.name
    job = _load(kubernetes, "job", name)
    job["spec"].update(
        completions=kubernetes.nodes,
        parallelism=kubernetes.nodes,
        backoffLimit=kubernetes.backoff_limit,
        activeDeadlineSeconds=kubernetes.deadline_seconds,
        ttlSecondsAfterFinished=kubernetes.keep_seconds,
    )
    pod = job["spec"]["template"]["spec"]
    pod.update(
        subdomain=job_name(name),
        serviceAccountName=kubernetes.service_account,
        nodeSelector=kubernetes.node_selector,
        tolerations=list(kubernetes.tolerations),
    )
    limits = dict(kubernetes.resources)
    if kubernetes.gpu_resource != "none":
        limits[kubernetes.gpu_resource] = str(settings.viclip.num_processes)
    [container] = pod["containers"]
    container.update(
        image=kubernetes.image,
        args=pod_arguments(settings, training),
        env=[*container["env"], *_environment(settings, name, environment)],
        resources={"requests": limits, "limits": dict(limits)},
    )
    _patch_volumes(kubernetes, pod, container)
    return job


def pod_arguments(settings: Settings, training: Training) -> list[str]:
    """What each pod's entry is told; after `--` the arguments of `training.train`, to which it adds its folders."""
    kubernetes, name = settings.viclip.kubernetes, job_name(training.name)
    host = BACKENDS[kubernetes.backend].first_host.format(name=name)
    return [
        "--name", training.name, "--shards-id", training.shards_id, "--nodes", str(kubernetes.nodes),
        "--processes", str(settings.viclip.num_processes), "--first-node", f"{host}.{name}",
        "--port", str(kubernetes.port), "--", *training_arguments(settings.viclip, training.recipe),
    ]  # fmt: skip


def _patch_volumes(kubernetes: KubernetesSettings, pod: Manifest, container: Manifest) -> None:
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    volumes["shared-memory"]["emptyDir"]["sizeLimit"] = kubernetes.shared_memory
    volumes["scratch"]["emptyDir"]["sizeLimit"] = kubernetes.scratch
    if kubernetes.claim:
        pod["volumes"].append({"name": "claim", "persistentVolumeClaim": {"claimName": kubernetes.claim}})
        container["volumeMounts"].append({"name": "claim", "mountPath": kubernetes.claim_path})


def _environment(settings: Settings, name: str, environment: Mapping[str, str]) -> list[Manifest]:
    """Where media lie, the keys to them, Dagster Pipes, and what the settings add."""
    kubernetes = settings.viclip.kubernetes
    on_s3 = settings.media_uri.startswith("s3://")
    values = {
        "INTERNVID_HOME": "/mnt/scratch/home" if on_s3 else str(settings.home.resolve()),
        "INTERNVID_MEDIA_ROOT": settings.media_uri,
        **environment,
        **kubernetes.env,
    }
    if on_s3:
        values["INTERNVID_S3__REGION"] = values["AWS_DEFAULT_REGION"] = settings.s3.region
        if settings.s3.endpoint_url:
            values["INTERNVID_S3__ENDPOINT_URL"] = values["AWS_ENDPOINT_URL"] = settings.s3.endpoint_url
    plain: list[Manifest] = [{"name": key, "value": value} for key, value in values.items()]
    secret = kubernetes.s3_secret or (job_name(name) if _needs_secret(settings) else None)
    if secret is None:
        return plain
    keys = {
        "INTERNVID_S3__ACCESS_KEY_ID": "access_key_id", "INTERNVID_S3__SECRET_ACCESS_KEY": "secret_access_key",
        "AWS_ACCESS_KEY_ID": "access_key_id", "AWS_SECRET_ACCESS_KEY": "secret_access_key",
    }  # fmt: skip
    return plain + [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
        for variable, key in keys.items()
    ]


def _needs_secret(settings: Settings) -> bool:
    return settings.viclip.kubernetes.s3_secret is None and settings.s3.access_key_id is not None


def _jobset(kubernetes: KubernetesSettings, job: Manifest) -> Manifest:
    jobset = _framed(kubernetes, "jobset", job)
    spec = {key: value for key, value in job["spec"].items() if key not in ("suspend", "ttlSecondsAfterFinished")}
    jobset["spec"]["ttlSecondsAfterFinished"] = kubernetes.keep_seconds
    jobset["spec"]["network"]["subdomain"] = job["metadata"]["name"]
    [replicated] = jobset["spec"]["replicatedJobs"]
    replicated["template"] = {"metadata": {"labels": job["spec"]["template"]["metadata"]["labels"]}, "spec": spec}
    return jobset


def _trainjob(settings: Settings, job: Manifest) -> Manifest:
    kubernetes = settings.viclip.kubernetes
    trainjob = _framed(kubernetes, "trainjob", job)
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    spec = trainjob["spec"]
    spec["activeDeadlineSeconds"] = kubernetes.deadline_seconds
    spec["runtimeRef"]["name"] = kubernetes.runtime
    spec["trainer"].update(
        {name: container[name] for name in ("image", "command", "args", "env")},
        numNodes=kubernetes.nodes,
        numProcPerNode=settings.viclip.num_processes,
        resourcesPerNode=container["resources"],
    )
    [patch] = spec["runtimePatches"]
    [replicated] = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    replicated["template"]["spec"]["template"]["spec"] = {
        **{name: pod[name] for name in ("serviceAccountName", "terminationGracePeriodSeconds", "nodeSelector",
                                        "tolerations", "securityContext", "volumes")},
        "containers": [{"name": "node", **{name: container[name] for name in ("securityContext", "volumeMounts")}}],
    }  # fmt: skip
    return trainjob


def _framed(kubernetes: KubernetesSettings, file: str, job: Manifest) -> Manifest:
    manifest = _load(kubernetes, file, "")
    manifest["metadata"] = dict(job["metadata"])
    return manifest


def _load(kubernetes: KubernetesSettings, file: str, name: str) -> Manifest:
    """A manifest's file with its name, its namespace and, where it is what a queue would hold back, its queue."""
    folder = Path(kubernetes.manifests) if kubernetes.manifests else MANIFESTS
    manifest: Manifest = yaml.safe_load((folder / f"{file}.yaml").read_text())
    manifest["metadata"].update(name=job_name(name), namespace=kubernetes.namespace)
    if kubernetes.queue and file == "job":
        manifest["metadata"]["labels"][QUEUE_LABEL] = kubernetes.queue
    return manifest
