"""Real servers for tests and benchmarks: PostgreSQL and an S3 server, each started for as long as it is wanted."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from internvid_assets.settings import LakeSettings, S3Settings, Settings


def free_ports(count: int) -> list[int]:
    """Distinct TCP ports that nobody listens on right now."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def wait_for_port(port: int, process: subprocess.Popen, seconds: float = 60.0) -> None:
    """Return when the port accepts connections; fail when the process ended or the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"{process.args} did not listen on port {port} within {seconds} s")


@contextmanager
def postgres_server() -> Iterator[str]:
    """A PostgreSQL server of its own; gives a libpq string without a database name.

    Its folder is not pytest's: another pytest that starts meanwhile would close that to the server's user.
    """
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        raise RuntimeError("PostgreSQL's server is not installed: `make test` installs it")
    identity = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="internvid-postgres-") as name:
        folder = Path(name)
        if identity:
            owner = pwd.getpwnam("postgres")
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        data, [port] = folder / "data", free_ports(1)
        initdb = [binaries[-1] / "initdb", "-D", data, "-U", "internvid", "--auth=trust", "--no-sync", "-E", "UTF8"]
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder, **identity)
        server = subprocess.Popen(
            [binaries[-1] / "postgres", "-D", data, "-p", str(port), "-k", folder, "-h", "127.0.0.1", "-F"],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **identity,
        )
        try:
            wait_for_port(port, server)
            _wait_for_database(f"host=127.0.0.1 port={port} user=internvid")
            yield f"host=127.0.0.1 port={port} user=internvid"
        finally:
            server.terminate()
            server.wait(timeout=30)


def _wait_for_database(server: str, seconds: float = 60.0) -> None:
    """A server that listens may still be starting up."""
    import psycopg2

    deadline = time.monotonic() + seconds
    while True:
        try:
            psycopg2.connect(f"{server} dbname=postgres").close()
            return
        except psycopg2.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


_WEED_PORTS = (
    "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc", "s3.port.grpc",
)  # fmt: skip


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Settings]:
    """A real S3 server (SeaweedFS) with credentials and the bucket `internvid`, its data in the folder."""
    weed = shutil.which("weed") or str(Path(sys.executable).parent / "weed")
    port, *others = free_ports(1 + len(_WEED_PORTS))
    ports = dict(zip(_WEED_PORTS, map(str, others), strict=True))
    server = subprocess.Popen(
        [weed, "server", "-s3", "-filer", f"-dir={folder}", f"-s3.port={port}", "-ip=127.0.0.1", "-volume.max=50",
         "-master.volumeSizeLimitMB=64", "-s3.port.lance=0", "-s3.port.iceberg=0",
         *[f"-{name}={value}" for name, value in ports.items()]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    settings = S3Settings(endpoint_url=f"http://127.0.0.1:{port}", access_key_id="any", secret_access_key="any")
    try:
        wait_for_port(port, server)
        _create_bucket(settings, "internvid")
        yield settings
    finally:
        server.kill()  # nothing of it is kept, and a gentle end takes half a minute
        server.wait(timeout=60)


def _create_bucket(settings: S3Settings, bucket: str) -> None:
    from internvid_assets.store import S3Store

    client = S3Store(f"s3://{bucket}", settings, Path("unused")).client
    deadline = time.monotonic() + 30
    while True:
        try:
            client.create_bucket(Bucket=bucket)
            client.put_object(Bucket=bucket, Key="ready", Body=b"ready")
            return
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def cluster(server: str, s3: S3Settings, name: str, home: Path) -> Settings:
    """Settings of a lake on both servers, with a database and a prefix of its own."""
    import psycopg2

    connection = psycopg2.connect(f"{server} dbname=postgres")
    connection.autocommit = True
    connection.cursor().execute(f"create database {name}")
    connection.close()
    return Settings(
        home=home,
        media_root=f"s3://internvid/{name}/media",
        s3=s3,
        lake=LakeSettings(catalog=f"postgres:{server} dbname={name}", data_path=f"s3://internvid/{name}/lake"),
    )
