"""A command's settings, and the home that it works in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from internvid_assets.errors import UsageError
from internvid_assets.settings import Settings


def settings_of(home: Path | None, must_exist: bool = False, **options: Any) -> Settings:
    """Settings from the options, the environment and the files; also prepares the home for Dagster.

    Raises: UsageError naming the wrong setting, or the home that is not there.
    """
    given: dict[str, Any] = {} if home is None else {"home": home}
    if options.get("batch_size") is not None:
        given["batch_size"] = options["batch_size"]
    if options.get("captioner") is not None:
        given["captions"] = {"backend": options["captioner"]}
    if options.get("subset") is not None:
        given["release"] = {"release_subset": options["subset"]}
    try:
        settings = Settings(**given)
    except (ValidationError, ValueError) as error:
        raise UsageError(_first_line(error)) from error
    if must_exist and not settings.home.is_dir():
        raise UsageError(f"no home at {settings.home}: run `internvid run SOURCE` first, or give --home")
    _export(settings, given)
    return settings


def _export(settings: Settings, given: dict[str, Any]) -> None:
    """Hand the settings given on the command line to Dagster's processes, which read the environment."""
    home = settings.home.resolve()
    os.environ["INTERNVID_HOME"] = str(home)
    if "batch_size" in given:
        os.environ["INTERNVID_BATCH_SIZE"] = str(settings.batch_size)
    if "captions" in given:
        os.environ["INTERNVID_CAPTIONS__BACKEND"] = settings.captions.backend
    if "release" in given:
        os.environ["INTERNVID_RELEASE__RELEASE_SUBSET"] = settings.release.release_subset
    try:
        prepare_home(home)
    except OSError as error:
        raise UsageError(f"home {home} cannot be written: {error.strerror}") from error
    os.environ.setdefault("DAGSTER_HOME", str(home / "dagster"))
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")


def prepare_home(home: Path) -> None:
    """Make the home and its Dagster folder with the shipped `dagster.yaml`, unless one is there."""
    folder = home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "dagster.yaml"
    if not target.exists():
        target.write_text(Path(__file__).with_name("dagster.yaml").read_text())


def _first_line(error: Exception) -> str:
    """A pydantic error as one line: the setting, what was given and what is wanted."""
    problems = getattr(error, "errors", None)
    if not callable(problems):
        return str(error).splitlines()[0]
    first = problems()[0]
    name = ".".join(str(part) for part in first["loc"]) or "settings"
    if first["type"] == "extra_forbidden":
        return f"setting {name} does not exist; see docs/operating.md for all settings"
    return f"setting {name} = {first['input']!r}: {first['msg'].lower()}"
