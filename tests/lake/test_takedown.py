"""What was taken down is nowhere any more, stays out, and a killed takedown is completed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from internvid_assets.automation import forget_runs
from internvid_assets.captions.answers import AnswerLog
from internvid_assets.cli import main
from internvid_assets.clips.cut import cut_batch
from internvid_assets.clips.matches import match_batches
from internvid_assets.clips.packs import read_frame_pack
from internvid_assets.lake import CreateAs, Lake, Write
from internvid_assets.lake.catalog import _TABLES_SQL, SCHEMAS, _extension_path
from internvid_assets.lake.models import discover
from internvid_assets.lake.stage import StageResult
from internvid_assets.lake.tables import declared_tables
from internvid_assets.lake.takedown import Target, column_conditions, earlier_takedown, resolve, table_conditions
from internvid_assets.release import takedown as release_takedown
from internvid_assets.release.publish import build_shards, publish_release
from internvid_assets.release.takedown import Plan, carry_out, make_plan, unfinished
from internvid_assets.release.verify import torn_releases, torn_shards
from internvid_assets.settings import (
    ClipSettings,
    DuplicateSettings,
    GateSettings,
    ReleaseSettings,
    ScoreSettings,
    Settings,
    TrustSettings,
)
from internvid_assets.store import ObjectStore, file_sha256, open_store
from internvid_assets.subsets.build import build_model
from internvid_assets.videos.ingest import ingest_batch
from internvid_assets.videos.sources import discover as discover_sources
from internvid_assets.videos.sources import open_batches
from tests.captions.homes import make_home, put
from tests.media import ffmpeg, moving_pictures, write_shots, write_video
from training.data.shards import ShardManifest

RELEASE = ReleaseSettings(shard_size=6, shard_frames=2, shard_short_side=16, training_subset="internvid_10m",
                          release_subset="internvid_10m")  # fmt: skip
LENIENT = TrustSettings(max_repeated_share=1)
SECRETS = ("video00005", "/videos/5.mp4", "Title 5", "secret words of 5")
"""Of the greatest video: the catalog's column statistics name it too."""


def quiet(items, *_, **__):
    return items


def make(lake: Lake, store: ObjectStore, settings: Settings, cache: Path) -> None:
    """Six videos of four clips, with texts by two versions, subsets, a release, shards, a checkpoint and a report."""
    ids = make_home(lake, store, 6, 4)
    texts = [
        {"batch": "b", "clip_id": clip, "captioner": "embedded", "captioner_version": version, "num_words": 4,
         "text": f"secret words of {int(clip[5:10])} {clip[11:]} {version}"}
        for clip in ids
        for version in ("v1", "v2")
    ]  # fmt: skip
    put(lake, "captions.captions", texts)
    put(
        lake,
        "videos.sources",
        [{"batch": "b", "source_uri": f"/videos/{n}.mp4", "title": f"Title {n}"} for n in range(6)],
    )
    quarantine = [
        ("clips", "video00005:5-9", "/videos/5.mp4"),
        ("captions", ids[20], None),
        ("clips", "video00004:1-2", None),
    ]
    put(lake, "videos.quarantine", [
        {"batch": "b", "stage": stage, "item_id": item, "source_uri": uri, "reason": "r", "detail": "d"}
        for stage, item, uri in quarantine
    ])  # fmt: skip
    bare = settings.model_copy(
        update={"scores": ScoreSettings(**dict.fromkeys(ScoreSettings.model_fields.keys() - {"options"}, "none"))}
    )
    for model in discover():
        result = build_model(lake, model, bare)
        lake.commit(result.write(model.table, "test", None, 0, []), result.changes)
    publish(lake, store, settings, cache)
    shards_id = lake.value("select shards_id from release.training_shards limit 1")
    put(lake, "viclip.viclip_checkpoint", [{"checkpoint_id": "tiny-1", "shards_id": shards_id, "role": "viclip"}])
    put(lake, "viclip.viclip_evaluation", [{"checkpoint_id": "tiny-1", "report_key": "reports/tiny-1", "value": 0.5}])
    for name, text in {"report.json": ids[20], "sample_x.jpg": "x", "accuracy.png": "y"}.items():
        store.put_bytes(f"reports/tiny-1/{name}", text.encode())
    with AnswerLog(store, "answers/coarse/b/v1") as log:
        for clip in ids[20:22] + ids[:1]:
            log.put(clip, "key", {"text": f"secret words of {int(clip[5:10])}"})


