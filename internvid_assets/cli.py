"""`internvid`: the main job and the questions about it, from a shell.

Exit codes: 0 done, 1 something failed while running, 2 the command was used wrongly.
"""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from internvid_assets.errors import RunFailed, UsageError
from internvid_assets.home import settings_of

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
Home = Annotated[Path | None, typer.Option(help="Where everything lives (INTERNVID_HOME; default ./.internvid).")]


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
def availability(
    home: Home = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write all rows to this file.")] = None,
) -> None:
    """Which sources could not be had: gone, given up or waiting, why, and since when."""
    settings = settings_of(home, must_exist=True)
    from internvid_assets.lake import Lake
    from internvid_assets.videos.ledger_queries import availability_lines, write_availability

    lake = Lake(settings)
    typer.echo("\n".join(availability_lines(lake)))
    if csv:
        typer.echo(f"{write_availability(lake, csv)} rows in {csv}")


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
    except ValueError as error:
        raise UsageError(str(error)) from error
    typer.echo(f"{count} searches in {output}: internvid run {output}")


@app.command()
def status(home: Home = None) -> None:
    """Per stage: rows in, out, dropped by reason, seconds; and where things are."""
    settings = settings_of(home, must_exist=True)
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
    settings = settings_of(home, must_exist=True)
    from internvid_assets.lake import Lake
    from internvid_assets.lake.lineage import explain

    lines = explain(Lake(settings), item)
    if not lines:
        raise UsageError(
            f"nothing is known as {item!r}: give a clip, video, release, shard set or checkpoint id, a captioner version or a table"
        )
    typer.echo("\n".join(lines))


@app.command()
def why(
    clip: Annotated[str, typer.Argument(help="A clip id.")],
    home: Home = None,
    sheet: Annotated[Path | None, typer.Option(help="Write the clip's frames to this JPEG file.")] = None,
) -> None:
    """One clip's life on a page: source, statistics, texts, scores, the rule that kept or dropped it, and its uses."""
    settings = settings_of(home, must_exist=True)
    from internvid_assets.lake import Lake
    from internvid_assets.lake.why import why as explain_clip

    lake = Lake(settings)
    try:
        typer.echo("\n".join(explain_clip(lake, clip)))
        if sheet:
            sheet.write_bytes(_sheet(settings, lake, clip))
            typer.echo(f"frames: {sheet}")
    except ValueError as error:
        raise UsageError(str(error)) from error


def _sheet(settings: Any, lake: Any, clip: str) -> bytes:
    """A JPEG of the clip's frames. Raises: ValueError when they are gone."""
    from internvid_assets.clips.contact_sheet import contact_sheet
    from internvid_assets.clips.frames import FrameSource
    from internvid_assets.store import open_store

    found = next(FrameSource(lake, open_store(settings)).of_clips([clip]), None)
    if found is None:
        raise ValueError(f"the frames of clip {clip} are gone: run the clips stage again")
    times = [f"{frame.seconds:.1f} s" for frame in found.uniform]
    return contact_sheet([frame.jpeg for frame in found.uniform], times, columns=4, width=320)


@app.command()
def diff(
    old: Annotated[str, typer.Argument(help="A release id, SUBSET@SNAPSHOT, or SUBSET as it now is.")],
    new: Annotated[str, typer.Argument(help="The same, to compare with.")],
    home: Home = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    examples: Annotated[int, typer.Option(help="Clips shown of each change.", min=0)] = 3,
) -> None:
    """What changed between two states of a subset: added, dropped and by which rule, re-captioned, re-scored."""
    settings = settings_of(home, must_exist=True)
    from internvid_assets.lake import Lake
    from internvid_assets.lake.diff import diff as compare_states

    try:
        found = compare_states(Lake(settings), old, new, examples)
    except ValueError as error:
        raise UsageError(str(error)) from error
    typer.echo(json.dumps(asdict(found), indent=1) if as_json else "\n".join(found.lines()))


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
            receipt = carry_out(lake, store, plan, settings.cache_folder, lambda runs: _forget_runs(lake, runs))
            where = store.uri(f"takedowns/{plan.takedown_id}/receipt.json")
            typer.echo("\n".join([*receipt_lines(receipt), f"Receipt: {where}"]))
    if not yes:
        typer.echo("nothing was changed: repeat with --yes to do it")
    elif not plans:
        typer.echo(f"purged again: {purge(lake)}")


