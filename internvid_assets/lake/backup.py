"""Dumps of the databases in the media store: put there with a stamp, the oldest forgotten, fetched to be put back.

`python -m internvid_assets.lake.backup store FOLDER --keep N` and `… fetch STAMP FOLDER`, as the chart's CronJob runs them.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from internvid_assets.errors import UsageError
from internvid_assets.settings import Settings
from internvid_assets.store import ObjectStore, open_store

PREFIX = "backups/"


def store_dumps(store: ObjectStore, folder: Path, keep: int, now: datetime) -> tuple[str, list[str]]:
    """Store every `*.dump` of a folder under a new stamp, then forget all stamps but the newest `keep`.

    Returns: the stamp, e.g. `20261126T013000Z`, and the stamps that went.
    Raises: UsageError when there is nothing to store, or a dump is empty: then nothing is forgotten.
    """
    dumps = sorted(folder.glob("*.dump"))
    if not dumps:
        raise UsageError(f"no *.dump in {folder}: nothing was stored, and no older backup was forgotten")
    if empty := [dump.name for dump in dumps if dump.stat().st_size == 0]:
        raise UsageError(f"{empty[0]} in {folder} is empty: nothing was stored, and no older backup was forgotten")
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    for dump in dumps:
        store.put_file(f"{PREFIX}{stamp}/{dump.name}", dump)
    gone = stamps(store)[:-keep]
    for old in gone:
        for key in list(store.keys(f"{PREFIX}{old}/")):
            store.delete(key)
    return stamp, gone


def fetch_dumps(store: ObjectStore, stamp: str, folder: Path) -> list[Path]:
    """The dumps of one stamp as files of the folder.

    Raises: UsageError naming the stamps that there are.
    """
    keys = list(store.keys(f"{PREFIX}{stamp}/"))
    if not keys:
        raise UsageError(f"no backup {stamp!r} in {store.uri(PREFIX)}; there are {', '.join(stamps(store)) or 'none'}")
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / key.rpartition("/")[2] for key in keys]
    for key, file in zip(keys, files, strict=True):
        shutil.copyfile(store.local_path(key), file)
    return files


def stamps(store: ObjectStore) -> list[str]:
    """Of all backups, the oldest first."""
    return sorted({key.removeprefix(PREFIX).partition("/")[0] for key in store.keys(PREFIX)})


def main(argv: Sequence[str] | None = None) -> int:
    """Store or fetch; 2 when used wrongly."""
    parser = argparse.ArgumentParser(prog="python -m internvid_assets.lake.backup", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    storing = commands.add_parser("store", help="store every *.dump of FOLDER")
    storing.add_argument("folder", type=Path)
    storing.add_argument("--keep", type=int, default=14, help="the newest so many backups stay")
    fetching = commands.add_parser("fetch", help="the dumps of STAMP as files of FOLDER")
    fetching.add_argument("stamp")
    fetching.add_argument("folder", type=Path)
    given = parser.parse_args(argv)
    store = open_store(Settings())
    try:
        if given.command == "store":
            if given.keep < 1:
                raise UsageError(f"--keep {given.keep}: at least 1, the backup just made")
            stamp, gone = store_dumps(store, given.folder, given.keep, datetime.now(UTC))
            print(f"stored {store.uri(PREFIX + stamp)}; forgotten: {', '.join(gone) or 'none'}")
        else:
            for file in fetch_dumps(store, given.stamp, given.folder):
                print(f"fetched {file}, {file.stat().st_size} bytes")
    except UsageError as error:
        print(f"backup: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
