"""The lake keeps its promises in both storage modes: whole commits, no doubled rows, no needless changes."""

from __future__ import annotations

import multiprocessing
import signal

import pytest

from internvid_assets.lake import Append, CreateAs, Lake, LakeError, Replace, Write
from internvid_assets.settings import LakeSettings, Settings

KEY = ("clip_id", "captioner", "captioner_version")


def caption(batch: str, clip_id: str, version: str = "v1", text: str = "a cat") -> dict:
    return {"batch": batch, "clip_id": clip_id, "captioner": "embedded", "captioner_version": version, "text": text,
            "num_words": 2}  # fmt: skip


def write(asset: str = "captions.captions", **more) -> Write:
    return Write(asset=asset, run_id="test", **more)


def replace(lake: Lake, batch: str, rows: list[dict]) -> Replace:
    return Replace("captions.captions", lake.to_arrow("captions.captions", rows), f"batch = '{batch}'")


def test_replacing_a_partition_leaves_the_others(lake: Lake) -> None:
    lake.commit(
        write(), [replace(lake, "a", [caption("a", "1"), caption("a", "2")]), replace(lake, "b", [caption("b", "3")])]
    )
    lake.commit(write(), [replace(lake, "a", [caption("a", "9")])])
    assert [r["clip_id"] for r in lake.rows("select clip_id from captions.captions order by 1")] == ["3", "9"]


def test_the_same_content_again_changes_nothing(lake: Lake) -> None:
    first = lake.commit(write(), [replace(lake, "a", [caption("a", "1"), caption("a", "2")])])
    again = lake.commit(write(), [replace(lake, "a", [caption("a", "2"), caption("a", "1")])])
    changes = lake.value(
        f"select count(*) from ducklake_table_changes('lake', 'captions', 'captions', {first.snapshot_id + 1}, {again.snapshot_id})"
    )
    assert (first.changed, again.changed, changes) == (True, False, 0)


def test_equality_sees_doubled_rows(lake: Lake) -> None:
    lake.commit(write(), [replace(lake, "a", [caption("a", "1")])])
    assert lake.commit(write(), [replace(lake, "a", [caption("a", "1"), caption("a", "1")])]).changed


def test_append_adds_only_missing_keys_and_keeps_old_texts(lake: Lake) -> None:
    rows = lake.to_arrow("captions.captions", [caption("a", "1")])
    newer = lake.to_arrow("captions.captions", [caption("a", "1", text="other words"), caption("a", "1", "v2")])
    assert lake.commit(write(), [Append("captions.captions", rows, KEY)]).changed
    assert lake.commit(write(), [Append("captions.captions", newer, KEY)]).changed
    assert not lake.commit(write(), [Append("captions.captions", newer, KEY)]).changed
    held = lake.rows("select captioner_version, text from captions.captions order by 1")
    assert held == [{"captioner_version": "v1", "text": "a cat"}, {"captioner_version": "v2", "text": "a cat"}]


def test_a_failing_change_undoes_the_whole_commit(lake: Lake) -> None:
    good = replace(lake, "a", [caption("a", "1")])
    with pytest.raises(Exception, match="no_such_column"):
        lake.commit(write(), [good, CreateAs("subsets.broken", "select no_such_column from captions.captions")])
    assert lake.value("select count(*) from captions.captions") == 0
    assert lake.value("select count(*) from lineage.materializations") == 0


def test_lineage_row_lies_in_the_same_snapshot(lake: Lake) -> None:
    seen = lake.snapshot_id()
    commit = lake.commit(
        write(partition="a", read_snapshot_id=seen, inputs=[("clips.clips", "a")], code_version="7", num_in=3, num_out=1,
              drops={"refused": 2}),
        [replace(lake, "a", [caption("a", "1")])],
    )  # fmt: skip
    row = lake.rows("select * from lineage.materializations")[0]
    inputs = lake.rows("select input, input_partition, snapshot_id from lineage.inputs")
    author = lake.value(f"select author from lake.snapshots() where snapshot_id = {commit.snapshot_id}")
    assert (row["asset"], row["partition_key"], row["code_version"]) == ("captions.captions", "a", "7")
    assert (row["num_in"], row["num_out"], dict(row["drops"]), row["changed"]) == (3, 1, {"refused": 2}, True)
    assert inputs == [{"input": "clips.clips", "input_partition": "a", "snapshot_id": seen}]
    assert author == "test"


