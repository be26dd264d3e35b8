"""Paid answers on their way into the lake: kept as small objects until their rows are stored, so that a killed process
never pays twice."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from internvid_assets.store import ObjectStore

FLUSH_SECONDS = 1.0


class AnswerLog:
    """The answers of one step of one batch by one version, by request; use it as a context manager.

    Answers are written to the store within `FLUSH_SECONDS` and a write; they are read back when the log is opened again,
    and given up when their clip's row is stored (`settle`). Only unsettled answers are held, in memory and in the store.
    """

    def __init__(self, store: ObjectStore, prefix: str, flush_seconds: float = FLUSH_SECONDS):
        self._store, self._prefix, self._flush_seconds = store, prefix, flush_seconds
        self._held: dict[str, dict[str, dict[str, Any]]] = {}  # clip id -> request key -> answer
        self._fresh: list[tuple[str, str, dict[str, Any]]] = []
        self._segments: set[str] = set()
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._closed = threading.Event()
        self._flusher = threading.Thread(target=self._flush_often, daemon=True, name="answer-log")
        self._error: Exception | None = None

    def __enter__(self) -> AnswerLog:
        for segment in self._store.keys(f"{self._prefix}/"):
            self._segments.add(segment)
            for line in self._store.get_bytes(segment).decode().splitlines():
                clip_id, key, answer = json.loads(line)
                self._held.setdefault(clip_id, {})[key] = answer
        self._flusher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._flusher.join()
        self._flush()

    def get(self, clip_id: str, key: str) -> dict[str, Any] | None:
        """The answer to a request, if it has arrived before."""
        with self._lock:
            return self._held.get(clip_id, {}).get(key)

    def put(self, clip_id: str, key: str, answer: dict[str, Any]) -> None:
        """Keep an answer. Raises: the store's error when earlier answers could not be written."""
        if self._error is not None:
            raise self._error
        with self._lock:
            self._held.setdefault(clip_id, {})[key] = answer
            self._fresh.append((clip_id, key, answer))

    def settle(self, clip_ids: Iterable[str]) -> None:
        """Give up the answers of clips whose rows are stored; what remains goes into one segment in place of all."""
        with self._writing:
            with self._lock:
                for clip_id in clip_ids:
                    self._held.pop(clip_id, None)
                rest = [(clip_id, key, answer) for clip_id, held in self._held.items() for key, answer in held.items()]
                self._fresh = []
            old = set(self._segments)
            self._write(rest)
            for segment in old:
                self._store.delete(segment)
            self._segments -= old

    def _flush_often(self) -> None:
        while not self._closed.wait(self._flush_seconds):
            try:
                self._flush()
            except Exception as error:  # handed to the next `put`: this thread has no caller
                self._error = error
                return

    def _flush(self) -> None:
        with self._writing:
            with self._lock:
                fresh, self._fresh = self._fresh, []
            self._write(fresh)

    def _write(self, answers: list[tuple[str, str, dict[str, Any]]]) -> None:
        """One segment of the answers; those that the store refuses are written with the next."""
        if not answers:
            return
        segment = f"{self._prefix}/{uuid.uuid4().hex}.jsonl"
        try:
            self._store.put_bytes(segment, "".join(json.dumps(answer) + "\n" for answer in answers).encode())
        except Exception:
            with self._lock:
                self._fresh = answers + self._fresh
            raise
        self._segments.add(segment)
