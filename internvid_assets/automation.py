"""Jobs, the sensor and the schedules: what runs when, and how the command line runs it on this machine."""
# No `from __future__ import annotations` here: Dagster reads the annotations.

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import dagster as dg
from dagster import AssetSelection

from internvid_assets.captions.recaption import improvement, recaption
from internvid_assets.captions.recipe import Recipe, load_recipe
from internvid_assets.captions.write import code_version, num_missing
from internvid_assets.lake import Lake
from internvid_assets.lake.assets import BATCHES, table_key, written
from internvid_assets.lake.models import discover as discover_models
from internvid_assets.lake.orphans import sweep
from internvid_assets.lake.stage import with_snapshots
from internvid_assets.progress import bar
from internvid_assets.scores.base import load_scorers
from internvid_assets.scores.write import CODE_VERSION as SCORES_CODE_VERSION
from internvid_assets.scores.write import score_parts
from internvid_assets.settings import Settings
from internvid_assets.store import ObjectStore
from internvid_assets.subsets.build import build_model
from internvid_assets.videos.ledger import utc_now
from internvid_assets.videos.ledger_queries import due_batches
from internvid_assets.videos.sources import SourceError, discover, open_batches

BATCHED = ("videos", "clips", "captions", "scores")
BATCHED_TABLES = (
    "videos.raw_videos", "clips.clips", "captions.coarse_captions", "captions.fine_captions", "captions.transcripts",
    "captions.captions", "scores.clip_scores",
)  # fmt: skip
"""In the order data flows."""
DUPLICATES = ("clips.matches", "scores.semantic_duplicates")
"""Made of all batches, before the SQL models."""

build_dataset = dg.define_asset_job(
    "build_dataset",
    selection=AssetSelection.groups(*BATCHED, "subsets"),
    description="One batch of sources to clips, captions, scores and subsets. Choose a batch, "
    "or let `internvid run` do all of them.",
)


PUBLISHED = ("release.dataset_release", "release.training_shards")
TRAINED = ("viclip.viclip_checkpoint", "viclip.viclip_evaluation")

refresh_subsets = dg.define_asset_job(
    "refresh_subsets",
    selection=AssetSelection.groups("subsets") | AssetSelection.assets(*map(table_key, DUPLICATES)),
    description="Which clips match, and every SQL model of dbt_like_sql/ anew: filters, near duplicates and subsets. Decodes nothing.",
)


train_viclip = dg.define_asset_job(
    "train_viclip",
    selection=AssetSelection.assets(*map(table_key, ("release.training_shards", *TRAINED))),
    description="Shards of the training subset, a checkpoint and its evaluation. The same recipe, seed, shards and code "
    "are trained once; set `seed` or `recipe` in the launchpad for another.",
)

release_dataset = dg.define_asset_job(
    "release_dataset",
    selection=AssetSelection.assets(table_key("release.dataset_release")),
    description="Publish the release subset as JSONL, Parquet, card, Croissant and checksums.",
)


class RecaptionConfig(dg.Config):
    """How much one run may do, and of what first; None: as in the settings."""

    budget: int | None = None
    minutes: float | None = None
    policy: str | None = None


@dg.op
def recaption_stale_clips(
    context: dg.OpExecutionContext,
    config: RecaptionConfig,
    lake: dg.ResourceParam[Lake],
    store: dg.ResourceParam[ObjectStore],
    settings: dg.ResourceParam[Settings],
) -> list[str]:
    """Caption the most valuable stale clips, and give the batches that they belong to."""
    budget = config.budget if config.budget is not None else settings.captions.recaption_budget
    minutes = config.minutes if config.minutes is not None else settings.captions.recaption_minutes
    recipe = load_recipe(settings.captions)
    policy = config.policy or settings.captions.recaption_policy
    done = recaption(lake, store, recipe, budget, minutes, context.run_id, bar, policy)
    context.add_output_metadata({"clips": sum(done.values()), "captioner_version": recipe.version("merge")})
    for batch, num_clips in done.items():
        for event in _texts_written(lake, recipe, batch, num_clips):
            context.log_event(event)
    return sorted(done)


