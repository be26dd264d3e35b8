"""A run that is killed while it fetches goes on where it was, and ends as if it had not been killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from internvid_assets.lake import Lake
from internvid_assets.settings import Settings
from internvid_assets.store import open_store
from tests.servers import free_ports, wait_for_port
from tests.videos.homes import accounted_for, states, video_bytes

NUM_VIDEOS = 6
RUN = "from internvid_assets.cli import main; main()"


@pytest.mark.parametrize("num_done", [0, 2, 4])
def test_a_killed_fetch_asks_only_for_the_rest(tmp_path: Path, num_done: int) -> None:
    files, home, log = tmp_path / "files", tmp_path / "home", tmp_path / "log.jsonl"
    files.mkdir()
    for n in range(NUM_VIDEOS):
        (files / f"{n}.mp4").write_bytes(video_bytes(n, padding=100_000))
    sizes = {path.name: path.stat().st_size for path in files.iterdir()}
    [port] = free_ports(1)
    server = subprocess.Popen([sys.executable, "-m", "tests.videos.media_server", files, str(port), "100", log])
    try:
        wait_for_port(port, server)
        (tmp_path / "list.txt").write_text("".join(f"http://127.0.0.1:{port}/{n}.mp4\n" for n in range(NUM_VIDEOS)))
        _run_and_kill(tmp_path, home, num_done)
        waiting = _waiting(home)
        assert _run(tmp_path, home).wait() == 0
    finally:
        server.terminate()
        server.wait()
    lake = Lake(Settings(home=home))
    assert states(lake) == {f"{n}.mp4": ("held", None, 1) for n in range(NUM_VIDEOS)}
    accounted_for(lake)
    held = lake.rows("select media_key from videos.raw_videos")
    assert sorted(open_store(Settings(home=home)).keys("videos/")) == sorted(row["media_key"] for row in held)
    lake.close()
    _nothing_came_twice([json.loads(line) for line in log.read_text().splitlines()], waiting, sizes)
    assert not [path for path in (home / "cache" / "fetch").iterdir() if path.suffix != ".lock"]


def _run(folder: Path, home: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", RUN, "run", folder / "list.txt", "--home", home, "--until", "raw_videos"]
    environment = {
        "INTERNVID_FETCH__PER_HOST": "2", "INTERNVID_GATE__MIN_LINES": "16", "INTERNVID_FETCH__IDLE_SECONDS": "20",
    }  # fmt: skip
    return subprocess.Popen(list(map(str, command)), env={**os.environ, **environment}, start_new_session=True)


def _run_and_kill(folder: Path, home: Path, num_done: int) -> None:
    """Kill a run when so many files are done and another is in the middle."""
    process = _run(folder, home)
    while _journaled(home) < num_done or not any(20_000 < size < 90_000 for size in _waiting(home).values()):
        assert process.poll() is None
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _journaled(home: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in home.glob("cache/fetch/*.jsonl"))


def _waiting(home: Path) -> dict[str, int]:
    """Address to bytes, of what had come when the run was killed and can be gone on with."""
    found = {}
    for note in home.glob("cache/fetch/*/body.json"):
        with contextlib.suppress(FileNotFoundError):  # just done
            name = json.loads(note.read_text())["address"].rpartition("/")[2]
            found[name] = note.with_name("body").stat().st_size
    return found


def _nothing_came_twice(log: list[dict], waiting: dict[str, int], sizes: dict[str, int]) -> None:
    """Each file was asked for once, or once more from where it broke off."""
    asked = Counter(entry["path"].strip("/") for entry in log)
    for name, size in sizes.items():
        ranges = [entry["range"] for entry in log if entry["path"] == f"/{name}" and entry["range"]]
        if 0 < waiting.get(name, 0) < size:
            assert ranges == [f"bytes={waiting[name]}-"]
        assert asked[name] <= 2
    assert any(0 < num_bytes < sizes[name] for name, num_bytes in waiting.items()), "it was killed in the middle"
