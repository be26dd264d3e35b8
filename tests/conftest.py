"""A fresh home, and real servers, for every test that wants them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from internvid_assets.lake import Lake
from internvid_assets.settings import S3Settings, Settings
from tests import servers

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell's background job ignores SIGINT; Dagster then ignores SIGTERM too, and so would every server that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL server; gives a libpq string without a database name."""
    with servers.postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Settings]:
    """An S3 server with the bucket `internvid`."""
    with servers.s3_server(tmp_path_factory.mktemp("s3")) as settings:
        yield settings


@pytest.fixture
def embedded_settings(tmp_path: Path) -> Settings:
    """The embedded default in a fresh home."""
    return Settings(home=tmp_path / "home")


@pytest.fixture
def cluster_settings(tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    """PostgreSQL catalog and S3 data, each test with a database and a prefix of its own."""
    server, s3 = request.getfixturevalue("postgres"), request.getfixturevalue("s3_server")
    return servers.cluster(server, s3, f"t{abs(hash(request.node.nodeid)) % 10**12}", tmp_path / "home")


@pytest.fixture(params=["embedded", "cluster"])
def settings(request: pytest.FixtureRequest) -> Settings:
    """Both storage modes, one after the other."""
    return request.getfixturevalue(f"{request.param}_settings")


@pytest.fixture
def lake(settings: Settings) -> Iterator[Lake]:
    """A lake in each storage mode."""
    lake = Lake(settings)
    yield lake
    lake.close()
