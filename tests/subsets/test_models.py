"""Every model gives the expected rows on given ones; sampling is fair, stable and independent of order."""

from __future__ import annotations

import duckdb
import pytest

from internvid_assets.lake.catalog import _TABLES_SQL, SCHEMAS
from internvid_assets.lake.models import discover

MODELS = {model.name: model for model in discover()}


@pytest.fixture
def db() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    for schema in SCHEMAS:
        connection.execute(f"create schema if not exists {schema}")
    connection.execute(_TABLES_SQL.read_text())
    return connection


def add_clip(db, video: str, index: int, similarity: float = 0.3, aesthetic: float = 5.0, **stats) -> str:
    clip = f"{video}_{index * 1000:08d}_{(index + 1) * 1000:08d}"
    row = {
        "batch": "b", "clip_id": clip, "video_id": video, "clip_index": index, "start_seconds": float(index),
        "end_seconds": index + 1.0, "black_share": 0.0, "motion_mean": 0.02, "still_share": 0.0, "num_static_runs": 0,
        "static_share": 0.0, "border_share": 0.0, "flat_share": 0.5,
        "perceptual_hash": hash((video, index)) % 2**63, **stats,
    }  # fmt: skip
    names, marks = ", ".join(row), ", ".join("?" for _ in row)
    db.execute(f"insert into clips.clips ({names}) values ({marks})", list(row.values()))
    db.execute("insert into captions.captions values ('b', ?, 'embedded', 'v1', 'a cat', 2)", [clip])
    scores = [
        ("embedded", "v1", "similarity", similarity),
        (None, None, "aesthetic", aesthetic),
        (None, None, "overlay_text", 0.0),
    ]
    for captioner, version, scorer, value in scores:
        db.execute(
            "insert into scores.clip_scores values ('b', ?, ?, ?, ?, 'embedded', 's1', ?)",
            [clip, captioner, version, scorer, value],
        )
    return clip


def add_video(db, video: str, width: int = 320) -> None:
    db.execute(
        "insert into videos.raw_videos (batch, video_id, source_uri, width, height) values ('b', ?, ?, ?, 240)",
        [video, f"/videos/{video}.mp4", width],
    )


def build(db) -> None:
    for model in discover():
        db.execute(f"create or replace table {model.table} as {model.sql}")


def ids(db, table: str) -> list[str]:
    return [row[0] for row in db.execute(f"select clip_id from {table}").fetchall()]


def test_each_statistic_drops_with_its_own_reason(db) -> None:
    add_video(db, "v")
    cases = {
        "black": {"black_share": 0.95}, "slideshow": {"num_static_runs": 3, "still_share": 0.75},
        "still": {"still_share": 0.9}, "extreme_motion": {"motion_mean": 0.5}, "letterbox": {"border_share": 0.5},
        "screen_recording": {"static_share": 0.8, "flat_share": 0.9, "still_share": 0.4},
        None: {"static_share": 0.8, "border_share": 0.25, "flat_share": 0.9, "still_share": 0.4},
    }  # fmt: skip
    wanted = {add_clip(db, "v", i, **stats): reason for i, (reason, stats) in enumerate(cases.items())}
    build(db)
    assert dict(db.execute("select clip_id, drop_reason from staging.stg_clips").fetchall()) == wanted
    assert ids(db, "subsets.filtered_pairs") == [clip for clip, reason in wanted.items() if reason is None]


def test_smaller_copies_are_near_duplicates(db) -> None:
    for video, width in (("large", 640), ("small", 320), ("other", 640)):
        add_video(db, video, width)
        for index in range(3):
            pattern = 0 if video != "other" else 2**40 - 1
            add_clip(db, video, index, perceptual_hash=pattern ^ (1 << index if video == "small" else 0))
    build(db)
    found = db.execute(
        "select video_id, duplicate_of, num_matching_clips from intermediate.int_near_duplicates"
    ).fetchall()
    assert found == [("small", "large", 3)]
    reasons = db.execute(
        "select video_id, drop_reason from intermediate.int_pair_verdicts group by all order by 1"
    ).fetchall()
    assert reasons == [("large", None), ("other", None), ("small", "near_duplicate")]


