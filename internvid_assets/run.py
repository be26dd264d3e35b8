"""`internvid run`: sources through every stage on this machine, as recorded Dagster runs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

from internvid_assets.captions.recaption import improvement, policy_sql
from internvid_assets.captions.recipe import load_recipe
from internvid_assets.clips.cut import check_settings as check_clip_settings
from internvid_assets.errors import RunFailed, UsageError
from internvid_assets.lake import Lake
from internvid_assets.lake.models import discover as discover_models
from internvid_assets.scores.base import load_scorers
from internvid_assets.scores.semantic import load_embedder
from internvid_assets.settings import Settings
from internvid_assets.status import print_status
from internvid_assets.viclip.launch import check_settings
from internvid_assets.videos.gate import read_block_lists
from internvid_assets.videos.sources import SourceError, discover, open_batches


def run_path(settings: Settings, sources: Sequence[str], until: str | None) -> None:
    """Discover, open batches, then run the assets up to `until`; prints the table of stages at the end.

    Raises: UsageError for wrong sources, asset or captioner; RunFailed when a run failed.
    """
    _quiet_dagster()
    from internvid_assets import automation

    models = [*automation.DUPLICATES, *(model.table for model in discover_models())]
    wanted = _until([*automation.BATCHED_TABLES, *models, *automation.PUBLISHED, *automation.TRAINED], until)
    try:
        _check_texts(settings)
        check_clip_settings(settings.clips)
        if automation.TRAINED[0] in wanted:
            check_settings(settings.viclip)
        found = discover(sources)
    except (SourceError, ValueError) as error:
        raise UsageError(str(error)) from error
    lake = Lake(settings)
    batches = open_batches(lake, found, settings.batch_size)
    lake.close()
    batched = [table for table in wanted if table in automation.BATCHED_TABLES]
    outcomes = automation.run_batches(settings, batches, batched)
    rest = [table for table in wanted if table not in automation.BATCHED_TABLES]
    for job, tables in (
        ("refresh_subsets", models),
        ("release_dataset", automation.PUBLISHED[:1]),
        ("train_viclip", [*automation.PUBLISHED[1:], *automation.TRAINED]),
    ):
        chosen = [table for table in tables if table in rest]
        if chosen and not any(outcome.error for outcome in outcomes):
            outcomes.append(automation.run_job(job, chosen))
    failed = [f"{outcome.name}: {outcome.error}" for outcome in outcomes if outcome.error is not None]
    print_status(lake, settings)
    if failed:
        raise RunFailed("; ".join(failed))


def recaption_home(settings: Settings, budget: int | None, minutes: float | None, policy: str | None) -> None:
    """Re-caption within a budget (None: the settings') and print how many clips improved.

    Raises: UsageError for an unknown policy or captioner; RunFailed when the run failed.
    """
    try:
        policy_sql(policy or settings.captions.recaption_policy)
    except ValueError as error:
        raise UsageError(str(error)) from error
    config = {"budget": budget, "minutes": minutes, "policy": policy}
    run_id = run_one_job(settings, "recaption", {"ops": {"recaption_stale_clips": {"config": config}}})
    print("\n".join(improvement(Lake(settings), run_id).lines()))


def run_one_job(settings: Settings, job: str, config: dict[str, Any] | None = None) -> str:
    """Run one job of the home, print the table of stages, and give the run's id.

    Raises: UsageError for an unknown captioner; RunFailed when the run failed.
    """
    _quiet_dagster()
    from internvid_assets import automation

    try:
        _check_texts(settings)
    except ValueError as error:
        raise UsageError(str(error)) from error
    subsets = [model.name for model in discover_models() if model.layer == "marts"]
    if settings.release.release_subset not in subsets:
        raise UsageError(
            f"subset {settings.release.release_subset!r} does not exist: choose one of {', '.join(subsets)}"
        )
    outcome = automation.run_job(job, config=config)
    print_status(Lake(settings), settings)
    if outcome.error:
        raise RunFailed(f"{job}: {outcome.error}")
    return outcome.run_id


def _check_texts(settings: Settings) -> None:
    """Raises: ValueError when a captioner, scorer, embedder or one of their options is wrong, or a block list is not there."""
    load_recipe(settings.captions)
    load_scorers(settings)
    load_embedder(settings.duplicates.semantic, settings.duplicates.semantic_options)
    read_block_lists(settings.gate.block_lists)


def _quiet_dagster() -> None:
    """The table of stages says what happened; Dagster's own lines stay in its instance."""
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", message=".*currently in preview.*")


def _until(tables: Sequence[str], until: str | None) -> list[str]:
    names = [table.partition(".")[2] for table in tables]
    if until is None:
        return list(tables)
    if until.rpartition(".")[2] not in names:
        raise UsageError(f"asset {until!r} does not exist: --until takes one of {', '.join(names)}")
    return list(tables[: names.index(until.rpartition(".")[2]) + 1])
