"""Paid answers survive until their rows are stored, and no longer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from internvid_assets.captions.answers import AnswerLog
from internvid_assets.settings import Settings
from internvid_assets.store import ObjectStore, open_store


def keys(store: ObjectStore) -> list[str]:
    return list(store.keys("answers/"))


def test_answers_are_read_back_until_they_are_settled(settings: Settings) -> None:
    store = open_store(settings)
    with AnswerLog(store, "answers/coarse/b") as log:
        log.put("clip1", "a", {"text": "one"})
        log.put("clip2", "b", {"text": "two"})
    with AnswerLog(store, "answers/coarse/b") as log:
        assert log.get("clip1", "a") == {"text": "one"} and log.get("clip1", "b") is None
        log.settle(["clip1"])
        assert log.get("clip1", "a") is None and log.get("clip2", "b") == {"text": "two"}
    with AnswerLog(store, "answers/coarse/b") as log:
        assert log.get("clip1", "a") is None and log.get("clip2", "b") == {"text": "two"}
        log.put("clip3", "c", {"text": "three"})
        log.settle(["clip2", "clip3"])
    assert keys(store) == []


def test_only_what_is_not_settled_is_held(embedded_settings: Settings) -> None:
    store = open_store(embedded_settings)
    with AnswerLog(store, "answers/coarse/b", flush_seconds=0.001) as log:
        for number in range(2000):
            log.put(f"clip{number}", "a", {"text": "x" * 100})
            if number % 50 == 49:
                log.settle(f"clip{n}" for n in range(number + 1))
        assert log._held == {}
    assert keys(store) == []


def test_what_the_store_refuses_is_told_and_written_with_the_next(
    embedded_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(embedded_settings)
    log, put_bytes = AnswerLog(store, "answers/coarse/b", flush_seconds=0.001), store.put_bytes
    refused = threading.Event()

    def refuse(key: str, data: bytes) -> None:
        refused.set()
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"), log:
        monkeypatch.setattr(store, "put_bytes", refuse)
        log.put("clip1", "a", {"text": "one"})
        refused.wait()
        log._flusher.join()
        monkeypatch.setattr(store, "put_bytes", put_bytes)
        log.put("clip2", "a", {"text": "two"})
    with AnswerLog(store, "answers/coarse/b") as again:
        assert again.get("clip1", "a") == {"text": "one"}


def test_another_batch_keeps_its_own(embedded_settings: Settings) -> None:
    store = open_store(embedded_settings)
    with AnswerLog(store, "answers/coarse/b1") as one, AnswerLog(store, "answers/coarse/b10") as other:
        one.put("clip", "a", {"text": "one"})
        other.put("clip", "a", {"text": "other"})
        one.settle(["clip"])
    assert [key.split("/")[2] for key in keys(store)] == ["b10"]


def test_an_answer_is_safe_soon_after_it_came(tmp_path: Path) -> None:
    program = f"""
import time
from pathlib import Path
from internvid_assets.captions.answers import AnswerLog
from internvid_assets.settings import Settings
from internvid_assets.store import open_store
with AnswerLog(open_store(Settings(home=Path({str(tmp_path)!r}))), "answers/coarse/b") as log:
    log.put("clip", "a", {{"text": "one"}})
    print("put", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "put\n"
    store, deadline = open_store(Settings(home=tmp_path)), time.monotonic() + 2.0
    while not keys(store) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with AnswerLog(store, "answers/coarse/b") as log:
        assert log.get("clip", "a") == {"text": "one"}
