"""Questions about a home: what is there, where it came from, why, what it costs, what would run."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from internvid_assets.cli.app import Home, app
from internvid_assets.errors import RunFailed, UsageError
from internvid_assets.home import settings_of


@app.command()
def status(home: Home = None) -> None:
    """Per stage: rows in, out, dropped by reason, seconds; and where things are."""
    settings = settings_of(home, must_exist=True)
    from internvid_assets.lake import Lake
    from internvid_assets.status import print_status

    print_status(Lake(settings), settings)


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
