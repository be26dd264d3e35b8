"""What a training on S3 leaves there: its newest whole states while it runs, its files when it is done.

The pods of such a training share no disk. The first node puts every new state under `training/NAME/state/` and finds the newest
one there when it starts again; a state counts once its list of hashes is there, which is written last.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from internvid_assets.lake.stage import short_hash
from internvid_assets.store import ObjectStore, file_sha256

BESIDE = ("identity.json", "metrics.jsonl", "broken.jsonl")
"""Files of the output folder that belong to a state."""
_WHOLE = "whole.json"
_KEPT = 2


def training_prefix(name: str) -> str:
    """Where a training `RUN_KEY-ROLE` keeps its things in the media store."""
    return f"training/{name}/"


def messages_prefix(name: str) -> str:
    """Where its messages to Dagster lie, when they go over S3."""
    return f"{training_prefix(name)}messages"


class StateMirror:
    """The states of one output folder on the media store."""

    def __init__(self, store: ObjectStore, name: str, output: Path):
        self._store, self._output = store, output
        self._prefix = f"{training_prefix(name)}state/"
        self._held: set[str] = set()

    def upload(self) -> None:
        """Put the newest state of the folder there, if it is not, and drop all but the two newest."""
        tags = _tags(self._output / "state")
        if not tags or tags[-1] in self._held:
            return
        with tempfile.TemporaryDirectory(dir=self._output) as copied:
            files = self._copied(tags[-1], Path(copied))
            if not files:
                return
            hashes = {path.name: file_sha256(path) for path in files}
            key = f"{self._prefix}{tags[-1]}/{short_hash(hashes)}"
            for path in files:
                self._store.put_file(f"{key}/{path.name}", path, hashes[path.name])
        self._store.put_bytes(f"{key}/{_WHOLE}", json.dumps(hashes, sort_keys=True).encode())
        self._held.add(tags[-1])
        for old in self._whole()[:-_KEPT]:
            _delete(self._store, f"{old}/")

    def fetch(self) -> str | None:
        """Make the folder hold the newest whole state of the store; its tag, None when there is none."""
        for key in reversed(self._whole()):
            tag = key.removeprefix(self._prefix).partition("/")[0]
            hashes = json.loads(self._store.get_bytes(f"{key}/{_WHOLE}"))
            paths = {name: self._store.local_path(f"{key}/{name}") for name in hashes}
            if any(file_sha256(path) != hashes[name] for name, path in paths.items()):
                continue
            shutil.rmtree(self._output / "state", ignore_errors=True)
            (self._output / "state" / tag).mkdir(parents=True)
            for name, path in paths.items():
                shutil.copyfile(path, self._output / (name if name in BESIDE else f"state/{tag}/{name}"))
            self._held.add(tag)
            return tag
        return None

    def _copied(self, tag: str, folder: Path) -> list[Path]:
        """The state's files, linked aside so that training may drop it, and copies of what grows beside it."""
        try:
            for path in (self._output / "state" / tag).iterdir():
                os.link(path, folder / path.name)
        except FileNotFoundError:  # dropped meanwhile: a newer one is there
            return []
        for name in BESIDE:
            if (self._output / name).exists():
                shutil.copyfile(self._output / name, folder / name)
        return sorted(folder.iterdir())

    def _whole(self) -> list[str]:
        """Keys of the whole states, oldest first."""
        return [k.removesuffix(f"/{_WHOLE}") for k in sorted(self._store.keys(self._prefix)) if k.endswith(_WHOLE)]


def is_finished(store: ObjectStore, name: str) -> bool:
    """Whether the files of a finished training are in the store."""
    return store.exists(f"{training_prefix(name)}output/run.json")


def put_outputs(store: ObjectStore, name: str, output: Path, files: Sequence[str]) -> None:
    """Store the files of a finished training; the last of `files` marks them whole."""
    prefix = f"{training_prefix(name)}output/"
    _delete(store, prefix)
    for file in files:
        store.put_file(f"{prefix}{file}", output / file)


def get_outputs(store: ObjectStore, name: str, output: Path, files: Sequence[str]) -> None:
    """Copy the files of a finished training into `output`."""
    output.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copyfile(store.local_path(f"{training_prefix(name)}output/{file}"), output / file)


def forget_messages(store: ObjectStore, name: str) -> None:
    """Drop the messages of an attempt that is over."""
    _delete(store, f"{messages_prefix(name)}/")


def forget(store: ObjectStore, name: str) -> None:
    """Drop what a training left, once its checkpoint is stored."""
    _delete(store, training_prefix(name))


def _delete(store: ObjectStore, prefix: str) -> None:
    for key in list(store.keys(prefix)):
        store.delete(key)


def _tags(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("stage*-step*"))
