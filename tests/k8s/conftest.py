"""The Kubernetes API written down, and a PostgreSQL server that asks for a password, as the chart's does."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.k8s.recorded import RecordedApi, record
from tests.servers import free_ports, wait_for_port

PASSWORD = "p'w"


def binaries() -> Path:
    """The folder of PostgreSQL's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        pytest.fail("PostgreSQL's server is not installed: `make test` installs it")
    return found[-1]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> RecordedApi:
    """What the kubernetes client of this process asks for, answered here."""
    return record(monkeypatch)


@pytest.fixture(scope="session")
def password_server() -> Iterator[dict[str, Any]]:
    """Address of a server whose user `internvid` has `PASSWORD`; nobody gets in without."""
    identity = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="internvid-postgres-") as name:
        folder, [port] = Path(name), free_ports(1)
        (folder / "password").write_text(PASSWORD)
        if identity:
            owner = pwd.getpwnam("postgres")
            for path in (folder, folder / "password"):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        subprocess.run(
            [binaries() / "initdb", "-D", folder / "data", "-U", "internvid", "--auth=scram-sha-256", "--no-sync",
             f"--pwfile={folder / 'password'}", "-E", "UTF8"],
            check=True, capture_output=True, cwd=folder, **identity,
        )  # fmt: skip
        server = subprocess.Popen(
            [binaries() / "postgres", "-D", folder / "data", "-p", str(port), "-k", folder, "-h", "127.0.0.1", "-F"],
            cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **identity,
        )  # fmt: skip
        try:
            wait_for_port(port, server)
            yield {"hostname": "127.0.0.1", "port": port, "username": "internvid"}
        finally:
            server.terminate()
            server.wait(timeout=30)


@pytest.fixture
def postgres_with_password(password_server: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The same server with the two databases of a release, new and empty."""
    import psycopg2

    address = {"host": password_server["hostname"], "port": password_server["port"], "user": "internvid"}
    connection = psycopg2.connect(**address, password=PASSWORD, dbname="postgres")
    connection.autocommit = True
    for database in ("lake", "dagster"):
        connection.cursor().execute(f"drop database if exists {database} with (force)")
        connection.cursor().execute(f"create database {database}")
    connection.close()
    yield password_server