def publish(lake: Lake, store: ObjectStore, settings: Settings, cache: Path) -> None:
    """Release and shards of the subset as it now is."""
    for result in (
        publish_release(lake, store, settings.model_copy(update={"release": RELEASE, "trust": LENIENT})),
        build_shards(lake, store, RELEASE, cache, quiet),
    ):
        lake.commit(result.write("release", "test", None, 0, []), result.changes)


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return open_store(settings)


@pytest.fixture
def made(lake: Lake, store: ObjectStore, settings: Settings, tmp_path: Path) -> Lake:
    make(lake, store, settings, tmp_path / "cache")
    return lake


def take_down(lake: Lake, store: ObjectStore, cache: Path, *items: str) -> dict:
    return carry_out(lake, store, make_plan(lake, store, items, "asked by its owner"), cache, lambda runs: None)


def data_files(settings: Settings) -> list[str]:
    """Every Parquet file below the lake's data path, known to it or not."""
    if not settings.data_path.startswith("s3://"):
        return [str(path) for path in Path(settings.data_path).rglob("*.parquet")]
    from internvid_assets.store import S3Store

    keys = S3Store(settings.data_path.rstrip("/"), settings.s3, Path("unused")).keys()
    return [f"{settings.data_path}{key}" for key in keys if key.endswith(".parquet")]


def told_by_files(lake: Lake, settings: Settings, words: tuple[str, ...]) -> list[tuple[str, str]]:
    """Data files of which any value, or any statistic, holds one of the words."""
    connection: duckdb.DuckDBPyConnection = lake.connection.cursor()
    found = []
    for file in data_files(settings):
        for word in words:
            rows = connection.execute(
                f"select 1 from read_parquet('{file}') as t where contains(t::varchar, '{word}') union all "
                f"select 1 from parquet_metadata('{file}') as t where contains(t::varchar, '{word}') limit 1"
            ).fetchall()
            found += [(file, word)] if rows else []
    return found


def told_by_objects(store: ObjectStore, words: tuple[str, ...]) -> list[tuple[str, str]]:
    """Keys and objects that hold one of the words; receipts name ids."""
    return [
        (key, word)
        for key in store.keys("")
        if not key.startswith("takedowns/")
        for word in words
        if word in key or word.encode() in store.get_bytes(key)
    ]


def told_by_catalog(settings: Settings, words: tuple[str, ...]) -> set[tuple[str, str]]:
    """Tables of the catalog itself, such as column statistics, that hold one of the words."""
    kind, _, address = settings.catalog_uri.partition(":")
    with duckdb.connect() as catalog:
        catalog.execute(f"load '{_extension_path(f'{kind}_scanner')}'")
        catalog.execute(f"attach '{address}' as held (type {kind}, read_only)")
        names = "select table_name from duckdb_tables() where database_name = 'held' and table_name like 'ducklake_%'"
        return {
            (table, word)
            for (table,) in catalog.execute(names).fetchall()
            for (text,) in catalog.execute(f"select t::varchar from held.{table} as t").fetchall()
            for word in words
            if word in text
        }


