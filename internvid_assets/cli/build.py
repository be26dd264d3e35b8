"""Commands that make something: videos to clips, texts, releases, files, models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from internvid_assets.cli.app import Home, app
from internvid_assets.errors import RunFailed, UsageError
from internvid_assets.home import settings_of


@app.command()
def run(
    sources: Annotated[
        list[str], typer.Argument(help="Folders, files, s3:// prefixes, addresses, youtube:ID, searches or manifests.")
    ],
    home: Home = None,
    batch_size: Annotated[int | None, typer.Option(help="Videos in a batch (a Dagster partition).")] = None,
    captioner: Annotated[str | None, typer.Option(help="embedded, hf, endpoint or sidecar.")] = None,
    until: Annotated[str | None, typer.Option(help="Last asset to make, for example `clips`.")] = None,
) -> None:
    """Take videos through the whole path. Safe to repeat: what is done stays done."""
    settings = settings_of(home, batch_size=batch_size, captioner=captioner)
    from internvid_assets.run import run_path

    run_path(settings, sources, until)


@app.command()
def retry(
    home: Home = None,
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Only this class of failure; repeat it for several.")
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Also what is not due yet.")] = False,
    until: Annotated[str | None, typer.Option(help="Last asset to make, for example `clips`.")] = None,
) -> None:
    """Try sources again that failed, and take what comes through the whole path. What is gone or refused: by its class."""
    settings = settings_of(home, must_exist=True)
    from internvid_assets.run import retry_items

    retry_items(settings, classes or [], now, until)


@app.command()
def recaption(
    home: Home = None,
    budget: Annotated[int | None, typer.Option(help="At most so many clips.", min=1)] = None,
    minutes: Annotated[float | None, typer.Option(help="Begin nothing new after so long.", min=0)] = None,
    captioner: Annotated[str | None, typer.Option(help="embedded, hf, endpoint or sidecar.")] = None,
    policy: Annotated[str | None, typer.Option(help="worst_first, newest_first or a .sql file.")] = None,
) -> None:
    """Caption the most valuable clips that lack a text by the current captioner; old texts stay. Says what improved."""
    settings = settings_of(home, must_exist=True, captioner=captioner)
    from internvid_assets.run import recaption_home

    recaption_home(settings, budget, minutes, policy)


@app.command()
def release(
    subset: Annotated[str, typer.Argument(help="A subset, for example internvid_10m_flt.")],
    home: Home = None,
) -> None:
    """Publish a subset as JSONL, Parquet, card, Croissant and checksums."""
    settings = settings_of(home, must_exist=True, subset=subset)
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
    settings = settings_of(home, must_exist=True)
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


@app.command()
def compare(
    subset_a: Annotated[str, typer.Argument(help="A subset, for example internvid_10m_div.")],
    subset_b: Annotated[str, typer.Argument(help="The subset that it is compared with.")],
    recipe: Annotated[str, typer.Option(help="Trained on both, for example demo_cpu.")],
    seeds: Annotated[int, typer.Option(help="Models of each subset.", min=1)] = 1,
    home: Home = None,
) -> None:
    """Train the same model on two subsets with equal steps and seeds; says what differs, with intervals."""
    settings = settings_of(home, must_exist=True)
    from internvid_assets.lake import Lake
    from internvid_assets.store import open_store
    from internvid_assets.viclip.compare import compare_subsets, make_plan, run_quietly

    lake, store = Lake(settings), open_store(settings)
    try:
        plan = make_plan(lake, settings, (subset_a, subset_b), recipe, seeds)
        folder = compare_subsets(lake, store, settings, plan, run_quietly(settings.cache_folder / "compare.log"))
    except ValueError as error:
        raise UsageError(str(error)) from error
    typer.echo(store.get_bytes(f"{folder}/compare.md").decode())
    typer.echo(f"kept in {store.uri(folder)}")


@app.command()
def queries(
    phrases: Annotated[Path, typer.Argument(help="A text file of action labels or phrases, one a line.")],
    output: Annotated[Path, typer.Option(help="The manifest of searches that is written (.jsonl or .csv).")],
    per_query: Annotated[int, typer.Option(help="Videos wanted of each search.", min=1)] = 20,
    language: Annotated[str | None, typer.Option(help="Of the phrases; kept with what is found.")] = None,
) -> None:
    """Make a search of each action phrase (P§3.1): a manifest for `internvid run`."""
    from internvid_assets.videos.queries import search_queries, write_searches

    try:
        found = search_queries(phrases.read_text(encoding="utf-8-sig").splitlines())
        count = write_searches(found, output, per_query, language)
    except OSError as error:
        raise UsageError(f"{error.filename} cannot be used: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(str(error)) from error
    typer.echo(f"{count} searches in {output}: internvid run {output}")