def test_a_model_table_is_made_once_and_follows_its_columns(lake: Lake) -> None:
    lake.commit(write(), [replace(lake, "a", [caption("a", "1")])])
    model = CreateAs("subsets.model", "select clip_id from captions.captions")
    wider = CreateAs("subsets.model", "select clip_id, text from captions.captions")
    assert [lake.commit(write("subsets.model"), [m]).changed for m in (model, model, wider)] == [True, False, True]


def test_a_home_of_an_earlier_version_gets_the_new_columns(lake: Lake, settings: Settings) -> None:
    lake.commit(write(), [replace(lake, "a", [caption("a", "1")])])
    lake.connection.execute("alter table captions.captions drop column num_words")
    lake.close()
    newer = Lake(settings)
    assert newer.rows("select clip_id, num_words from captions.captions") == [{"clip_id": "1", "num_words": None}]


def test_unknown_column_is_named(lake: Lake) -> None:
    with pytest.raises(ValueError, match=r"captions\.captions has no columns \['words'\]"):
        lake.to_arrow("captions.captions", [{"words": 1}])


def _append_many(settings: Settings, worker: int, count: int) -> None:
    lake = Lake(settings)
    for number in range(count):
        rows = lake.to_arrow("captions.captions", [caption(f"w{worker}", f"{worker}-{number}-{i}") for i in range(5)])
        lake.commit(write(partition=f"w{worker}"), [Append("captions.captions", rows, KEY)])
    lake.close()


def test_two_processes_commit_at_once_without_loss(lake: Lake, settings: Settings) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append_many, args=(settings, worker, 12)) for worker in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=240)
    assert [worker.exitcode for worker in workers] == [0, 0]
    held = lake.rows("select count(*) as n, count(distinct clip_id) as distinct_n from captions.captions")[0]
    assert (held["n"], held["distinct_n"]) == (120, 120)
    assert lake.value("select count(*) from lineage.materializations") == 24


def _append_same(settings: Settings, count: int) -> None:
    lake = Lake(settings)
    for number in range(count):
        rows = lake.to_arrow("captions.captions", [caption("b", f"{number}-{i}") for i in range(5)])
        lake.commit(write(partition="b"), [Append("captions.captions", rows, KEY)])
    lake.close()


def test_two_processes_that_append_the_same_keys_store_them_once(lake: Lake, settings: Settings) -> None:
    lake.connection  # noqa: B018  (the tables are there before the race)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append_same, args=(settings, 12)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=240)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    held = lake.rows("select count(*) as n, count(distinct clip_id) as distinct_n from captions.captions")[0]
    assert (held["n"], held["distinct_n"]) == (60, 60)


def test_a_killed_writer_leaves_whole_commits(lake: Lake, settings: Settings) -> None:
    """The writer dies by SIGKILL after some commits; every visible commit is whole and has its lineage row."""
    context = multiprocessing.get_context("spawn")
    worker = context.Process(target=_append_many, args=(settings, 0, 10_000))
    worker.start()
    while lake.value("select count(*) from lineage.materializations") < 3:
        assert worker.is_alive()
    worker.kill()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    rows = lake.value("select count(*) from captions.captions")
    assert rows == 5 * lake.value("select count(*) from lineage.materializations")
    _append_many(settings, 0, 4)
    assert lake.value("select count(*) - count(distinct clip_id) from captions.captions") == 0


def test_an_unreachable_catalog_says_where(tmp_path) -> None:
    settings = Settings(
        home=tmp_path,
        lake=LakeSettings(catalog="postgres:host=127.0.0.1 port=1 user=nobody dbname=none", max_retries=0),
    )
    with pytest.raises(LakeError, match=r"lake\.catalog"):
        Lake(settings).snapshot_id()


def test_sql_keeps_to_its_memory_and_spills_into_a_folder_of_its_own(tmp_path) -> None:
    settings = Settings(home=tmp_path, lake=LakeSettings(memory_limit_mib=512))
    lake, other = Lake(settings), Lake(settings)
    assert lake.value("select current_setting('memory_limit')") == "512.0 MiB"
    folders = [each.value("select current_setting('temp_directory')") for each in (lake, other)]
    assert folders[0] != folders[1] and all(f.startswith(str(tmp_path / "cache" / "scratch")) for f in folders)
    lake.close()
    other.close()