def test_nothing_is_recoverable(made: Lake, store: ObjectStore, settings: Settings, tmp_path: Path) -> None:
    """Neither from data files, nor by time travel, nor from the catalog's own tables, nor from objects."""
    assert {word for _, word in told_by_files(made, settings, SECRETS)} == set(SECRETS)
    assert {word for _, word in told_by_objects(store, SECRETS)} == set(SECRETS) - {"Title 5"}
    assert {word for _, word in told_by_catalog(settings, SECRETS)} == set(SECRETS)
    before = made.snapshot_id()
    receipt = take_down(made, store, tmp_path / "cache", "video00005")
    assert told_by_files(made, settings, SECRETS) == []
    assert told_by_objects(store, SECRETS) == []
    assert told_by_catalog(settings, SECRETS) == set()
    if settings.catalog_uri.startswith("sqlite:"):  # free pages included
        assert not any(word.encode() in (settings.home / "lake" / "catalog.sqlite").read_bytes() for word in SECRETS)
    with pytest.raises(duckdb.Error):
        made.rows(f"select * from clips.clips at (version => {before})")
    rows = {
        t: made.value(f"select count(*) from {t}")
        for t in ("clips.clips", "captions.captions", "subsets.internvid_10m")
    }
    assert rows == {"clips.clips": 20, "captions.captions": 40, "subsets.internvid_10m": 20}
    assert (receipt["rows_deleted"]["clips.clips"], receipt["rows_deleted"]["videos.quarantine"]) == (4, 2)
    assert receipt["checkpoints_that_saw_it"] == ["tiny-1"]
    assert list(store.keys("reports/")) == ["reports/tiny-1/accuracy.png"]
    text = store.get_bytes(f"takedowns/{receipt['takedown_id']}/receipt.txt").decode()
    assert "asked by its owner" in text and "Title 5" not in text and "/videos/5" not in text
    _what_was_published_is_withdrawn(made, store, settings, receipt, tmp_path / "cache")


def _what_was_published_is_withdrawn(
    lake: Lake, store: ObjectStore, settings: Settings, receipt: dict, cache: Path
) -> None:
    """Untouched shards stay, training refuses by the name of the takedown, and both are made anew."""
    [shards_id], [release_id] = receipt["shards_withdrawn"], receipt["releases_to_issue_again"]
    held = [key for key in store.keys(f"shards/{shards_id}/") if key.endswith(".tar")]
    touched = [key for key in receipt["objects_deleted"] if key.startswith("shards/")]
    assert (len(held) + len(touched), 1 <= len(touched) <= 2) == (4, True)
    with pytest.raises(ValueError, match=f"withdrawn by takedown {receipt['takedown_id']}"):
        ShardManifest.read(store.local_folder(f"shards/{shards_id}"))
    assert sorted(key.rpartition("/")[2] for key in store.keys(f"releases/{release_id}/")) == [
        "README.md", "SHA256SUMS", "WITHDRAWN", "croissant.json", "manifest.json",
    ]  # fmt: skip
    assert (torn_releases(lake, store), torn_shards(lake, store)) == ([], [])
    publish(lake, store, settings, cache)
    newest = lake.value("select max_by(shards_id, snapshot_id) from release.training_shards")
    assert newest != shards_id and ShardManifest.read(store.local_folder(f"shards/{newest}")).total == 20
    assert (torn_releases(lake, store), torn_shards(lake, store)) == ([], [])


@pytest.fixture
def embedded(embedded_settings: Settings, tmp_path: Path) -> Iterator[tuple[Lake, ObjectStore]]:
    """A made home in the embedded mode only."""
    lake, store = Lake(embedded_settings), open_store(embedded_settings)
    make(lake, store, embedded_settings, tmp_path / "cache")
    yield lake, store
    lake.close()


