"""`internvid run`: sources through every stage on this machine, as recorded Dagster runs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from internvid_assets.captions.recaption import improvement, policy_sql
from internvid_assets.captions.recipe import load_recipe
from internvid_assets.clips.cut import check_settings as check_clip_settings
from internvid_assets.errors import RunFailed, UsageError
from internvid_assets.lake import Lake
from internvid_assets.lake.models import discover as discover_models
from internvid_assets.progress import bar
from internvid_assets.scores.base import load_scorers
from internvid_assets.scores.semantic import load_embedder
from internvid_assets.settings import Settings
from internvid_assets.status import print_status
from internvid_assets.viclip.launch import check_settings
from internvid_assets.videos.gate import read_block_lists
from internvid_assets.videos.ledger import utc_now
from internvid_assets.videos.ledger_queries import make_due
from internvid_assets.videos.sources import SourceError, discover, open_batches

if TYPE_CHECKING:
    from internvid_assets.automation import RunOutcome


def run_path(settings: Settings, sources: Sequence[str], until: str | None) -> None:
    """Discover, open batches, then run the assets up to `until`; prints the table of stages at the end.

    Raises: UsageError for wrong sources, asset or captioner; RunFailed when a run failed.
    """
    wanted = _wanted(settings, until)
    try:
        lake = Lake(settings)
        batches = open_batches(lake, bar(discover(sources, settings), "sources"), settings.batch_size)
        lake.close()
    except (SourceError, ValueError) as error:
        raise UsageError(str(error)) from error
    _run_batches(settings, batches, wanted)


def retry_items(settings: Settings, classes: Sequence[str], now: bool, until: str | None) -> None:
    """Try again what failed and is due, or with `now` what is not due yet, of these classes (none: any that may pass);
    then run the assets up to `until` on the batches concerned.

    Raises: UsageError for an unknown asset, captioner or class of failure; RunFailed when a run failed.
    """
    wanted = _wanted(settings, until)
    lake = Lake(settings)
    try:
        batches = make_due(lake, classes, now, utc_now())
    except ValueError as error:
        raise UsageError(str(error)) from error
    if not batches:
        print("nothing to try again: `internvid status` shows what waits, and until when")
        return
    lake.close()
    _run_batches(settings, batches, wanted)


def _wanted(settings: Settings, until: str | None) -> list[str]:
    """The tables to make. Raises: UsageError for a wrong asset, captioner, scorer or detector."""
    _quiet_dagster()
    from internvid_assets import automation

    wanted = _until([*automation.BATCHED_TABLES, *_refreshed(), *automation.PUBLISHED, *automation.TRAINED], until)
    try:
        _check_texts(settings)
        check_clip_settings(settings.clips)
        if automation.TRAINED[0] in wanted:
            check_settings(settings.viclip)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return wanted


def _run_batches(settings: Settings, batches: Sequence[str], wanted: Sequence[str]) -> None:
    """The wanted tables: the batched ones of each batch, then the others; prints the table of stages at the end."""
    from internvid_assets import automation

    lake = Lake(settings)
    batched = [table for table in wanted if table in automation.BATCHED_TABLES]
    outcomes = automation.run_batches(settings, batches, batched)
    rest = [table for table in wanted if table not in automation.BATCHED_TABLES]
    for job, tables in (
        ("refresh_subsets", _refreshed()),
        ("release_dataset", automation.PUBLISHED[:1]),
        ("train_viclip", [*automation.PUBLISHED[1:], *automation.TRAINED]),
    ):
        chosen = [table for table in tables if table in rest]
        if chosen and not any(outcome.error for outcome in outcomes):
            outcomes.append(automation.run_job(job, chosen))
    print_status(lake, settings)
    if failed := _failures(outcomes):
        raise RunFailed("; ".join(failed))


def _refreshed() -> list[str]:
    """What is made anew of all batches: the matches, then the SQL models."""
    from internvid_assets import automation

    return [*automation.DUPLICATES, *(model.table for model in discover_models())]


def _failures(outcomes: Sequence[RunOutcome]) -> list[str]:
    """A line for each thing that went wrong, with the first runs that it stopped."""
    stopped: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.error is not None:
            stopped.setdefault(outcome.error, []).append(outcome.name)
    return [
        f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}: {error}"
        for error, names in stopped.items()
    ]


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