def _texts_written(
    lake: Lake, recipe: Recipe, batch: str, num_clips: int
) -> Iterator[dg.AssetMaterialization | dg.AssetObservation]:
    """A materialisation of each table of texts that is now whole, so that it stops looking stale; an observation of
    each that is not."""
    for table, (version, num_stale) in num_missing(lake, recipe, batch).items():
        metadata = {"recaptioned": num_clips, "stale": num_stale}
        if num_stale:
            yield dg.AssetObservation(table_key(table), partition=batch, metadata=metadata)
        else:
            yield written(lake, table, code_version(version), batch, **metadata)


@dg.op
def score_new_captions(
    context: dg.OpExecutionContext,
    batches: list[str],
    lake: dg.ResourceParam[Lake],
    store: dg.ResourceParam[ObjectStore],
    settings: dg.ResourceParam[Settings],
) -> bool:
    """Score what the batches lack, so that a new caption can win."""
    scorers = load_scorers(settings, lake, store)
    for batch in batches:
        num_scored = 0
        inputs = [("clips.clips", batch), ("captions.captions", batch)]
        for read, part in with_snapshots(lake, score_parts(lake, store, scorers, batch, bar)):
            lake.commit(part.write("scores.clip_scores", context.run_id, batch, read, inputs), part.changes)
            num_scored += part.num_out
        context.log_event(written(lake, "scores.clip_scores", SCORES_CODE_VERSION, batch, scored=num_scored))
    return bool(batches)


@dg.op
def refresh_models(
    context: dg.OpExecutionContext,
    changed: bool,
    lake: dg.ResourceParam[Lake],
    settings: dg.ResourceParam[Settings],
) -> None:
    """Every SQL model anew when a caption was written."""
    for model in discover_models() if changed else ():
        read = lake.snapshot_id()
        result = build_model(lake, model, settings)
        inputs = [(ref, None) for ref in model.refs]
        lake.commit(result.write(model.table, context.run_id, None, read, inputs, model.code_version), result.changes)
        context.log_event(written(lake, model.table, model.code_version, num_rows=result.num_out))


@dg.op(ins={"refreshed": dg.In(dg.Nothing)})
def report_improvement(context: dg.OpExecutionContext, lake: dg.ResourceParam[Lake]) -> None:
    """How many of the new texts fit better than those before, and some of both."""
    found = improvement(lake, context.run_id)
    context.add_output_metadata({**found.counts, "before_and_after": dg.MetadataValue.md(found.markdown())})


@dg.job(
    name="recaption",
    description="Clips without a text by the current captioner version, the most valuable first, up to a budget; then "
    "their scores, the SQL models, and a report of what improved. Old texts stay.",
)
def recaption_job() -> None:
    """Caption, score, refresh, report."""
    report_improvement(refresh_models(score_new_captions(recaption_stale_clips())))


@dg.op
def compact_lake(
    context: dg.OpExecutionContext,
    lake: dg.ResourceParam[Lake],
    store: dg.ResourceParam[ObjectStore],
    settings: dg.ResourceParam[Settings],
) -> None:
    """Merge small files, forget old snapshots, and delete objects that no table has named for as long."""
    context.add_output_metadata(lake.maintain(settings.lake.keep_days) | sweep(lake, store, settings.lake.keep_days))


@dg.job(
    name="maintain_lake", description="Compaction of small data files, expiry of old snapshots and of orphaned objects."
)
def maintain_lake() -> None:
    """One step."""
    compact_lake()


SCHEDULES: dict[str, tuple[Any, str, str]] = {
    "nightly_recaption": (recaption_job, "0 2 * * *", "Re-caption within the budget, every night at two."),
    "nightly_maintenance": (maintain_lake, "0 4 * * *", "Compact the lake and forget old snapshots, at four."),
}
"""Name to job, cron expression and description."""


def schedules(running: Sequence[str] = ()) -> list[dg.ScheduleDefinition]:
    """The schedules: those named are on from the start, the others wait to be switched on in the UI.

    Raises: ValueError naming a schedule that does not exist.
    """
    if unknown := sorted(set(running) - set(SCHEDULES)):
        raise ValueError(f"execution.running_schedules: no schedule {unknown[0]!r}; there are {', '.join(SCHEDULES)}")
    on, off = dg.DefaultScheduleStatus.RUNNING, dg.DefaultScheduleStatus.STOPPED
    return [
        dg.ScheduleDefinition(
            name=name, job=job, cron_schedule=cron, description=told, default_status=on if name in running else off
        )
        for name, (job, cron, told) in SCHEDULES.items()
    ]


