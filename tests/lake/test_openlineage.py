"""Writes as OpenLineage events, by the standard client to a real HTTP server and to a file."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from internvid_assets.cli import main
from internvid_assets.lake import Lake, Write
from internvid_assets.lake.models import discover
from internvid_assets.settings import Settings
from internvid_assets.subsets.build import build_model
from tests.captions.homes import put

RUN = str(uuid.UUID(int=7))


@pytest.fixture
def catalog() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that takes events: its address, and what it was sent."""
    taken: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/api/v1/lineage"
            taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(201)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", taken
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def home(embedded_settings: Settings) -> Iterator[Lake]:
    """One write of clips with drops and costs, and one of a SQL model."""
    lake = Lake(embedded_settings)
    put(lake, "clips.clips", [{"batch": "b", "clip_id": "c", "video_id": "v"}])
    lake.connection.execute("delete from lineage.materializations")
    read = lake.snapshot_id()
    lake.commit(
        Write("clips.clips", RUN, "b", read, [("videos.raw_videos", "b")], "7", "cut", 3, 2, {"too_short": 1}, 4.0,
              {"cpu_seconds": 2.5}), []
    )  # fmt: skip
    matches, model = (next(m for m in discover() if m.name == name) for name in ("stg_matches", "stg_clips"))
    lake.connection.execute(f"create table {matches.table} as {matches.sql}")
    result = build_model(lake, model, embedded_settings)
    lake.commit(result.write(model.table, "by hand", None, read, [(ref, None) for ref in model.refs]), result.changes)
    yield lake
    lake.close()


def send(home: Lake, *options: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["openlineage", "--home", str(home.settings.home), *options])
    return ended.value.code or 0


def test_a_catalog_is_told_who_made_what_from_what(home: Lake, catalog: tuple[str, list[dict[str, Any]]]) -> None:
    url, taken = catalog
    assert send(home, "--url", url) == 0
    assert [(e["job"]["name"], e["eventType"]) for e in taken] == [
        ("clips.clips", "START"), ("clips.clips", "COMPLETE"),
        ("staging.stg_clips", "START"), ("staging.stg_clips", "COMPLETE"),
    ]  # fmt: skip
    start, end, _, model = taken
    took = datetime.fromisoformat(end["eventTime"]) - datetime.fromisoformat(start["eventTime"])
    assert timedelta(seconds=4) <= took < timedelta(seconds=60)
    assert start["run"]["runId"] == end["run"]["runId"] and end["run"]["facets"]["parent"]["run"]["runId"] == RUN
    write = end["run"]["facets"]["internvid_write"]
    assert (write["partition"], write["codeVersion"], write["configHash"]) == ("b", "7", "cut")
    assert (write["rowsIn"], write["drops"], write["costs"]) == (3, {"too_short": 1}, {"cpu_seconds": 2.5})
    [read], [made] = end["inputs"], end["outputs"]
    assert read["name"] == "videos.raw_videos" and int(read["facets"]["version"]["datasetVersion"]) >= 1
    assert made["outputFacets"]["outputStatistics"]["rowCount"] == 2
    assert {"name": "clip_id", "type": "string"}.items() <= made["facets"]["schema"]["fields"][1].items()
    assert "parent" not in model["run"]["facets"] and model["job"]["facets"]["jobType"]["jobType"] == "SQL"
    origin = model["outputs"][0]["facets"]["columnLineage"]["fields"]["clip_id"]["inputFields"]
    assert [(field["name"], field["field"]) for field in origin] == [("clips.clips", "clip_id")]


def test_repeated_events_have_the_same_ids_and_since_leaves_out(home: Lake, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    assert send(home, "--file", str(file)) == send(home, "--file", str(file)) == 0
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(events) == 8 and events[:4] == events[4:]
    tomorrow = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT%H:%M:%S}"
    assert send(home, "--file", str(tmp_path / "none.jsonl"), "--since", tomorrow) == 0
    assert not (tmp_path / "none.jsonl").exists()


def test_a_catalog_that_is_not_there_is_told(home: Lake, capsys, monkeypatch) -> None:
    monkeypatch.delenv("OPENLINEAGE_URL", raising=False)
    assert send(home) == 2
    assert "give --url or --file" in capsys.readouterr().err
    assert send(home, "--url", "http://127.0.0.1:9") == 1
    assert "took 0 events and then failed" in capsys.readouterr().err