def test_a_clip_leaves_alone(embedded: tuple[Lake, ObjectStore], embedded_settings: Settings, tmp_path: Path) -> None:
    """A dry run changes nothing; then the clip goes from tables and pack, and its neighbours stay."""
    lake, store = embedded
    clip = lake.value("select clip_id from clips.clips where video_id = 'video00005' and clip_index = 1")
    before, keys = lake.snapshot_id(), list(store.keys())
    plan = make_plan(lake, store, [clip], "")
    assert any("frame packs rewritten: 1" in line for line in plan.lines())
    assert Plan.load(plan.dump()) == plan
    assert (lake.snapshot_id(), list(store.keys())) == (before, keys)
    old = set(store.keys("packs/"))
    folder = next(Path(embedded_settings.data_path).rglob("*.parquet")).parent
    orphans = [folder / f"ducklake-00000000-0000-7000-8000-00000000000{n}.parquet" for n in range(2)]
    for orphan in orphans:
        duckdb.sql(f"copy (select '{clip}' as clip_id) to '{orphan}'")
    os.utime(orphans[0], (1, 1))
    receipt = take_down(lake, store, tmp_path / "cache", clip)
    assert (orphans[0].exists(), orphans[1].exists(), receipt["purge"]["young_orphans"]) == (False, True, 1)
    orphans[1].unlink()
    assert told_by_files(lake, embedded_settings, (clip,)) == [] and told_by_objects(store, (clip,)) == []
    rows = lake.rows("select clip_id, frame_pack_key from clips.clips where video_id = 'video00005' order by 1")
    [pack] = {row["frame_pack_key"] for row in rows}
    assert [f.clip_id for f in read_frame_pack(store.local_path(pack))] == [row["clip_id"] for row in rows]
    assert len(rows) == 3 and pack not in old and len(set(store.keys("packs/"))) == len(old) == 6
    assert store.exists("videos/5")


def _die_before(settings: Settings, cache: Path, item: str, place: str) -> None:
    """Take an item down, and be killed when the function or query is reached."""
    from internvid_assets.release import withdraw

    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    if place.startswith("call "):
        query = Lake.query
        Lake.query = lambda lake, sql, given=None: die() if sql.startswith(place) else query(lake, sql, given)  # type: ignore
    else:
        setattr(withdraw if hasattr(withdraw, place) else release_takedown, place, die)
    take_down(Lake(settings), open_store(settings), cache, item)


def test_killed_anywhere_it_is_completed(
    embedded: tuple[Lake, ObjectStore], embedded_settings: Settings, tmp_path: Path
) -> None:
    lake, store = embedded
    lake.close()
    places = ["delete_rows", "call ducklake_expire_snapshots", "withdraw_releases", "receipt_lines"]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # imports once, not for each process
    for number, place in enumerate(places):
        arguments = (embedded_settings, tmp_path / "cache", f"video{number:05d}", place)
        process = context.Process(target=_die_before, args=arguments)
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL, place
        [plan] = unfinished(store)
        assert plan.asked == [f"video{number:05d}"]
        carry_out(lake, store, plan, tmp_path / "cache", lambda runs: None)
        words = tuple(f"{word}{number}" for word in ("video0000", "/videos/", "secret words of "))
        assert told_by_files(lake, embedded_settings, words) == [] and told_by_objects(store, words) == [], place
        assert unfinished(store) == [] and len(list(store.keys("takedowns/"))) == 2 * (number + 1)
        count = "select count(*), count(distinct clip_key) from lineage.taken_clips"
        assert lake.connection.execute(count).fetchone() == (4 * (number + 1), 4 * (number + 1))
        lake.close()


def test_every_table_that_names_an_item_is_covered() -> None:
    """A new table with an id is found by its column; one whose id has another name must join `ID_COLUMNS`."""
    target = Target(("v",), ("c",), ("s",))
    tables = {name: {c.name: c.type for c in columns} for name, (_, columns) in declared_tables().items()}
    with duckdb.connect() as db:
        for schema in SCHEMAS:
            db.execute(f"create schema if not exists {schema}")
        db.execute(_TABLES_SQL.read_text())
        for model in discover():
            db.execute(f"create table {model.table} as {model.sql}")
        described = db.execute(
            "select table_schema || '.' || table_name, column_name, data_type from information_schema.columns"
        )
        for table, column, kind in described.fetchall():
            tables.setdefault(table, {})[column] = kind
        telling = {
            name for name, columns in tables.items()
            if any(word in f"{column} {kind}" for column, kind in columns.items() for word in ("clip_id", "video_id", "source_uri"))
        }  # fmt: skip
        assert len(telling) >= 25
        for table in telling:
            parts = table_conditions(target, tables[table])
            assert parts, f"{table} tells of clips or videos and a takedown would miss it"
            db.execute(f"select count(*) from {table} where {' or '.join(parts)}")
    assert not any(table_conditions(target, tables[table]) for table in ("lineage.takedowns", "captions.captioners"))


