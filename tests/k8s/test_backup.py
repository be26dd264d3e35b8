"""Backup and restore as the chart's pods do them, on a real PostgreSQL and a real S3 server."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from internvid_assets.errors import UsageError
from internvid_assets.lake import Append, Lake, Write
from internvid_assets.lake.backup import fetch_dumps, main, stamps, store_dumps
from internvid_assets.settings import LakeSettings, S3Settings, Settings
from internvid_assets.store import LocalStore, open_store
from tests.k8s.charts import find, render
from tests.k8s.conftest import PASSWORD, binaries

NOW = datetime(2026, 11, 26, 1, 30, tzinfo=UTC)


def dump(folder: Path, text: str = "rows") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "lake.dump").write_text(text)
    return folder


def test_the_newest_backups_stay(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "media")
    for day in range(4):
        stamp, gone = store_dumps(store, dump(tmp_path / "dumps", str(day)), 2, NOW + timedelta(days=day))
    assert (stamp, gone) == ("20261129T013000Z", ["20261127T013000Z"])
    assert stamps(store) == ["20261128T013000Z", "20261129T013000Z"]
    [file] = fetch_dumps(store, stamp, tmp_path / "back")
    assert file.read_text() == "3"


@pytest.mark.parametrize("text", [None, ""])
def test_a_dump_that_failed_costs_no_older_backup(tmp_path: Path, text: str | None) -> None:
    store = LocalStore(tmp_path / "media")
    store_dumps(store, dump(tmp_path / "dumps"), 1, NOW)
    empty = tmp_path / "empty"
    empty.mkdir()
    if text is not None:
        dump(empty, text)
    with pytest.raises(UsageError, match="no older backup was forgotten"):
        store_dumps(store, empty, 1, NOW + timedelta(days=1))
    assert stamps(store) == ["20261126T013000Z"]


def test_a_stamp_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "media")
    store_dumps(store, dump(tmp_path / "dumps"), 1, NOW)
    with pytest.raises(UsageError, match="there are 20261126T013000Z"):
        fetch_dumps(store, "2025", tmp_path / "back")


def test_wrong_use_ends_with_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("INTERNVID_HOME", str(tmp_path))
    assert main(["store", str(tmp_path), "--keep=0"]) == 2
    assert main(["fetch", "2025", str(tmp_path)]) == 2
    assert "--keep 0" in capsys.readouterr().err


def run_container(container: dict[str, Any], server: dict[str, Any], dumps: Path) -> None:
    """A container of the chart's, with this machine's server and folders."""
    here = {"PGHOST": server["hostname"], "PGPORT": str(server["port"]), "PGSSLMODE": "disable", "PGPASSWORD": PASSWORD}
    given = {e["name"]: e["value"] for e in container.get("env", []) if "value" in e}
    command = [part.replace("/dumps", str(dumps)) for part in (*container["command"], *container["args"])]
    if command[0] == "python":
        assert main(command[3:]) == 0
    else:
        ended = subprocess.run(
            [str(binaries() / command[0]), *command[1:]], env={**os.environ, **given, **here}, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr


def test_a_lost_catalog_comes_back(
    tmp_path: Path, postgres_with_password: dict[str, Any], s3_server: S3Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, media = postgres_with_password, "s3://internvid/backup-test/media"
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    address = f"postgres:host=127.0.0.1 port={server['port']} user=internvid dbname=lake"
    settings = Settings(
        home=tmp_path / "home", media_root=media, s3=s3_server,
        lake=LakeSettings(catalog=address, data_path="s3://internvid/backup-test/lake"),
    )  # fmt: skip
    for name in ("access_key_id", "secret_access_key", "endpoint_url"):
        monkeypatch.setenv(f"INTERNVID_S3__{name.upper()}", getattr(s3_server, name))
    monkeypatch.setenv("INTERNVID_MEDIA_ROOT", media)
    monkeypatch.setenv("INTERNVID_HOME", str(tmp_path / "home"))
    write(settings, "kept")
    documents = render("everything")
    spec = find(documents, "CronJob", "backup")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (tmp_path / "dumps").mkdir()
    for container in (*spec["initContainers"], *spec["containers"]):
        run_container(container, server, tmp_path / "dumps")
    write(settings, "after the backup")
    [stamp] = stamps(open_store(settings))

    spec = find(render("everything", f"backup.restore={stamp}"), "Job", f"restore-{stamp.lower()}")["spec"]["template"][
        "spec"
    ]
    for container in (*spec["initContainers"], *spec["containers"]):
        run_container(container, server, tmp_path / "back")
    lake = Lake(settings)
    assert [row["source_uri"] for row in lake.rows("select source_uri from videos.sources")] == ["kept"]
    lake.close()


def write(settings: Settings, name: str) -> None:
    lake = Lake(settings)
    row = lake.to_arrow("videos.sources", [{"batch": "b", "source_uri": name}])
    lake.commit(Write("videos.sources", "run"), [Append("videos.sources", row, ("source_uri",))])
    lake.close()
