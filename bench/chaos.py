"""Ingest and clips under kill -9, storms of errors, a full disk and a catalog that hangs up: what is lost, doubled or left behind.

    python -m bench.chaos kill [--worlds 20] [--kills 10]       worlds of 10 addresses, each killed so many times, then run to its end
    python -m bench.chaos kill --cluster --worlds 5             the same on PostgreSQL and S3
    python -m bench.chaos catalog [--worlds 5] [--kills 10]     PostgreSQL ends all connections at random moments
    python -m bench.chaos disk [--worlds 5]                     a home on a disk that is too small, then on a larger one (needs root)

The server answers two in five requests with 429, 500, 503, a reset in the middle, or an early end. Every run is a process of its own,
forked from this one, so that a kill hits work and not imports. A world is right when it holds what an undisturbed one holds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from internvid_assets.clips.cut import cut_batch
from internvid_assets.lake import Lake
from internvid_assets.lake.orphans import find_orphans, sweep
from internvid_assets.settings import ClipSettings, Settings
from internvid_assets.store import open_store
from internvid_assets.videos.ingest import ingest_parts
from internvid_assets.videos.sources import discover, open_batches
from tests.servers import cluster, postgres_server, s3_server
from tests.videos.homes import accounted_for, quiet, video_bytes, with_fetch
from tests.videos.media_server import Misdeed, Resource, serving

NUM_VIDEOS, BATCH_SIZE, PADDING = 8, 4, 60_000
_KINDS: tuple[Callable[[], Misdeed], ...] = (
    lambda: Misdeed(429, {"Retry-After": "0"}),
    lambda: Misdeed(500),
    lambda: Misdeed(503),
    lambda: Misdeed(reset_after=random.randrange(PADDING)),
    lambda: Misdeed(end_after=random.randrange(PADDING)),
)


class _Stormy(list):
    """Misdeeds that never end: two requests in five meet one."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)

    def __bool__(self) -> bool:
        return self._random.random() < 0.4

    def pop(self, _: Any = -1) -> Misdeed:
        return self._random.choice(_KINDS)()


def serve(addresses: Any, seed: int) -> None:
    """Give the addresses of 8 videos, one that is gone and one that is no video; then serve until killed."""
    with serving() as (url, server):
        for number in range(NUM_VIDEOS):
            server.resources[f"/{number}.mp4"] = Resource(video_bytes(number, padding=PADDING), _Stormy(seed + number))
        server.resources["/text.mp4"] = Resource(b"no video" * 100, _Stormy(seed))
        server.bytes_per_second = 2_000_000
        addresses.send([f"{url}{path}" for path in (*server.resources, "/gone.mp4")])
        time.sleep(1e6)


def run(settings: Settings, listed: Path) -> None:
    """Sources to clips, as `internvid run --until clips` does, without Dagster."""
    lake, store = Lake(settings), open_store(settings)
    for batch in open_batches(lake, discover([listed]), BATCH_SIZE):
        stages = (
            ("videos.raw_videos", lambda b=batch: ingest_parts(lake, store, settings, b, quiet)),
            ("clips.clips", lambda b=batch: iter([cut_batch(lake, store, ClipSettings(num_frames=4), 2, b, quiet)])),
        )
        for table, parts in stages:
            for part in parts():
                lake.commit(part.write(table, "chaos", batch, 0, []), part.changes)
    lake.close()


def contents(settings: Settings) -> dict[str, Any]:
    """What the world holds, once everything was found accounted for, once, and with its objects."""
    lake, store = Lake(settings), open_store(settings)
    accounted_for(lake)
    for table, key in (("videos.raw_videos", "video_id"), ("clips.clips", "clip_id"), ("videos.items", "source_uri")):
        assert lake.value(f"select count(*) - count(distinct {key}) from {table}") == 0, f"doubled rows in {table}"
    named = "select media_key as key from videos.raw_videos union all select distinct frame_pack_key from clips.clips"
    lost = [row["key"] for row in lake.rows(named) if not store.exists(row["key"])]
    assert not lost, f"objects lost: {lost}"
    orphans = len(list(find_orphans(lake, store)))
    sweep(lake, store, keep_days=0)
    assert not list(find_orphans(lake, store)), "orphans outlive the grace period"
    states = lake.rows("select state, failure, count(*) as n from videos.items group by all order by all")
    held = {
        "videos": [r["content_sha256"] for r in lake.rows("select content_sha256 from videos.raw_videos order by 1")],
        "clips": [row["clip_id"] for row in lake.rows("select clip_id from clips.clips order by 1")],
        "states": [[row["state"], row["failure"], row["n"]] for row in states],
    }
    lake.close()
    return {"held": held, "orphans": orphans}


def forked(work: Callable[[], Any]) -> tuple[int, int]:
    """Process id, and a pipe's end that its answer comes from as JSON."""
    reader, writer = os.pipe()
    if (process := os.fork()) == 0:
        os.setsid()
        code = 0
        try:
            os.write(writer, json.dumps(work()).encode())
        except BaseException:
            os.write(writer, json.dumps(traceback.format_exc(limit=-3)).encode())
            code = 1
        os._exit(code)
    os.close(writer)
    return process, reader


