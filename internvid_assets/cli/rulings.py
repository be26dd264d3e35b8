"""What people and rights holders decide: takedowns, benchmarks that must not leak, captions that are reviewed."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from internvid_assets.cli.app import Home, app
from internvid_assets.errors import RunFailed, UsageError
from internvid_assets.home import settings_of


@app.command()
def takedown(
    items: Annotated[
        list[str] | None,
        typer.Argument(help="Video ids, clip ids, addresses, folders of addresses, or content SHA-256s."),
    ] = None,
    list_file: Annotated[Path | None, typer.Option("--list", help="A file of items, one a line.")] = None,
    reason: Annotated[str, typer.Option(help="Kept with the tombstone and the receipt.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without: only say what it would do.")] = False,
    home: Home = None,
) -> None:
    """Remove videos or clips from everything, earlier states included, and keep them out. An interrupted one is completed
    by the next."""
    settings = settings_of(home, must_exist=True)
    lines = list_file.read_text().splitlines() if list_file else []
    wanted = [item.strip() for item in [*(items or []), *lines] if item.strip()]
    if not wanted:
        raise UsageError("nothing to take down: give items, or --list FILE")
    try:
        _take_down(settings, wanted, reason, yes)
    except ValueError as error:
        raise UsageError(str(error)) from error
    except RuntimeError as error:
        raise RunFailed(str(error)) from error


def _take_down(settings: Any, items: list[str], reason: str, yes: bool) -> None:
    """Complete what was interrupted, then plan, and with `yes` carry out, what is left of the items."""
    from internvid_assets.automation import forget_runs
    from internvid_assets.lake import Lake
    from internvid_assets.lake.purge import purge
    from internvid_assets.lake.takedown import earlier_takedown, is_known
    from internvid_assets.release.takedown import carry_out, make_plan, receipt_lines, unfinished
    from internvid_assets.store import open_store

    lake, store = Lake(settings), open_store(settings)
    plans = unfinished(store)
    done = {item for plan in plans for item in plan.asked}
    for item in (item for item in items if item not in done):
        if not is_known(lake, item) and (takedown_id := earlier_takedown(lake, item)):
            typer.echo(f"{item} was taken down before: takedown {takedown_id}")
            done.add(item)
    left = [item for item in items if item not in done]
    plans += [make_plan(lake, store, left, reason)] if left else []
    for plan in plans:
        typer.echo("\n".join(plan.lines()))
        if yes:
            receipt = carry_out(lake, store, plan, settings.cache_folder, lambda runs: forget_runs(lake, runs))
            where = store.uri(f"takedowns/{plan.takedown_id}/receipt.json")
            typer.echo("\n".join([*receipt_lines(receipt), f"Receipt: {where}"]))
    if not yes:
        typer.echo("nothing was changed: repeat with --yes to do it")
    elif not plans:
        typer.echo(f"purged again: {purge(lake)}")


@app.command()
def leakage(
    benchmark: Annotated[list[str], typer.Option(help="NAME=FOLDER with annotations and videos, or NAME=FILE of ids.")],
    home: Home = None,
    exclude: Annotated[bool, typer.Option("--exclude", help="Keep its videos out from now on.")] = False,
    write: Annotated[
        Path | None, typer.Option(help="Write the ids of the lake's videos in it, as a block list.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Which videos and clips of the lake are in public benchmarks, by name and by their frames."""
    settings = settings_of(home, must_exist=True)
    from internvid_assets.clips.benchmarks import read_benchmark
    from internvid_assets.clips.leakage import find_leakage
    from internvid_assets.lake import Lake
    from internvid_assets.progress import bar

    named = [text.partition("=") for text in benchmark]
    if wrong := [text for text, (name, _, where) in zip(benchmark, named, strict=True) if not (name and where)]:
        raise UsageError(f"--benchmark {wrong[0]} is not NAME=FOLDER or NAME=FILE")
    try:
        read = [read_benchmark(name, Path(where)) for name, _, where in named]
        found = [find_leakage(Lake(settings), settings, each, exclude, bar) for each in read]
    except ValueError as error:
        raise UsageError(str(error)) from error
    typer.echo(
        json.dumps([f.as_dict() for f in found], indent=1)
        if as_json
        else "\n".join(x for f in found for x in f.lines())
    )
    if write:
        write.write_text("".join(f"{video} # in {f.benchmark}\n" for f in found for video in f.videos))
    if exclude and not as_json:
        typer.echo("kept out from now on; run the job refresh_subsets to drop what is there")


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
    settings = settings_of(home, must_exist=True)
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
