"""What fetching costs beside plain tools, and what the ledger and long manifests cost at the paper's size.

    python -m bench.ingest http [--files 48] [--mib 16] [--rounds 5]       files of an HTTP server: curl, and our fetching
    python -m bench.ingest s3 [--files 48] [--mib 16] [--rounds 5]         objects of SeaweedFS: aws s3 cp, boto3, ours
    python -m bench.ingest ledger [--items 7000000]        seconds of questions to the ledger, embedded lake
    python -m bench.ingest manifest [--rows 1000000]       seconds and memory of a manifest's way into batches

Contenders take turns within a round, each into an empty folder; a ratio is of the same round. Ours hashes (SHA-256),
checks lengths, keeps what a resume needs, and puts the files into the media store.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from internvid_assets.lake import Lake
from internvid_assets.settings import FetchSettings, S3Settings, Settings
from internvid_assets.store import open_store
from internvid_assets.store.objects import s3_client
from internvid_assets.videos.addresses import host_of
from internvid_assets.videos.fetch.fetcher import Fetcher
from internvid_assets.videos.fetch.schedule import paces, run_paced
from internvid_assets.videos.ledger import utc_now
from internvid_assets.videos.ledger_queries import availability_lines, due_batches, summary
from internvid_assets.videos.sources import Source, discover, open_batches

_CONCURRENCY = 16
Contender = Callable[[list[str], Path], None]


def write_files(folder: Path, count: int, mib: float) -> int:
    """Random files `0.mp4`, …; their bytes together."""
    folder.mkdir(parents=True)
    chance = random.Random(0)
    for number in range(count):
        (folder / f"{number}.mp4").write_bytes(chance.randbytes(int(mib * 2**20)))
    return count * int(mib * 2**20)


def serve(folder: str, port: str) -> None:
    """A plain file server (aiohttp with sendfile, ETags and ranges) until it is killed."""
    from aiohttp import web

    app = web.Application()
    app.router.add_static("/", folder)
    web.run_app(app, host="127.0.0.1", port=int(port), print=None, access_log=None)


def curl(addresses: list[str], folder: Path) -> None:
    """Plain curl, one file after the other."""
    _curl(addresses, folder)


def curl_parallel(addresses: list[str], folder: Path) -> None:
    """curl with as many transfers at once as ours."""
    _curl(addresses, folder, "--parallel", "--parallel-max", str(_CONCURRENCY))


def _curl(addresses: list[str], folder: Path, *options: str) -> None:
    listed = folder.with_suffix(".txt")
    listed.write_text("".join(f'url = "{address}"\nremote-name\n' for address in addresses))
    command = ["curl", "-s", "--no-progress-meter", "--fail", *options, "--output-dir", folder, "-K", listed]
    subprocess.run(list(map(str, command)), check=True)


def ours(settings: Settings) -> Contender:
    """Our fetching: paced by host, hashed, checked, into the media store."""

    def fetch(addresses: list[str], folder: Path) -> None:
        here = settings.model_copy(update={"home": folder})
        fetcher, store = Fetcher(here), open_store(here)
        empty = dict.fromkeys(("expected_bytes", "expected_sha256", "expected_md5", "subtitles", "language"))

        def one(address: str, number: int) -> str:
            got = fetcher.fetch({"source_uri": address, **empty})
            assert got.sha256 is not None
            store.adopt_file(f"videos/{got.sha256}{got.suffix}", got.path, got.sha256)
            fetcher.forget(address)
            return address

        done = list(run_paced(addresses, host_of, one, paces(_CONCURRENCY, 0.0, {}), _CONCURRENCY))
        assert len(done) == len(addresses)

    return fetch


def aws_cp(s3: S3Settings) -> Contender:
    """`aws s3 cp --recursive`, with its own defaults."""

    def copy(addresses: list[str], folder: Path) -> None:
        keys = {"AWS_ACCESS_KEY_ID": s3.access_key_id or "", "AWS_SECRET_ACCESS_KEY": s3.secret_access_key or ""}
        command = ["aws", "--endpoint-url", s3.endpoint_url or "", "s3", "cp", "--recursive", "--quiet"]
        source = addresses[0].rpartition("/")[0] + "/"
        subprocess.run([*command, source, str(folder)], check=True, env={**os.environ, **keys})

    return copy


def boto3_threads(s3: S3Settings) -> Contender:
    """boto3's download_file in as many threads as ours."""

    def copy(addresses: list[str], folder: Path) -> None:
        client = s3_client(s3, max_pool_connections=_CONCURRENCY)
        with ThreadPoolExecutor(_CONCURRENCY) as pool:
            list(
                pool.map(
                    lambda a: client.download_file("internvid", a.split("/", 3)[3], str(folder / a.rpartition("/")[2])),
                    addresses,
                )
            )

    return copy