def answer(process: int, reader: int) -> tuple[int, Any]:
    """How a forked process ended, and what it said."""
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    return os.waitpid(process, 0)[1], json.loads(said) if said else None


def finished(settings: Settings, listed: Path) -> int:
    """Runs until one ends well and nothing waits; how many there were."""
    for number in range(1, 60):
        code, said = answer(*forked(lambda: run(settings, listed)))
        if code:
            print(f"  a run ended with an error: {str(said).strip().splitlines()[-1][:150]}")
            continue
        if not answer(*forked(lambda: waiting(settings)))[1]:
            return number
    raise RuntimeError("sixty runs did not bring everything in")


def waiting(settings: Settings) -> int:
    """How many items are to be tried again."""
    lake = Lake(settings)
    return lake.value("select count(*) from videos.items where state in ('pending', 'retryable')")


def disturbed(settings: Settings, listed: Path, num_kills: int, disturb: Callable[[int], None], mean: float) -> int:
    """Start runs and disturb each at a random moment; how many were hit at work."""
    hits = 0
    for _ in range(num_kills):
        process, reader = forked(lambda: run(settings, listed))
        time.sleep(random.expovariate(1 / mean))
        if os.waitpid(process, os.WNOHANG) == (0, 0):
            hits += 1
            disturb(process)
            answer(process, reader)
        else:
            os.close(reader)
    return hits


def kill(process: int) -> None:
    """With all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)


def hang_up(server: str, database: str) -> Callable[[int], None]:
    """A disturbance: PostgreSQL ends every connection to the catalog."""
    import psycopg2

    def disturb(_: int) -> None:
        connection = psycopg2.connect(f"{server} dbname=postgres")
        connection.autocommit = True
        connection.cursor().execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [database]
        )
        connection.close()

    return disturb


@contextmanager
def small_disk(folder: Path, kibibytes: int) -> Iterator[Callable[[int], None]]:
    """A file system of that size at the folder; gives what changes its size."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", folder], check=True)
    try:
        yield lambda size: subprocess.run(["mount", "-o", f"remount,size={size}k", folder], check=True) and None
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def worlds(given: argparse.Namespace, folder: Path, started: ExitStack) -> None:
    """Print each world, and what all of them lost, doubled and left behind."""
    receiver, sender = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(sender, given.seed), daemon=True)
    server.start()
    started.callback(server.kill)
    listed = folder / "list.txt"
    listed.write_text("".join(f"{address}\n" for address in receiver.recv()))
    on_servers = given.cluster or given.what == "catalog"
    postgres = started.enter_context(postgres_server()) if on_servers else ""
    (folder / "s3").mkdir()
    s3 = started.enter_context(s3_server(folder / "s3")) if on_servers else None

    def world(name: str, home: Path) -> Settings:
        settings = cluster(postgres, s3, name, home) if s3 else Settings(home=home)
        return with_fetch(settings, max_attempts=1000, retry_minutes=0.0001, concurrency=8, per_host=8)

    calm = world("calm", folder / "calm")
    began = time.monotonic()
    finished(calm, listed)
    seconds = time.monotonic() - began
    mean = min(seconds / 4, 3.0)
    size = sum(path.stat().st_size for path in (folder / "calm").rglob("*") if path.is_file()) // 1024
    _, wanted = answer(*forked(lambda: contents(calm)))
    print(
        f"undisturbed: {wanted['held']['states']}, {len(wanted['held']['clips'])} clips, {4 * mean:.1f} s", flush=True
    )
    right = hits = orphans = 0
    for number in range(given.worlds):
        name, home = f"world{number}", folder / f"world{number}"
        with ExitStack() as kept:
            settings = world(name, home / "home")
            if given.what == "disk":
                grow = kept.enter_context(small_disk(home, int(size * random.uniform(0.2, 0.9))))
                code, said = answer(*forked(lambda settings=settings: run(settings, listed)))
                hits += code != 0
                print(f"  {str(said).strip().splitlines()[-1][:150]}")
                grow(64 * size)
            else:
                disturb = hang_up(postgres, name) if given.what == "catalog" else kill
                hits += disturbed(settings, listed, given.kills, disturb, mean)
            num_runs = finished(settings, listed)
            code, found = answer(*forked(lambda settings=settings: contents(settings)))
        is_right = code == 0 and found["held"] == wanted["held"]
        right += is_right
        orphans += found["orphans"] if code == 0 else 0
        print(f"world {number}: {'right' if is_right else f'WRONG {found}'} after {num_runs} more runs", flush=True)
        shutil.rmtree(home, ignore_errors=True)
    print(
        f"{given.what}: {right} of {given.worlds} worlds hold what the undisturbed one holds; {hits} runs were hit at work; "
        f"{orphans} orphaned objects were left, all swept"
    )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kill", "catalog", "disk"])
    parser.add_argument("--worlds", type=int, default=None)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--cluster", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.worlds = given.worlds or (20 if given.what == "kill" else 5)
    random.seed(given.seed)
    with tempfile.TemporaryDirectory() as name, ExitStack() as started:
        worlds(given, Path(name), started)
    sys.exit(0)


if __name__ == "__main__":
    main()