def test_ids_that_start_alike_are_told_apart() -> None:
    target = Target(("abc", "it's"), ("x_00000000_00000001",), ())
    cases = {"abc_00000000_00000100": True, "abcd_00000000_00000100": False, "abc_1_00000000_00000100": False,
             "x_00000000_00000001": True, "x_00000000_00000002": False, "it's_00000000_00000100": True}  # fmt: skip
    many = Target((*target.videos, *(f"v{n}" for n in range(20))), target.clips, ())
    with duckdb.connect() as db:
        for chosen in (target, many):
            [condition] = column_conditions(chosen, "clip_id", "VARCHAR")
            found = {
                clip: db.execute(f"select {condition} from (select ? as clip_id)", [clip]).fetchone()[0]
                for clip in cases
            }  # type: ignore[index]
            assert found == cases


def test_what_was_taken_down_stays_out(embedded_settings: Settings, tmp_path: Path) -> None:
    """The same bytes are refused from any path; a re-encoded, smaller copy is known by the look of its clips."""
    lake, store = Lake(embedded_settings), open_store(embedded_settings)
    first, again, copies = (tmp_path / name for name in ("first", "again", "copies"))
    for folder in (first, again, copies):
        folder.mkdir()
    video = write_shots(first / "one.mp4", [40, 50, 45], (192, 128))
    pictures = [
        p for seed, count in ((10, 45), (11, 40), (12, 50), (13, 35)) for p in moving_pictures(count, (192, 128), seed)
    ]
    write_video(first / "other.mp4", pictures)
    (first / "twin.mp4").write_bytes(video.read_bytes())
    (again / "renamed.mp4").write_bytes(video.read_bytes())
    ffmpeg("-i", video, "-vf", "scale=128:-2", "-crf", "30", copies / "small.mp4")
    ffmpeg("-ss", "0.4", "-i", video, "-vf", "scale=144:-2,pad=iw:ih+48:0:24", copies / "trimmed.mp4")

    def ingest(batch: str) -> StageResult:
        wide = embedded_settings.model_copy(update={"gate": GateSettings(min_lines=16)})
        return ingest_batch(lake, store, wide, batch, quiet)

    def cut(batch: str) -> StageResult:
        return cut_batch(lake, store, ClipSettings(), 1, batch, quiet)

    def take_in(folder: Path) -> dict[str, int]:
        drops: dict[str, int] = {}
        for batch in open_batches(lake, discover_sources([folder]), 64):
            for stage in (ingest, cut):
                result = stage(batch)
                lake.commit(result.write("test", "test", batch, 0, []), result.changes)
                drops |= result.drops
        return drops

    def verdicts() -> dict[str, set[str | None]]:
        with match_batches(lake, DuplicateSettings()) as result:
            lake.commit(Write("clips.matches", "test"), result.changes)
        for model in (model for model in discover() if model.name in ("stg_matches", "stg_clips")):
            lake.commit(Write(model.table, "test"), [CreateAs(model.table, model.sql)])
        rows = lake.rows(
            "select source_uri, list(distinct coalesce(drop_reason, 'kept')) as reasons from staging.stg_clips group by 1"
        )
        return {Path(row["source_uri"]).name: set(row["reasons"]) for row in rows}

    assert take_in(first) == {"exact_duplicate": 1}
    take_down(lake, store, tmp_path / "cache", str(video))
    assert [row["source_uri"] for row in lake.rows("select source_uri from videos.sources")] == [
        str(first / "other.mp4")
    ]
    assert take_in(again) == {"taken_down": 1}
    refused = lake.rows("select item_id, detail from videos.quarantine where reason = 'taken_down'")
    takedown_id = lake.value("select takedown_id from lineage.takedowns")
    assert refused == [{"item_id": str(again / "renamed.mp4"), "detail": f"takedown {takedown_id}"}]
    take_in(copies)
    assert verdicts() == {"other.mp4": {"kept"}, "small.mp4": {"taken_down"}, "trimmed.mp4": {"taken_down"}}
    with pytest.raises(ValueError, match="nothing is known as 'nobody'"):
        resolve(lake, ["nobody"])
    assert earlier_takedown(lake, file_sha256(again / "renamed.mp4")) == takedown_id
    _a_clip_that_is_cut_again_is_dropped(lake, store, verdicts, tmp_path)
    assert set(resolve(lake, [str(tmp_path)]).sources) == {
        str(p) for p in (first / "other.mp4", again / "renamed.mp4", copies / "small.mp4", copies / "trimmed.mp4")
    }
    lake.close()


