"""ViCLIP: shards become a checkpoint, a checkpoint becomes numbers and a report (P§4)."""

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import dagster as dg
from dagster._core.pipes.utils import extract_message_or_forward_to_stdout
from dagster_aws.pipes import PipesS3MessageReader

from internvid_assets.lake import Lake
from internvid_assets.lake.assets import StageRun, lake_asset, markdown_image
from internvid_assets.settings import Settings, ViclipSettings
from internvid_assets.store import ObjectStore, S3Store
from internvid_assets.viclip.evaluate import evaluate_models
from internvid_assets.viclip.kubernetes.failures import TrainingFailed
from internvid_assets.viclip.kubernetes.launcher import KubernetesLauncher
from internvid_assets.viclip.kubernetes.mirror import messages_prefix
from internvid_assets.viclip.launch import Training, environment, evaluation_key, source_hash
from internvid_assets.viclip.report import FIGURES
from internvid_assets.viclip.train import Launch, Train, train_here, train_models


class TrainingConfig(dg.Config):
    """Values for this run only; None: as in the settings."""

    recipe: str | None = None
    seed: int | None = None
    overrides: dict[str, str] = {}  # noqa: RUF012  (Dagster copies it)

    def applied(self, settings: ViclipSettings) -> ViclipSettings:
        """The settings with this run's values."""
        given = {name: value for name, value in (("recipe", self.recipe), ("seed", self.seed)) if value is not None}
        return settings.model_copy(update={**given, "overrides": {**settings.overrides, **self.overrides}})


def _pipes(context: dg.AssetExecutionContext) -> Launch:
    """Run a command under Dagster Pipes: its progress and logs stream into the run."""

    def launch(command: Sequence[str]) -> None:
        dg.PipesSubprocessClient(env=environment()).run(context=context, command=list(command))

    return launch


def _is_last_word(line: str) -> bool:
    """Whether a message is of an attempt that failed: it says that it closes, but another may follow."""
    return line.startswith("{") and '"method": "closed"' in line and '"exception"' in line


class _PodLog(dg.PipesMessageReader):
    """Dagster Pipes messages among the lines of a pod's log; the other lines are the step's output."""

    @contextlib.contextmanager
    def read_messages(self, handler: Any) -> Iterator[dict[str, Any]]:
        self._handler = handler
        yield {"stdio": "stderr"}

    def take(self, line: str) -> None:
        if not _is_last_word(line):
            extract_message_or_forward_to_stdout(self._handler, line)

    def no_messages_debug_text(self) -> str:
        return "Looked for Pipes messages in the log of the first node's pod."


class _S3Messages(PipesS3MessageReader):
    """Messages under one prefix, so that another run can go on reading; the pod's log is the step's output."""

    def __init__(self, store: S3Store, training: Training):
        super().__init__(bucket=store.bucket, client=store.client, interval=2)
        self._key_prefix = f"{store.prefix}{messages_prefix(training.name)}"

    @contextlib.contextmanager
    def get_params(self) -> Iterator[dict[str, Any]]:
        yield {"bucket": self.bucket, "key_prefix": self._key_prefix}

    def download_messages_chunk(self, index: int, params: Any) -> str | None:
        chunk = super().download_messages_chunk(index, params)
        return chunk and "\n".join(line for line in chunk.splitlines() if not _is_last_word(line))

    def take(self, line: str) -> None:
        print(line)


def _train_on_kubernetes(
    context: dg.AssetExecutionContext, settings: Settings, store: ObjectStore, training: Training
) -> None:
    """As a Job of the cluster, which reports by Dagster Pipes."""
    launcher = KubernetesLauncher(settings, store, context.log.info)
    is_on_s3 = settings.viclip.kubernetes.messages == "s3"
    reader = _S3Messages(store, training) if is_on_s3 and isinstance(store, S3Store) else _PodLog()
    launcher.prepare(training)
    try:
        with dg.open_pipes_session(context, dg.PipesEnvContextInjector(), reader) as session:
            launcher.train(training, session.get_bootstrap_env_vars(), reader.take)
    except TrainingFailed as failed:
        log = dg.MetadataValue.md("```\n" + "\n".join(failed.log) + "\n```")
        raise dg.Failure(str(failed), metadata={"reason": failed.reason, "last lines": log}) from failed


def _trainer(context: dg.AssetExecutionContext, settings: Settings, store: ObjectStore) -> Train:
    """Training where `viclip.launcher` says."""
    if settings.viclip.launcher == "k8s":
        return partial(_train_on_kubernetes, context, settings, store)
    return train_here(settings.viclip, store, _pipes(context))


@lake_asset(
    "viclip.viclip_checkpoint",
    kinds={"python", "pytorch", "deepspeed"},
    code_version=source_hash(),
    deps=("release.training_shards",),
    batched=False,
)
def viclip_checkpoint(
    context: dg.AssetExecutionContext,
    config: TrainingConfig,
    lake: dg.ResourceParam[Lake],
    store: dg.ResourceParam[ObjectStore],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult:
    """One row is a trained model: the recipe's ViCLIP, or the control that it is compared with."""
    stage = StageRun(context, lake, is_costly=True)
    settings = settings.model_copy(update={"viclip": config.applied(settings.viclip)})
    train = _trainer(context, settings, store)
    result = train_models(lake, store, settings.viclip, settings.release.training_subset, settings.cache_folder, train)
    return stage.finish(result, str(result.metadata["run_key"]))


@lake_asset(
    "viclip.viclip_evaluation",
    kinds={"python", "pytorch"},
    code_version=source_hash(),
    deps=("viclip.viclip_checkpoint",),
    batched=False,
)
def viclip_evaluation(
    context: dg.AssetExecutionContext,
    lake: dg.ResourceParam[Lake],
    store: dg.ResourceParam[ObjectStore],
    settings: dg.ResourceParam[Settings],
) -> dg.MaterializeResult:
    """One row is one metric of one model on one benchmark, with its confidence interval and chance; and a report."""
    stage = StageRun(context, lake)
    result, report = evaluate_models(lake, store, settings.viclip, settings.cache_folder, _pipes(context))
    done = stage.finish(result, evaluation_key(settings.viclip))
    if report is None:
        return done
    keys = {name: f"{report}/{name}.png" for name in FIGURES}
    pictures = {n: markdown_image(store.get_bytes(key), n, "png") for n, key in keys.items() if store.exists(key)}
    return done._replace(metadata={**(done.metadata or {}), **pictures, "report": store.uri(f"{report}/report.html")})


assets = [viclip_checkpoint, viclip_evaluation]
