"""`internvid`: the main job and the questions about it, from a shell.

Exit codes: 0 done, 1 something failed while running, 2 the command was used wrongly.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from internvid_assets.errors import RunFailed, UsageError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
Home = Annotated[Path | None, typer.Option(help="Where everything lives (INTERNVID_HOME; default ./.internvid).")]


@app.command()
def run(
    sources: Annotated[list[str], typer.Argument(help="Folders of videos, or video files.")],
    home: Home = None,
    batch_size: Annotated[int | None, typer.Option(help="Videos in a batch (a Dagster partition).")] = None,
    captioner: Annotated[str | None, typer.Option(help="embedded, hf, endpoint or sidecar.")] = None,
    until: Annotated[str | None, typer.Option(help="Last asset to make, for example `clips`.")] = None,
) -> None:
    """Take videos through the whole path. Safe to repeat: what is done stays done."""
    settings = _settings(home, batch_size=batch_size, captioner=captioner)
    from internvid_assets.run import run_path

    run_path(settings, sources, until)


@app.command()
def status(home: Home = None) -> None:
    """Per stage: rows in, out, dropped by reason, seconds; and where things are."""
    settings = _settings(home, must_exist=True)
    from internvid_assets.lake import Lake
    from internvid_assets.status import print_status

    print_status(Lake(settings), settings)


@app.command()
def lineage(
    item: Annotated[
        str, typer.Argument(help="A clip, video, release, shard set or checkpoint id, a captioner version, or a table.")
    ],
    home: Home = None,
) -> None:
    """Walk back from anything to the source bytes, and forward to what was made of it."""
    settings = _settings(home, must_exist=True)
    from internvid_assets.lake import Lake
    from internvid_assets.lake.lineage import explain

    lines = explain(Lake(settings), item)
    if not lines:
        raise UsageError(
            f"nothing is known as {item!r}: give a clip, video, release, shard set or checkpoint id, a captioner version or a table"
        )
    typer.echo("\n".join(lines))


@app.command()
def recaption(
    home: Home = None,
    budget: Annotated[int | None, typer.Option(help="At most so many clips.", min=1)] = None,
    minutes: Annotated[float | None, typer.Option(help="Begin nothing new after so long.", min=0)] = None,
    captioner: Annotated[str | None, typer.Option(help="embedded, hf, endpoint or sidecar.")] = None,
    policy: Annotated[str | None, typer.Option(help="worst_first, newest_first or a .sql file.")] = None,
) -> None:
    """Caption the most valuable clips that lack a text by the current captioner; old texts stay. Says what improved."""
    settings = _settings(home, must_exist=True, captioner=captioner)
    from internvid_assets.run import recaption_home

    recaption_home(settings, budget, minutes, policy)


@app.command()
def review(
    home: Home = None,
    sample: Annotated[int, typer.Option(help="How many captions to draw.", min=1)] = 100,
    seed: Annotated[int, typer.Option(help="The same seed draws the same captions.")] = 0,
    captioner_version: Annotated[
        str | None, typer.Option(help="Whose captions; default: the current recipe's.")
    ] = None,
    reviewer: Annotated[str | None, typer.Option(help="Who judges; default: the user's name.")] = None,
    port: Annotated[int, typer.Option(help="Of the page, on this machine.", min=0, max=65535)] = 3070,
    report: Annotated[bool, typer.Option("--report", help="Only print the precision of what was reviewed.")] = False,
) -> None:
    """Judge sampled captions beside their frames in a browser; says the precision of each captioner version."""
    settings = _settings(home, must_exist=True)
    from internvid_assets.captions.review import precision_lines, precisions
    from internvid_assets.lake import Lake

    lake = Lake(settings)
    if not report:
        _serve_review(settings, lake, sample, seed, captioner_version, reviewer or getpass.getuser(), port)
    typer.echo("\n".join(precision_lines(precisions(lake))))


def _serve_review(
    settings: Any, lake: Any, size: int, seed: int, version: str | None, reviewer: str, port: int
) -> None:
    """Show the review page until Ctrl-C."""
    import uvicorn

    from internvid_assets.captions.recipe import load_recipe
    from internvid_assets.captions.review_page import Review, review_app
    from internvid_assets.store import open_store

    try:
        version = version or load_recipe(settings.captions).version("merge")
        review = Review(lake, open_store(settings), version, size, seed, reviewer)
    except ValueError as error:
        raise UsageError(str(error)) from error
    typer.echo(f"{len(review.pairs)} captions at http://127.0.0.1:{port}/ (Ctrl-C ends)")
    uvicorn.run(review_app(review), host="127.0.0.1", port=port, log_level="warning")


@app.command()
def release(
    subset: Annotated[str, typer.Argument(help="A subset, for example internvid_10m_flt.")],
    home: Home = None,
) -> None:
    """Publish a subset as JSONL, Parquet, card, Croissant and checksums."""
    settings = _settings(home, must_exist=True, subset=subset)
    from internvid_assets.run import run_one_job

    run_one_job(settings, "release_dataset")


@app.command()
def export(
    subset: Annotated[str, typer.Argument(help="A subset, for example internvid_10m_flt.")],
    folder: Annotated[Path, typer.Argument(help="Where the clip files go.")],
    home: Home = None,
    short_side: Annotated[int, typer.Option(help="Pixels, never enlarged; 0: as it is.", min=0)] = 256,
    crf: Annotated[int, typer.Option(help="Quality of libx264: lower is better.", min=0, max=51)] = 23,
    copy: Annotated[bool, typer.Option(help="Copy without loss where a key frame allows it.")] = False,
    audio: Annotated[bool, typer.Option(help="Keep the sound.")] = False,
) -> None:
    """Cut the clips of a subset from the stored videos, frame-exact, as MP4 files with an index. Safe to repeat."""
    settings = _settings(home, must_exist=True)
    from internvid_assets.clips.export import ExportOptions
    from internvid_assets.lake import Lake
    from internvid_assets.progress import bar
    from internvid_assets.release.clip_files import INDEX, write_clip_files
    from internvid_assets.store import open_store

    try:
        options = ExportOptions(short_side=short_side or None, crf=crf, copy=copy, audio=audio)
        count, problems = write_clip_files(
            Lake(settings), open_store(settings), subset, folder, options, settings.workers, bar
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    typer.echo(f"{count} clips in {folder}, listed in {folder / INDEX}")
    if problems:
        raise RunFailed(f"{len(problems)} videos could not be cut: {'; '.join(problems)}")


def _settings(home: Path | None, must_exist: bool = False, **options: Any) -> Any:
    """Settings from the options, the environment and the files; also prepares the home for Dagster."""
    from pydantic import ValidationError

    from internvid_assets.settings import Settings

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


def _export(settings: Any, given: dict[str, Any]) -> None:
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


def main(argv: list[str] | None = None) -> None:
    """Entry point: errors that a user can mend are one line on standard error."""
    sys.exit(_guarded(lambda: app(args=argv, standalone_mode=False)))


def _guarded(command: Callable[[], Any]) -> int:
    from typer.exceptions import TyperException

    from internvid_assets.lake import LakeError

    try:
        code = command()
        return code if isinstance(code, int) else 0
    except TyperException as error:
        message, code = error.format_message(), 2
    except UsageError as error:
        message, code = str(error), 2
    except (RunFailed, LakeError) as error:
        message, code = str(error), 1
    except OSError as error:
        message, code = f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), 1
    except KeyboardInterrupt:
        message, code = "interrupted; run the same command again to go on", 130
    print(f"internvid: {message}", file=sys.stderr)
    return code