@dg.sensor(job=build_dataset, minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.STOPPED)
def new_sources(
    context: dg.SensorEvaluationContext, lake: dg.ResourceParam[Lake], settings: dg.ResourceParam[Settings]
) -> dg.SensorResult | dg.SkipReason:
    """Watch `sources` of the settings; open a batch for those that the lake does not know, and build it; build a batch
    again when some of its sources are due to be tried again."""
    if not settings.sources:
        return dg.SkipReason("no `sources` in the settings: name folders, prefixes or manifests to watch")
    try:
        batches = open_batches(lake, discover(settings.sources, settings), settings.batch_size, "sensor")
    except SourceError as error:
        return dg.SkipReason(str(error))
    known = set(context.instance.get_dynamic_partitions("batch"))
    new = [batch for batch in batches if batch not in known]
    due = {batch: f"{batch}:{num}" for batch, num in due_batches(lake, utc_now()) if batch in known}
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(run_key=due.get(batch, batch), partition_key=batch) for batch in dict.fromkeys([*new, *due])
        ],
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


def run_job(
    job: str, assets: Sequence[str] | None = None, batch: str | None = None, config: dict | None = None
) -> RunOutcome:
    """Run a job, or some of its assets, in this process, recorded in the Dagster instance.

    Args:
        assets: `schema.table` names; None: all.
        config: the run's configuration, as in Dagster's launchpad.
    """
    from internvid_assets.definitions import defs

    keys = None if assets is None else [table_key(name) for name in assets]
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}  # the instance records everything
    result = defs.resolve_job_def(job).execute_in_process(
        instance=instance(),
        partition_key=batch,
        asset_selection=keys,
        run_config={**quiet, **(config or {})},
        raise_on_error=False,
    )
    return RunOutcome(batch or job, result.run_id, None if result.success else _first_error(result))


def _first_error(result: dg.ExecuteInProcessResult) -> str:
    failed = [
        e.asset_check_evaluation_data for e in result.all_events if e.event_type_value == "ASSET_CHECK_EVALUATION"
    ]
    broken: dict[str, list[dg.AssetCheckEvaluation]] = {}
    for check in failed:
        if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
            broken.setdefault(check.check_name, []).append(check)
    if broken:
        return "; ".join(_told(name, checks) for name, checks in broken.items())
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            while error is not None and error.cause is not None and (error.cls_name or "").startswith("Dagster"):
                error = error.cause  # what our code raised; its own cause is a detail
            return f"{event.step_key}: {_without_class(error.message) if error else 'failed'}"
    return "failed"


def _told(check: str, failed: Sequence[dg.AssetCheckEvaluation]) -> str:
    """One failed check, by the figures of the first asset that it failed on."""
    line = f"check {check} of {', '.join(c.asset_key.path[-1] for c in failed)} failed"
    return f"{line}: {failed[0].description}" if failed[0].description else line


def _without_class(message: str) -> str:
    """`package.module.SomeError: what went wrong` without the class."""
    return re.sub(r"^[A-Za-z_.]+(Error|Exception): ", "", message.strip())


def forget_runs(lake: Lake, run_ids: Sequence[str]) -> None:
    """Delete Dagster's records of runs, which may hold pictures and texts; what they made still counts as made."""
    records = instance()
    for run_id in (run_id for run_id in run_ids if records.has_run(run_id)):
        made = "select distinct asset, partition_key, code_version from lineage.materializations where run_id = ?"
        for row in lake.rows(made, [run_id]):
            records.report_runless_asset_event(written(lake, row["asset"], row["code_version"], row["partition_key"]))
        records.delete_run(run_id)


def instance() -> dg.DagsterInstance:
    """The Dagster instance of DAGSTER_HOME."""
    return dg.DagsterInstance.get()


jobs: list[Any] = [build_dataset, refresh_subsets, recaption_job, train_viclip, release_dataset, maintain_lake]
sensors = [new_sources]