def _forget_runs(lake: Any, run_ids: Sequence[str]) -> None:
    """Delete Dagster's records of runs, which may hold pictures and texts; what they made still counts as made."""
    from internvid_assets import automation
    from internvid_assets.lake.assets import written

    instance = automation.instance()
    for run_id in (run_id for run_id in run_ids if instance.has_run(run_id)):
        made = "select distinct asset, partition_key, code_version from lineage.materializations where run_id = ?"
        for row in lake.rows(made, [run_id]):
            instance.report_runless_asset_event(written(lake, row["asset"], row["code_version"], row["partition_key"]))
        instance.delete_run(run_id)


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
def stale(
    home: Home = None,
    captioner: Annotated[str | None, typer.Option(help="As if this one were set.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: every batch.")] = False,
) -> None:
    """What a run would make again, why, and how long it would take; runs nothing."""
    settings = settings_of(home, must_exist=True, captioner=captioner)
    from internvid_assets.lake import Lake
    from internvid_assets.lake.stale import lines
    from internvid_assets.staleness import stale_assets

    try:
        found = stale_assets(Lake(settings), settings)
    except ValueError as error:
        raise UsageError(str(error)) from error
    typer.echo(json.dumps([asdict(item) for item in found], indent=1) if as_json else "\n".join(lines(found)))


@app.command()
def openlineage(
    url: Annotated[
        str | None, typer.Option(help="A catalog; default: what OPENLINEAGE_URL or openlineage.yml say.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="Append the events to a file, one a line.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Only writes after this time (UTC).")] = None,
    home: Home = None,
) -> None:
    """Send the lineage of every write to an OpenLineage catalog, or write it to a file. Safe to repeat."""
    settings = settings_of(home, must_exist=True)
    from internvid_assets.lake import Lake
    from internvid_assets.lake.openlineage import client_of, events

    count = 0
    try:
        client = client_of(url, file)
        for event in events(Lake(settings), since):
            client.emit(event)
            count += 1
    except ValueError as error:
        raise UsageError(str(error)) from error
    except OSError as error:  # what requests raises
        raise RunFailed(f"the OpenLineage catalog took {count} events and then failed: {error}") from error
    typer.echo(f"{count} events of {count // 2} writes")


@app.command()
def costs(home: Home = None) -> None:
    """What every stage used up, in all, for each kept clip and for each hour of video."""
    settings = settings_of(home, must_exist=True)
    from internvid_assets.costs.ledger import Ledger, table
    from internvid_assets.lake import Lake

    typer.echo("\n".join(table(Ledger.read(Lake(settings)), settings.costs)))


@app.command()
def plan(
    videos: Annotated[float | None, typer.Option(help="How many videos; default: by the hours.", min=1)] = None,
    hours: Annotated[float | None, typer.Option(help="How many hours; default: by the videos.", min=0)] = None,
    days: Annotated[float, typer.Option(help="How long it may take.", min=0.1)] = 30,
    cores: Annotated[int, typer.Option(help="Of one pod or machine.", min=1)] = 16,
    home: Home = None,
) -> None:
    """What so many videos would cost, extrapolated from what was measured in this home: CPU, GPU, storage, money, pods."""
    settings = settings_of(home, must_exist=True)
    from internvid_assets.costs.plan import lines, make_plan
    from internvid_assets.lake import Lake

    try:
        made = make_plan(Lake(settings), settings.costs, videos, hours)
    except ValueError as error:
        raise UsageError(str(error)) from error
    typer.echo("\n".join(lines(made, settings.costs, days, cores)))


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
