"""Where the steps of a run are computed: in processes of this machine, or each in a Kubernetes pod of its own."""

from typing import Any

import dagster as dg
import yaml

from internvid_assets.settings import Settings


def executor(settings: Settings) -> dg.ExecutorDefinition | None:
    """Dagster's executor of every job; None: Dagster's own default, processes of this machine.

    With `execution.executor = "k8s"` each step is a Kubernetes Job. `execution.config` names a YAML file with the
    configuration of dagster-k8s' `k8s_job_executor`; there the resources, images and nodes of each asset are.

    Raises: ValueError naming the file that is missing or is no mapping.
    """
    if settings.execution.executor == "local":
        return None
    from dagster_k8s import k8s_job_executor

    return k8s_job_executor.configured(_config(settings), name="k8s")


def _config(settings: Settings) -> dict[str, Any]:
    path = settings.execution.config
    if path is None:
        return {}
    if not path.is_file():
        raise ValueError(f"execution.config = {str(path)!r}: no such file; give the executor's YAML, or leave it out")
    config = yaml.safe_load(path.read_text()) or {}
    if not isinstance(config, dict):
        raise ValueError(f"execution.config = {str(path)!r}: want a mapping of k8s_job_executor's fields")
    return config


def shared_resources(settings: Settings) -> dict[str, Any]:
    """What steps in different pods need to hand values to each other: an IO manager on the media root.

    Empty for the local executor: Dagster's own keeps values under DAGSTER_HOME.

    Raises: ValueError when there is no media root that all pods could share.
    """
    if settings.execution.executor == "local":
        return {}
    if settings.media_root is None:
        raise ValueError("execution.executor = 'k8s' needs media_root: a folder or s3:// prefix that every pod reaches")
    root = f"{settings.media_uri}/dagster"
    if not root.startswith("s3://"):
        return {"io_manager": dg.FilesystemIOManager(base_dir=root)}
    from dagster_aws.s3 import S3PickleIOManager, S3Resource

    bucket, _, prefix = root.removeprefix("s3://").partition("/")
    client = S3Resource(
        endpoint_url=settings.s3.endpoint_url,
        region_name=settings.s3.region,
        aws_access_key_id=settings.s3.access_key_id,
        aws_secret_access_key=settings.s3.secret_access_key,
    )
    return {"io_manager": S3PickleIOManager(s3_resource=client, s3_bucket=bucket, s3_prefix=prefix)}
