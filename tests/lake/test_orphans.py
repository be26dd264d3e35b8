"""Objects that no table names are deleted after the grace period, and nothing else is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from internvid_assets.lake import Lake
from internvid_assets.lake.orphans import find_orphans, sweep
from internvid_assets.settings import Settings
from internvid_assets.store import ObjectStore, open_store
from tests.captions.homes import make_home, put

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(settings: Settings, lake: Lake) -> ObjectStore:
    """Two videos with packs, a release and shards that tables name, and things that have no table."""
    store = open_store(settings)
    make_home(lake, store, 2, 2)
    put(lake, "release.dataset_release", [{"release_id": "subset-1"}])
    put(lake, "release.training_shards", [{"shards_id": "s1"}])
    lake.connection.execute("update clips.clips set frame_pack_key = replace(frame_pack_key, 'packs/', 'frames/')")
    for key in ("frames/b/00000.tar", "frames/b/00001.tar", "releases/subset-1/data/a.parquet", "shards/s1/train-0.tar",
                "takedowns/t/receipt.json", "answers/coarse/a.jsonl"):  # fmt: skip
        store.put_bytes(key, key.encode())
    return store


def test_what_a_table_names_stays(lake: Lake, store: ObjectStore) -> None:
    before = sorted(store.keys())
    assert sweep(lake, store, keep_days=0) == {"orphans_found": 0, "orphans_deleted": 0}
    assert sorted(store.keys()) == before


def test_orphans_go_when_the_grace_period_is_over(lake: Lake, store: ObjectStore) -> None:
    orphans = ["frames/video00009/x.tar", "releases/torn-2/a.parquet", "shards/s2/a.tar", "videos/ab/abc.mp4"]
    for key in orphans:
        store.put_bytes(key, key.encode())
    before = set(store.keys())
    assert sorted(find_orphans(lake, store)) == orphans
    assert sweep(lake, store, 7, NOW) == {"orphans_found": 4, "orphans_deleted": 0}
    put(lake, "videos.raw_videos", [{"batch": "c", "video_id": "late", "media_key": "videos/ab/abc.mp4"}])
    assert sweep(lake, store, 7, NOW + timedelta(days=6.9)) == {"orphans_found": 3, "orphans_deleted": 0}
    lake.connection.execute(
        "delete from videos.raw_videos where video_id = 'late'"
    )  # found anew: the period begins again
    assert sweep(lake, store, 7, NOW + timedelta(days=7)) == {"orphans_found": 4, "orphans_deleted": 3}
    assert before - set(store.keys()) == set(orphans[:3])
    assert sweep(lake, store, 7, NOW + timedelta(days=14)) == {"orphans_found": 1, "orphans_deleted": 1}
    assert before - set(store.keys()) == set(orphans)
