"""What is asked of a cluster: the files of k8s/training, patched, valid, and with arguments that training understands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from internvid_assets.settings import KubernetesSettings, S3Settings, Settings, ViclipSettings
from internvid_assets.viclip.kubernetes import pod
from internvid_assets.viclip.kubernetes.manifest import MANIFESTS, build_owned, build_workload
from internvid_assets.viclip.launch import Training, run_key, train_command
from tests.kubesim.admission import admit, check_schema
from tests.kubesim.objects import ApiError
from training.recipes import load_recipe
from training.train import make_parser

TRAINING = Training("0123456789ab", "viclip", "paper_l14_64gpu", "5eed", Path("out"))
BACKENDS = ("job", "jobset", "trainjob")


def settings(backend: str = "job", **kubernetes: Any) -> Settings:
    values = {"backend": backend, "image": "registry/trainer:1", "nodes": 8, "queue": "team", "env": {"NCCL_DEBUG": "WARN"},
              "node_selector": {"gpu": "h100"}, "tolerations": ({"key": "gpu", "operator": "Exists"},),
              "resources": {"cpu": "96", "memory": "1Ti", "rdma/hca": "8"}}  # fmt: skip
    return Settings(
        media_root="s3://bucket/media",
        s3=S3Settings(endpoint_url="https://s3", access_key_id="key", secret_access_key="secret"),
        viclip=ViclipSettings(
            recipe="paper_l14_64gpu", num_processes=8, launcher="k8s", overrides={"save_every": "100"},
            kubernetes=KubernetesSettings(**{**values, **kubernetes}),
        ),
    )  # fmt: skip


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    job = manifest if manifest["kind"] == "Job" else manifest["spec"]["replicatedJobs"][0]["template"]
    return job["spec"]["template"]["spec"]


def container_of(manifest: dict[str, Any]) -> dict[str, Any]:
    if manifest["kind"] != "TrainJob":
        return pod_of(manifest)["containers"][0]
    trainer = manifest["spec"]["trainer"]
    return {**trainer, "resources": trainer["resourcesPerNode"]}


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_back_end_is_valid_strictly(backend: str) -> None:
    manifest = build_workload(settings(backend), TRAINING, {"DAGSTER_PIPES_CONTEXT": "x"})
    admit(manifest)
    manifest["spec"]["nodes"] = 8
    with pytest.raises(ApiError, match="nodes"):
        check_schema(manifest)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_pods_arguments_are_those_of_the_real_programs(backend: str) -> None:
    """The pod's entry, torchrun and training read them, and the number of processes is that of GPUs and of the recipe."""
    from torch.distributed.run import get_args_parser

    manifest = build_workload(settings(backend), TRAINING)
    container = container_of(manifest)
    assert container["command"][1:] == ["-m", pod.__name__]
    split = container["args"].index("--")
    own = pod.make_parser().parse_args(container["args"][:split])
    command = pod.node_command(own, 3, [*container["args"][split + 1 :], "--shards", "in", "--output", "out"])
    torchrun = get_args_parser().parse_args(command[3:])
    assert (torchrun.nnodes, torchrun.nproc_per_node, torchrun.node_rank) == ("8", "8", 3)
    first = {"job": "viclip-0123456789ab-viclip-0"}.get(backend, "viclip-0123456789ab-viclip-node-0-0")
    assert torchrun.master_addr == f"{first}.viclip-0123456789ab-viclip"
    assert torchrun.master_port == own.port + 1 and torchrun.training_script == "training.train"
    training = make_parser().parse_args(torchrun.training_script_args)
    assert (training.recipe, training.set, training.seed) == ("paper_l14_64gpu", ["save_every=100"], 0)
    gpus = own.nodes * int(container["resources"]["limits"]["nvidia.com/gpu"])
    assert gpus == own.nodes * own.processes == load_recipe(training.recipe).world_size == settings().viclip.world_size