def _a_clip_that_is_cut_again_is_dropped(lake: Lake, store: ObjectStore, verdicts: Callable, tmp_path: Path) -> None:
    held = lake.rows(
        "select c.* from clips.clips as c join videos.raw_videos using (video_id) where source_uri like '%other%'"
    )
    clip = held[1]["clip_id"]
    for _ in range(2):  # the second time too
        assert take_down(lake, store, tmp_path / "cache", clip)["rows_deleted"]["clips.clips"] == 1
        put(lake, "clips.clips", held[1:2])
        assert verdicts()["other.mp4"] == {"kept", "taken_down"}
    assert len(list(store.keys("takedowns/"))) == 6


def test_from_the_shell(
    embedded: tuple[Lake, ObjectStore], embedded_settings: Settings, capsys, monkeypatch, tmp_path
) -> None:
    lake, store = embedded
    lake.close()
    monkeypatch.setattr("internvid_assets.automation.forget_runs", lambda *_: None)
    monkeypatch.setattr("internvid_assets.home._export", lambda *_: None)
    listed = tmp_path / "items"
    listed.write_text("video00001\n\n/videos/2.mp4\n")
    home = ["--home", str(embedded_settings.home)]

    def internvid(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["takedown", *arguments, *home])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    code, said = internvid("--list", str(listed))
    assert code == 0 and "2 videos" in said and "nothing was changed" in said and "checkpoint tiny-1" in said
    code, said = internvid("--list", str(listed), "--yes", "--reason", "law")
    assert code == 0 and "Reason: law" in said and "Receipt: " in said
    assert "was taken down before" in (again := internvid("video00001", "--yes")[1]) and "purged again" in again
    assert internvid("nobody")[0] == 2 and internvid()[0] == 2
    receipt = json.loads(next(store.get_bytes(k) for k in store.keys("takedowns/") if k.endswith("receipt.json")))
    assert receipt["videos"] == ["video00001", "video00002"]


RUN_ID = "710830a3-b610-42a9-a8e0-b0c5319de432"


@pytest.fixture
def lake_written(embedded_settings: Settings) -> Iterator[Lake]:
    """A lake with one write by the run."""
    lake = Lake(embedded_settings)
    lake.commit(Write("clips.clips", RUN_ID, "b", code_version="7"), [])
    yield lake
    lake.close()


def test_records_of_runs_are_forgotten(lake_written: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run that may show frames is gone from Dagster; what it made still counts as made."""
    with dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setattr("internvid_assets.automation.instance", lambda: instance)
        run = instance.add_run(dg.DagsterRun(job_name="build_dataset", run_id=RUN_ID))
        forget_runs(lake_written, [run.run_id, "unknown"])
        event = instance.get_latest_materialization_event(dg.AssetKey(["clips", "clips"]))
        assert not instance.has_run(RUN_ID)
        assert event is not None and event.asset_materialization is not None
        assert event.asset_materialization.partition == "b"
        assert (
            event.asset_materialization.tags is not None
            and event.asset_materialization.tags["dagster/code_version"] == "7"
        )
