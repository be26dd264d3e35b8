"""Jobs, the sensor and the schedules: what runs when, and how the command line runs it on this machine."""

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import dagster as dg
from dagster import AssetSelection

from internvid_assets.lake import Lake
from internvid_assets.lake.assets import BATCHES
from internvid_assets.progress import bar
from internvid_assets.settings import Settings
from internvid_assets.videos.sources import SourceError, discover, open_batches

BATCHED = ("videos", "clips", "captions", "scores")
BATCHED_TABLES = (
    "videos.raw_videos", "clips.clips", "captions.coarse_captions", "captions.fine_captions", "captions.transcripts",
    "captions.captions", "scores.clip_scores",
)  # fmt: skip
"""In the order data flows."""

build_dataset = dg.define_asset_job(
    "build_dataset",
    selection=AssetSelection.groups(*BATCHED, "subsets"),
    description="One batch of sources to clips, captions, scores and subsets. Choose a batch, "
    "or let `internvid run` do all of them.",
)


refresh_subsets = dg.define_asset_job(
    "refresh_subsets",
    selection=AssetSelection.groups("subsets"),
    description="Every SQL model of dbt_like_sql/ anew: filters, near duplicates and subsets. Decodes nothing.",
)


@dg.sensor(job=build_dataset, minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.STOPPED)
def new_sources(
    context: dg.SensorEvaluationContext, lake: dg.ResourceParam[Lake], settings: dg.ResourceParam[Settings]
) -> dg.SensorResult | dg.SkipReason:
    """Watch `sources` of the settings; open a batch for files the lake does not know, and build it."""
    if not settings.sources:
        return dg.SkipReason("no `sources` in the settings: name folders or files to watch")
    try:
        batches = open_batches(lake, discover(settings.sources), settings.batch_size, "sensor")
    except SourceError as error:
        return dg.SkipReason(str(error))
    known = set(context.instance.get_dynamic_partitions("batch"))
    new = [batch for batch in batches if batch not in known]
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=batch, partition_key=batch) for batch in new],
        dynamic_partitions_requests=[BATCHES.build_add_request(new)] if new else [],
    )


@dataclass(frozen=True)
class RunOutcome:
    """How one Dagster run of the command line ended; `error` is None when it succeeded."""

    name: str
    run_id: str
    error: str | None


def run_batches(settings: Settings, batches: Sequence[str], assets: Sequence[str]) -> list[RunOutcome]:
    """Run the batched assets of every batch, `settings.workers` batches at a time, each in a process of its own.

    Ingest goes first, one batch after the other: of two copies of one video, the first keeps it and the second must see it.
    """
    instance().add_dynamic_partitions("batch", list(batches))
    if len(batches) == 1 or settings.workers == 1:
        return [run_job("build_dataset", assets, batch) for batch in bar(list(batches), "batches")]
    outcomes = [run_job("build_dataset", assets[:1], batch) for batch in bar(list(batches), "ingest")]
    if len(assets) == 1 or any(outcome.error for outcome in outcomes):
        return outcomes
    assets = assets[1:]
    pool = ProcessPoolExecutor(min(settings.workers, len(batches)), get_context("spawn"), initializer=_one_worker)
    with pool:
        futures = [pool.submit(partial(run_job, "build_dataset", assets), batch) for batch in batches]
        for future in bar(as_completed(futures), "batches", total=len(futures)):
            outcomes.append(future.result())
    return outcomes


def _one_worker() -> None:
    """Each of several batch processes decodes with one worker and shows its bar on a line of its own."""
    from multiprocessing import current_process

    os.environ["INTERNVID_WORKERS"] = "1"
    os.environ["INTERNVID_BAR_POSITION"] = str(current_process()._identity[0])


def run_job(job: str, assets: Sequence[str], batch: str | None = None) -> RunOutcome:
    """Run some assets of a job in this process, recorded in the Dagster instance.

    Args:
        assets: `schema.table` names.
    """
    from internvid_assets.definitions import defs

    keys = [dg.AssetKey(name.split(".")) for name in assets]
    result = defs.resolve_job_def(job).execute_in_process(
        instance=instance(), partition_key=batch, asset_selection=keys, raise_on_error=False
    )
    return RunOutcome(batch or job, result.run_id, None if result.success else _first_error(result))


def _first_error(result: dg.ExecuteInProcessResult) -> str:
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            while error is not None and error.cause is not None:
                error = error.cause
            return f"{event.step_key}: {error.message.strip() if error else 'failed'}"
    failed = [
        e.asset_check_evaluation_data for e in result.all_events if e.event_type_value == "ASSET_CHECK_EVALUATION"
    ]
    return (
        "; ".join(f"check {c.check_name} of {c.asset_key.path[-1]} failed" for c in failed if not c.passed) or "failed"
    )


def instance() -> dg.DagsterInstance:
    """The Dagster instance of DAGSTER_HOME."""
    return dg.DagsterInstance.get()


jobs = [build_dataset, refresh_subsets]
sensors = [new_sources]
schedules: list[dg.ScheduleDefinition] = []
