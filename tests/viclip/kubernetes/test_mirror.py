"""States on the media store: only whole ones count, and the newest is taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from internvid_assets.settings import Settings
from internvid_assets.store import ObjectStore, open_store
from internvid_assets.viclip.kubernetes.mirror import (
    StateMirror,
    forget,
    get_outputs,
    is_finished,
    put_outputs,
    training_prefix,
)

NAME = "key-viclip"
STATES = f"{training_prefix(NAME)}state/"


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    """A folder, then S3."""
    return open_store(settings)


def save(output: Path, step: int, content: str | None = None) -> None:
    """As training saves: a folder renamed into place, beside its metrics."""
    folder = output / "state" / f"stage0-step{step:08d}"
    folder.mkdir(parents=True)
    (folder / "state.safetensors").write_text(content or f"weights {step}")
    (folder / "state.json").write_text(json.dumps({"num_updates": step}))
    (output / "identity.json").write_text("{}")
    with (output / "metrics.jsonl").open("a") as file:
        file.write(f"{step}\n")


def fetched(store: ObjectStore, output: Path) -> tuple[str | None, str, list[str]]:
    """What another pod with an empty disk finds: tag, weights, logged steps."""
    output.mkdir()
    tag = StateMirror(store, NAME, output).fetch()
    if tag is None:
        return None, "", []
    [folder] = (output / "state").iterdir()
    assert folder.name == tag and (output / "identity.json").exists()
    return tag, (folder / "state.safetensors").read_text(), (output / "metrics.jsonl").read_text().split()


def test_the_newest_state_comes_back_with_its_metrics(store: ObjectStore, tmp_path: Path) -> None:
    mirror = StateMirror(store, NAME, tmp_path / "run")
    for step in (1, 2, 3):
        save(tmp_path / "run", step)
        mirror.upload()
        mirror.upload()  # nothing new
    assert fetched(store, tmp_path / "other") == ("stage0-step00000003", "weights 3", ["1", "2", "3"])
    assert len([key for key in store.keys(STATES) if key.endswith("whole.json")]) == 2  # older ones are dropped
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["identity.json", "metrics.jsonl", "state"]


def test_a_state_that_is_not_whole_does_not_count(store: ObjectStore, tmp_path: Path) -> None:
    mirror = StateMirror(store, NAME, tmp_path / "run")
    save(tmp_path / "run", 1)
    mirror.upload()
    store.put_bytes(f"{STATES}stage0-step00000002/0123/state.safetensors", b"half")
    wrong = json.dumps({"state.safetensors": "not its hash"}).encode()
    store.put_bytes(f"{STATES}stage0-step00000003/0123/state.safetensors", b"torn")
    store.put_bytes(f"{STATES}stage0-step00000003/0123/whole.json", wrong)
    assert fetched(store, tmp_path / "other")[:2] == ("stage0-step00000001", "weights 1")


def test_a_step_that_was_done_again_differently_is_another_object(store: ObjectStore, tmp_path: Path) -> None:
    for name, content in (("first", "one"), ("second", "two")):
        save(tmp_path / name, 1, content)
        StateMirror(store, NAME, tmp_path / name).upload()
    assert fetched(store, tmp_path / "other")[1] in ("one", "two")


def test_nothing_is_fetched_where_nothing_is(store: ObjectStore, tmp_path: Path) -> None:
    assert fetched(store, tmp_path / "other") == (None, "", [])
    (tmp_path / "run").mkdir()
    StateMirror(store, NAME, tmp_path / "run").upload()
    assert list(store.keys(STATES)) == []


def test_results_are_there_when_the_last_file_is(store: ObjectStore, tmp_path: Path) -> None:
    files = ("model.safetensors", "run.json")
    for name in files:
        (tmp_path / name).write_text(name)
    store.put_bytes(f"{training_prefix(NAME)}output/model.safetensors", b"of an attempt that was lost")
    assert not is_finished(store, NAME)
    put_outputs(store, NAME, tmp_path, files)
    assert is_finished(store, NAME)
    get_outputs(store, NAME, tmp_path / "got", files)
    assert [(tmp_path / "got" / name).read_text() for name in files] == list(files)
    forget(store, NAME)
    assert list(store.keys("training/")) == []