def test_the_best_fitting_caption_speaks_for_a_clip(db) -> None:
    add_video(db, "v")
    clip = add_clip(db, "v", 0, similarity=0.2)
    db.execute("insert into captions.captions values ('b', ?, 'hf', 'v2', 'a striped cat', 3)", [clip])
    db.execute(
        "insert into scores.clip_scores values ('b', ?, 'hf', 'v2', 'similarity', 'embedded', 's1', 0.6)", [clip]
    )
    build(db)
    pair = "select caption, captioner_version, similarity from subsets.filtered_pairs"
    assert db.execute(pair).fetchall() == [("a striped cat", "v2", 0.6)]
    db.execute("set variable captioner_version = 'v1'")
    build(db)
    assert db.execute(pair).fetchall() == [("a cat", "v1", 0.2)]


def test_flt_keeps_the_best_share_and_aes_the_pretty(db) -> None:
    for number in range(10):
        add_video(db, f"v{number}")
        add_clip(db, f"v{number}", 0, similarity=number / 10, aesthetic=float(number))
    build(db)
    assert {i[:2] for i in ids(db, "subsets.internvid_10m_flt")} == {"v7", "v8", "v9"}
    assert {i[:2] for i in ids(db, "subsets.internvid_18m_aes")} == {"v5", "v6", "v7", "v8", "v9"}


def pool_of(db, rows: list[tuple[str, str]]) -> None:
    columns = MODELS["filtered_pairs"].columns
    db.execute("create or replace table subsets.filtered_pairs as select '' as clip_id, '' as video_id, "
               + ", ".join(f"null::double as {c}" for c in columns[2:]) + " limit 0")  # fmt: skip
    db.executemany("insert into subsets.filtered_pairs (clip_id, video_id) values (?, ?)", rows)


def draw(db, name: str, size: int) -> list[str]:
    db.execute(f"set variable {name}_size = {size}")
    return [row[0] for row in db.execute(f"select clip_id from ({MODELS[name].sql})").fetchall()]


def test_sampling_is_stable_and_nested(db) -> None:
    rows = [(f"c{i}", f"v{i % 37}") for i in range(500)]
    pool_of(db, rows)
    small, large = draw(db, "internvid_10m_div", 50), draw(db, "internvid_10m_div", 200)
    assert large[:50] == small
    pool_of(db, rows[::-1])
    assert draw(db, "internvid_10m_div", 50) == small
    db.execute("set variable seed = 7")
    assert set(draw(db, "internvid_10m_div", 50)) != set(small)


def test_div_weighs_videos_alike(db) -> None:
    """One video with 900 clips and 100 videos with one: uniform sampling takes mostly the first, DIV mostly the others."""
    pool_of(db, [(f"big{i}", "big") for i in range(900)] + [(f"one{i}", f"one{i}") for i in range(100)])
    uniform = sum(clip.startswith("big") for clip in draw(db, "internvid_10m", 50))
    div = sum(clip.startswith("big") for clip in draw(db, "internvid_10m_div", 50))
    assert uniform >= 38 and div <= 4


def test_icl_has_three_formats(db) -> None:
    for video in ("a", "b", "c"):
        add_video(db, video)
        for index in (1, 0):
            clip = add_clip(db, video, index)
            db.execute("insert into captions.transcripts values ('b', ?, 'whisper', 't1', 'hello', 'en')", [clip])
    db.execute("set variable icl_text_only_share = 1.0")
    build(db)
    items = db.execute("select format, video_ids, items, shows_video from subsets.internvid_icl").fetchall()
    plain = [item for item in items if item[0] == "interleaved"]
    speech = [item for item in items if item[0] == "interleaved_speech"]
    several = [item for item in items if item[0] == "several_videos"]
    assert (len(plain), len(speech), len(several)) == (3, 3, 1)
    assert [c["clip_id"][2:10] for c in plain[0][2]] == ["00000000", "00001000"]
    assert not any(item[3] for item in plain) and all(item[3] for item in speech)
    assert {c["transcript"] for item in speech for c in item[2]} == {"hello"}
    assert len(several[0][1]) == 2 and len(several[0][2]) == 4


def test_a_ref_to_the_right_and_an_undeclared_ref_are_refused(tmp_path) -> None:
    for layer in ("staging", "intermediate", "marts"):
        (tmp_path / layer).mkdir()
    (tmp_path / "marts" / "m.sql").write_text("-- refs: videos.raw_videos\nselect video_id from videos.raw_videos")
    (tmp_path / "staging" / "s.sql").write_text("-- refs: subsets.m\nselect video_id from subsets.m")
    with pytest.raises(ValueError, match="only read layers to its left"):
        discover(tmp_path)
    (tmp_path / "staging" / "s.sql").write_text("-- refs: clips.clips\nselect video_id from videos.raw_videos")
    with pytest.raises(ValueError, match="declares refs"):
        discover.__wrapped__(tmp_path)
