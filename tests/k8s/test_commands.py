"""The commands in the containers are commands of the programs that they name."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from dagster._cli import create_dagster_cli
from dagster._daemon.cli import create_dagster_daemon_cli
from dagster_webserver.cli import create_dagster_webserver_cli

from internvid_assets.settings import S3Settings
from internvid_assets.store import S3Store
from tests.k8s.charts import VARIANTS, find, render
from tests.k8s.lint import containers_of, pod_of
from tests.servers import free_ports, wait_for_port

PROGRAMS = {
    "dagster": create_dagster_cli,
    "dagster-daemon": create_dagster_daemon_cli,
    "dagster-webserver": create_dagster_webserver_cli,
}
OTHERS = {"python", "pg_dump", "pg_restore", "pg_isready", "weed"}
"""Run for real: in test_backup.py, and below."""


def parse(command: click.Command, arguments: list[str]) -> None:
    """As the program itself would. Raises: click.UsageError."""
    while isinstance(command, click.Group):
        with command.make_context("c", [*arguments], resilient_parsing=False) as context:
            name, found, arguments = command.resolve_command(context, [*context._protected_args, *context.args])
            assert found is not None, name
            command = found
    command.make_context("c", arguments)


def commands(documents: list[dict[str, Any]]) -> Iterator[list[str]]:
    """Of every container and every probe."""
    for pod in filter(None, map(pod_of, documents)):
        for container in containers_of(pod):
            if "command" in container:
                yield [*container["command"], *container.get("args", [])]
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if "exec" in container.get(probe, {}):
                    yield container[probe]["exec"]["command"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_command_parses(variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()
    for program, *arguments in commands(render(variant, "webserver.readOnly=true")):
        seen.add(program)
        assert program in PROGRAMS or program in OTHERS, program
        if program in PROGRAMS:
            arguments = [a.replace("/etc/internvid", str(tmp_path)) for a in arguments]
            (tmp_path / "workspace.yaml").touch()
            parse(PROGRAMS[program](), arguments)
    assert set(PROGRAMS) <= seen


def test_a_wrong_option_would_be_noticed() -> None:
    with pytest.raises(click.UsageError):
        parse(create_dagster_cli(), ["api", "grpc", "--prot=4000"])


@pytest.fixture
def trial_s3(tmp_path: Path) -> Iterator[S3Settings]:
    """The chart's S3 server by its own command, with keys of the Secret in its environment."""
    [container] = containers_of(pod_of(find(render("kind"), "StatefulSet", "s3")) or {})
    port, *others = free_ports(8)
    program = Path(sys.executable).with_name(container["command"][0])
    arguments = [a.replace("=8333", f"={port}").replace("/data", str(tmp_path)) for a in container["args"]]
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc", "s3.port.grpc")  # fmt: skip
    apart = [f"-{name}={other}" for name, other in zip(names, others, strict=True)]  # beside other tests' servers
    keys = {"AWS_ACCESS_KEY_ID": "trial", "AWS_SECRET_ACCESS_KEY": "secret"}
    assert {variable["name"] for variable in container["env"]} == set(keys)
    server = subprocess.Popen(
        [program, *arguments, *apart], env={**os.environ, **keys}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for_port(port, server)
        path = container["readinessProbe"]["httpGet"]["path"]
        deadline = time.monotonic() + 60
        while not answers(f"http://127.0.0.1:{port}{path}"):
            assert time.monotonic() < deadline, "the S3 server's probe does not answer"
            time.sleep(0.2)
        yield S3Settings(endpoint_url=f"http://127.0.0.1:{port}", access_key_id="trial", secret_access_key="secret")
    finally:
        server.kill()
        server.wait(timeout=60)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def test_the_trial_s_s3_server_keeps_what_the_keys_put_and_refuses_others(trial_s3: S3Settings, tmp_path: Path) -> None:
    from botocore.exceptions import ClientError

    deadline = time.monotonic() + 60
    store = S3Store("s3://internvid/media", trial_s3, tmp_path / "cache")
    while True:
        try:
            store.put_bytes("a/b", b"bytes")  # the bucket is made by this
            break
        except ClientError:
            assert time.monotonic() < deadline, "the first upload makes the bucket within a minute"
            time.sleep(0.5)
    assert S3Store("s3://internvid/media", trial_s3, tmp_path / "other").get_bytes("a/b") == b"bytes"
    stranger = trial_s3.model_copy(update={"secret_access_key": "guessed"})
    with pytest.raises(ClientError, match=r"SignatureDoesNotMatch|AccessDenied|403"):
        S3Store("s3://internvid/media", stranger, tmp_path / "third").get_bytes("a/b")
