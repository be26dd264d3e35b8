"""`internvid run`: sources through every stage on this machine, as recorded Dagster runs."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from internvid_assets.cli import RunFailed, UsageError
from internvid_assets.lake import Lake
from internvid_assets.settings import Settings
from internvid_assets.status import print_status
from internvid_assets.videos.sources import SourceError, discover, open_batches


def run_path(settings: Settings, sources: Sequence[str], until: str | None) -> None:
    """Discover, open batches, then run the assets up to `until`; prints the table of stages at the end.

    Raises: UsageError for wrong sources, asset or captioner; RunFailed when a run failed.
    """
    _check_backends(settings)
    logging.getLogger("dagster").setLevel(logging.ERROR)
    from internvid_assets import automation

    wanted = _path_until(automation.asset_path(), until)
    try:
        found = discover(sources)
    except SourceError as error:
        raise UsageError(str(error)) from error
    lake = Lake(settings)
    batches = open_batches(lake, found, settings.batch_size)
    lake.close()
    _raise_failures(automation.run_batches(settings, batches, wanted["build_dataset"]))
    for job in ("subsets", "release_dataset", "train_viclip"):
        if names := wanted.get(job):
            _raise_failures([automation.run_job("build_dataset" if job == "subsets" else job, names)])
    print_status(lake, settings)


def _check_backends(settings: Settings) -> None:
    from internvid_assets.captions.base import captioner_names

    if settings.captions.backend not in captioner_names():
        raise UsageError(
            f"captioner {settings.captions.backend!r} does not exist: choose one of {', '.join(captioner_names())}"
        )