def test_here_and_in_pods_training_gets_the_same_arguments() -> None:
    here = train_command(settings().viclip, TRAINING.recipe, Path("in"), Path("out"))
    inside = container_of(build_workload(settings(), TRAINING))["args"]
    assert here[-len(inside[inside.index("--") + 1 :]) :] == inside[inside.index("--") + 1 :]


def test_the_run_key_follows_the_number_of_processes_wherever_they_run() -> None:
    here = ViclipSettings(recipe="debug_tiny", num_processes=4)
    two_nodes = KubernetesSettings(nodes=2, image="x")
    there = here.model_copy(update={"launcher": "k8s", "num_processes": 2, "kubernetes": two_nodes})
    assert run_key(here, "5eed") == run_key(there, "5eed")
    assert run_key(here, "5eed") != run_key(
        here.model_copy(update={"launcher": "k8s", "kubernetes": two_nodes}), "5eed"
    )


def test_only_named_fields_differ_from_the_file() -> None:
    """With the settings' defaults the Job is the file, but for its names, image, arguments and environment."""
    file = yaml.safe_load((MANIFESTS / "job.yaml").read_text())
    plain = Settings(media_root="s3://b", viclip=ViclipSettings(num_processes=1, launcher="k8s",
                                                                kubernetes=KubernetesSettings(image="i", gpu_resource="none")))  # fmt: skip
    job = build_workload(plain, TRAINING)
    container, held = container_of(job), container_of(file)
    assert container["env"][: len(held["env"])] == held["env"]
    for one in (job, file):
        del one["metadata"]["name"], pod_of(one)["subdomain"]
        for name in ("image", "args", "env"):
            del container_of(one)[name]
    assert job == file


@pytest.mark.parametrize("backend", BACKENDS)
def test_settings_reach_the_manifest(backend: str) -> None:
    manifest = build_workload(settings(backend), TRAINING, {"DAGSTER_PIPES_MESSAGES": "m"})
    container, text = container_of(manifest), yaml.safe_dump(manifest)
    assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team" and manifest["spec"]["suspend"]
    assert container["resources"]["limits"] == {"cpu": "96", "memory": "1Ti", "rdma/hca": "8", "nvidia.com/gpu": "8"}
    environment = {variable["name"]: variable for variable in container["env"]}
    assert environment["NCCL_DEBUG"]["value"] == "WARN" and environment["DAGSTER_PIPES_MESSAGES"]["value"] == "m"
    key = environment["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"]
    assert key == {"name": "viclip-0123456789ab-viclip", "key": "secret_access_key"}
    assert "gpu: h100" in text and "key: gpu" in text and "readOnlyRootFilesystem: true" in text and "/dev/shm" in text
    assert "secret_access_key: secret" not in text  # keys are in the Secret only


def test_the_workload_owns_service_and_secret() -> None:
    owner = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "viclip-x", "uid": "7"}}
    service, secret = (admit(one) for one in build_owned(settings(), "x", owner))
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"]
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": "viclip-x"}
    assert secret["data"]["access_key_id"] == "a2V5"
    for one in (service, secret):
        assert one["metadata"]["ownerReferences"][0]["uid"] == "7"
    [only] = build_owned(settings("jobset"), "x", owner)  # JobSet makes the Service
    assert only["kind"] == "Secret"
    assert build_owned(settings("jobset", s3_secret="theirs"), "x", owner) == []


def test_exit_codes_of_the_pod_are_those_of_the_failure_policy() -> None:
    rules = yaml.safe_load((MANIFESTS / "job.yaml").read_text())["spec"]["podFailurePolicy"]["rules"]
    by_code = {
        code: rule["action"] for rule in rules if "onExitCodes" in rule for code in rule["onExitCodes"]["values"]
    }
    assert by_code == {pod.WRONG_USE: "FailJob", pod.PEER_LOST: "Ignore"}
