"""Objects are immutable and appear whole, in a folder and in S3."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from internvid_assets.settings import Settings
from internvid_assets.store import ObjectConflict, ObjectStore, open_store


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return open_store(settings)


def test_put_and_get(store: ObjectStore) -> None:
    store.put_bytes("a/b.txt", b"hello")
    assert store.get_bytes("a/b.txt") == b"hello"
    assert store.exists("a/b.txt") and not store.exists("a/c.txt")
    assert list(store.keys("a/")) == ["a/b.txt"]


def test_same_bytes_again_are_fine_other_bytes_are_refused(store: ObjectStore) -> None:
    store.put_bytes("k", b"one")
    store.put_bytes("k", b"one")
    with pytest.raises(ObjectConflict, match="already holds other bytes"):
        store.put_bytes("k", b"two")
    assert store.get_bytes("k") == b"one"


def test_racing_writers_one_wins(store: ObjectStore) -> None:
    def put(number: int) -> bool:
        try:
            store.put_bytes("race", bytes([number]))
            return True
        except ObjectConflict:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(put, range(8))) == 1


def test_folder_round_trip(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "in/deep/er").mkdir(parents=True)
    (tmp_path / "in/top.txt").write_text("top")
    (tmp_path / "in/deep/er/leaf.txt").write_text("leaf")
    store.put_folder("folder", tmp_path / "in")
    got = store.local_folder("folder")
    assert (got / "deep/er/leaf.txt").read_text() == "leaf"
    assert (got / "top.txt").read_text() == "top"


def test_missing_object_is_named(store: ObjectStore) -> None:
    with pytest.raises(FileNotFoundError, match="nothing/here"):
        store.local_path("nothing/here")
    with pytest.raises(FileNotFoundError, match="nothing"):
        store.local_folder("nothing")


def test_delete(store: ObjectStore) -> None:
    store.put_bytes("gone", b"x")
    store.local_path("gone")
    store.delete("gone")
    store.delete("gone")
    assert not store.exists("gone")
    with pytest.raises(FileNotFoundError):
        store.local_path("gone")


@pytest.mark.parametrize("key", ["", "/etc/passwd", "a/../../b"])
def test_keys_stay_under_the_root(store: ObjectStore, key: str) -> None:
    with pytest.raises(ValueError, match="relative"):
        store.put_bytes(key, b"x")