def compare(contenders: dict[str, Contender], addresses: list[str], num_bytes: int, rounds: int, baseline: str) -> None:
    """Print each contender's median goodput, CPU seconds, and ratio to the baseline of the same round."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            with tempfile.TemporaryDirectory(dir=os.environ.get("INTERNVID_BENCH_FOLDER")) as parent:
                folder = Path(parent) / "out"
                folder.mkdir()
                began, used = time.perf_counter(), _cpu_seconds()
                contender(addresses, folder)
                seconds[name].append(time.perf_counter() - began)
                cpu[name].append(_cpu_seconds() - used)
                got = sum(path.stat().st_size for path in folder.rglob("*.mp4"))
                assert got == num_bytes, f"{name} brought {got} of {num_bytes} bytes"
    print(f"{'contender':<16}{'MiB/s':>8}{'CPU s':>8}{'x ' + baseline:>16}")
    for name, found in seconds.items():
        ratio = statistics.median(base / own for base, own in zip(seconds[baseline], found, strict=True))
        rate = num_bytes / 2**20 / statistics.median(found)
        print(f"{name:<16}{rate:>8.0f}{statistics.median(cpu[name]):>8.2f}{ratio:>16.2f}")


def _cpu_seconds() -> float:
    """Of this process and of its ended children."""
    return sum(
        u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def bench_http(files: int, mib: float, rounds: int) -> None:
    """Files of a local HTTP server in a process of its own."""
    from tests.servers import free_ports, wait_for_port

    with tempfile.TemporaryDirectory() as name:
        num_bytes = write_files(Path(name) / "in", files, mib)
        [port] = free_ports(1)
        server = subprocess.Popen([sys.executable, "-m", "bench.ingest", "serve", f"{name}/in", str(port)])
        try:
            wait_for_port(port, server)
            addresses = [f"http://127.0.0.1:{port}/{number}.mp4" for number in range(files)]
            contenders = {"curl": curl, "curl_parallel": curl_parallel, "ours": ours(_settings())}
            compare(contenders, addresses, num_bytes, rounds, "curl")
        finally:
            server.terminate()
            server.wait()


def bench_s3(files: int, mib: float, rounds: int) -> None:
    """Objects of a local SeaweedFS."""
    from tests.servers import s3_server

    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as data, s3_server(Path(data)) as s3:
        num_bytes = write_files(Path(name) / "in", files, mib)
        client = s3_client(s3)
        for path in (Path(name) / "in").iterdir():
            client.upload_file(str(path), "internvid", f"bench/{path.name}")
        addresses = [f"s3://internvid/bench/{number}.mp4" for number in range(files)]
        contenders: dict[str, Contender] = {"boto3": boto3_threads(s3), "ours": ours(_settings(s3=s3))}
        if shutil.which("aws"):
            contenders = {"aws_s3_cp": aws_cp(s3), **contenders}
        compare(contenders, addresses, num_bytes, rounds, "boto3")


def _settings(**more: S3Settings) -> Settings:
    return Settings(fetch=FetchSettings(concurrency=_CONCURRENCY, per_host=_CONCURRENCY), **more)


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Print how long the block took."""
    began = time.perf_counter()
    yield
    print(f"{name:<44}{time.perf_counter() - began:8.2f} s", flush=True)


def bench_ledger(items: int) -> None:
    """A ledger made by SQL, batches of 2,048, one in twenty not held; each question twice, the second is told."""
    with tempfile.TemporaryDirectory() as name:
        lake = Lake(Settings(home=Path(name)))
        given = (
            f"(select format('batch_{{:06d}}_bench', i // 2048) as batch, 'https://example.org/' || md5(i::varchar) as source_uri, "
            f"(hash(i) % 100)::integer as draw, i from range({items}) as t(i))"
        )
        lake.connection.execute(f"insert into videos.sources by name select batch, source_uri from {given}")
        lake.connection.execute(
            "insert into videos.items by name select batch, source_uri, case when draw < 95 then 'held' when draw < 97 then "
            "'gone' when draw < 99 then 'retryable' else 'refused' end as state, case when draw < 95 then null when draw < 97 "
            "then 'not_found' when draw < 99 then ['timeout', 'rate_limited'][1 + i % 2] else 'too_short' end as failure, "
            "1 as num_attempts, now() as tried_at, case when draw >= 95 then now() end as failing_since, case when draw in "
            f"(97, 98) then now() + interval 1 hour end as next_retry_at from {given}"
        )
        print(f"{items} items, {lake.value('select count(distinct batch) from videos.items')} batches")
        for question, ask in {
            "states and classes (internvid status)": lambda: summary(lake),
            "batches with due items (sensor)": lambda: due_batches(lake, utc_now()),
            "what is gone since when (availability)": lambda: availability_lines(lake),
        }.items():
            ask()
            with timed(question):
                ask()
        lake.close()


def bench_manifest(rows: int) -> None:
    """A JSON lines manifest into batches of 2,048, new and then all known."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "list.jsonl"
        with path.open("w") as file:
            for number in range(rows):
                row = {
                    "url": f"https://example.org/videos/{number:08d}.mp4",
                    "title": f"Video {number}",
                    "tags": ["a", "b"],
                }
                file.write(json.dumps(row) + "\n")
        settings = Settings(home=Path(name) / "home")
        with timed(f"reading {rows} rows"):
            assert sum(1 for _ in discover([path], settings)) == rows
        lake = Lake(settings)
        open_batches(lake, [Source("/first")], 2048)
        before = _peak_mib()
        for what in ("new", "known"):
            with timed(f"{rows} {what} sources into batches"):
                open_batches(lake, discover([path], settings), 2048)
        print(f"peak memory {_peak_mib():.0f} MiB, {before:.0f} before")
        lake.close()


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    """Run the benchmark that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["http", "s3", "ledger", "manifest", "serve"])
    parser.add_argument("rest", nargs="*")
    parser.add_argument("--files", type=int, default=48)
    parser.add_argument("--mib", type=float, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--items", type=int, default=7_000_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    given = parser.parse_args()
    if given.what == "serve":
        serve(*given.rest)
    elif given.what in ("http", "s3"):
        {"http": bench_http, "s3": bench_s3}[given.what](given.files, given.mib, given.rounds)
    elif given.what == "ledger":
        bench_ledger(given.items)
    else:
        bench_manifest(given.rows)


if __name__ == "__main__":
    main()
