"""Every model gives the expected rows on given ones; sampling is fair, stable and independent of order."""

from __future__ import annotations

import duckdb
import pytest

from internvid_assets.lake import Append, Lake, Write
from internvid_assets.lake.catalog import _TABLES_SQL, SCHEMAS
from internvid_assets.lake.models import discover
from internvid_assets.scores.base import load_scorers
from internvid_assets.settings import ScoreSettings, Settings, SubsetSettings
from internvid_assets.subsets.build import build_model, model_config, model_parameters

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


def add_match(db, clip: str, like: str | None, num_frames: int, offset: float = 0.0, **other) -> None:
    row = {
        "kind": "clip", "clip_id": clip, "video_id": clip.partition("_")[0], "like_clip_id": like,
        "like_video_id": like.partition("_")[0] if like else None, "num_frames": num_frames, "num_hashed": 4,
        "like_num_hashed": 4, "distance_bits": 20.0, "offset_seconds": offset, **other,
    }  # fmt: skip
    names, marks = ", ".join(row), ", ".join("?" for _ in row)
    db.execute(f"insert into clips.matches ({names}) values ({marks})", list(row.values()))


FOUR = {"hash_seconds": [0.1, 0.3, 0.5, 0.7]}


def reasons(db) -> dict[str, set[str | None]]:
    rows = db.execute("select video_id, drop_reason from intermediate.int_pair_verdicts").fetchall()
    return {video: {reason for name, reason in rows if name == video} for video, _ in rows}


def test_smaller_copies_are_near_duplicates(db) -> None:
    """A clip of the copy that shares no frame goes with its video; of equal pictures the longer one stays."""
    for video, width in (("large", 640), ("small", 320), ("other", 640), ("short", 640)):
        add_video(db, video, width)
    clips = {v: [add_clip(db, v, i, **FOUR) for i in range(3)] for v in ("large", "small", "other")}
    clips["short"] = [add_clip(db, "short", 0, **FOUR)]
    add_match(db, clips["small"][0], clips["large"][0], 4)
    add_match(db, clips["large"][1], clips["small"][1], 4, 0.02)
    add_match(db, clips["short"][0], clips["other"][1], 3, -1.0)
    build(db)
    found = db.execute("select video_id, duplicate_of, num_frames, num_hashed from intermediate.int_near_duplicates")
    assert sorted(found.fetchall()) == [("short", "other", 3, 4), ("small", "large", 8, 12)]
    assert reasons(db) == {v: {None} for v in ("large", "other")} | {v: {"near_duplicate"} for v in ("small", "short")}


def test_a_shared_intro_is_kept_once_and_chance_agreements_are_nothing(db) -> None:
    for video in ("a", "b", "c"):
        add_video(db, video)
    clips = {v: [add_clip(db, v, i, **FOUR) for i in range(3)] for v in ("a", "b", "c")}
    add_match(db, clips["b"][0], clips["a"][0], 3)
    add_match(db, clips["c"][0], clips["a"][0], 3)
    add_match(db, clips["c"][1], clips["b"][2], 1, 5.0)  # one frame of four
    add_match(db, clips["c"][2], clips["b"][2], 4, 0.0, distance_bits=75.0)  # beyond near_duplicate_bits
    build(db)
    dropped = "select clip_id from intermediate.int_pair_verdicts where drop_reason = 'near_duplicate' order by 1"
    assert [row[0] for row in db.execute(dropped).fetchall()] == [clips["b"][0], clips["c"][0]]


def test_benchmarks_are_kept_out_by_name_and_by_frames(db) -> None:
    for video in ("named", "shown", "free"):
        add_video(db, video)
    shown = [add_clip(db, v, i, **FOUR) for v in ("named", "shown", "free") for i in range(4)]
    db.execute("insert into videos.benchmark_items values ('k400', 'val/named.mp4', 'named')")
    db.execute(
        "insert into clips.benchmark_clips (benchmark, item, hash_seconds) values ('k400', 'val/x.mp4', [0, 1, 2, 3])"
    )
    about = {"kind": "benchmark", "reference": "k400", "reference_item": "val/x.mp4"}
    add_match(db, shown[5], None, 3, **about)  # the benchmark shows an excerpt: the rest of its video goes too
    build(db)
    assert reasons(db) == {"named": {"in_benchmark"}, "shown": {"in_benchmark"}, "free": {None}}


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


def score(
    db,
    clip: str,
    scorer: str,
    value: float,
    version: str = "s1",
    captioner: tuple[str, str] | None = ("embedded", "v1"),
) -> None:
    """Add one number of a caption, or of the clip itself."""
    given = [clip, *(captioner or (None, None)), scorer, version, value]
    db.execute("insert into scores.clip_scores values ('b', ?, ?, ?, ?, 'embedded', ?, ?)", given)


def add_text(db, clip: str, version: str, text: str, similarity: float, scorer_version: str = "s1") -> None:
    db.execute("insert into captions.captions values ('b', ?, 'hf', ?, ?, 3)", [clip, version, text])
    score(db, clip, "similarity", similarity, scorer_version, ("hf", version))


FAULTS = {
    "refusal": ("caption_refusal", 1.0, 0.0),
    "caption_loop": ("caption_loops", 0.5, 0.49),
    "wrong_language": ("caption_language", 0.49, 0.5),
    "nsfw": ("nsfw", 0.98, 0.979),
    "overlay_text": ("overlay_text", 0.35, 0.34),
}


@pytest.mark.parametrize(("reason", "scored"), FAULTS.items())
def test_each_score_drops_with_its_own_reason_and_what_was_not_judged_is_kept(db, reason: str, scored: tuple) -> None:
    scorer, bad, good = scored
    add_video(db, "v")
    dropped, kept, unjudged = (add_clip(db, "v", index) for index in range(3))
    db.execute("delete from scores.clip_scores where scorer = ?", [scorer])
    captioner = ("embedded", "v1") if scorer.startswith("caption") else None
    score(db, dropped, scorer, bad, captioner=captioner)
    score(db, kept, scorer, good, captioner=captioner)
    build(db)
    verdicts = db.execute("select clip_id, drop_reason from intermediate.int_pair_verdicts order by 1").fetchall()
    assert verdicts == [(dropped, reason), (kept, None), (unjudged, None)]
    assert ids(db, "subsets.filtered_pairs") == [kept, unjudged]


def test_the_limits_of_captions_and_of_nsfw_are_parameters(db) -> None:
    add_video(db, "v")
    clips = [add_clip(db, "v", index) for index in range(3)]
    score(db, clips[0], "caption_loops", 0.3)
    score(db, clips[1], "caption_language", 0.7)
    score(db, clips[2], "nsfw", 0.6, captioner=None)
    for setting in ("max_caption_loops = 0.25", "min_caption_language = 0.8", "max_nsfw = 0.5"):
        db.execute(f"set variable {setting}")
    build(db)
    verdicts = db.execute("select clip_id, drop_reason from intermediate.int_pair_verdicts").fetchall()
    assert dict(verdicts) == dict(zip(clips, ("caption_loop", "wrong_language", "nsfw"), strict=True))
    assert ids(db, "subsets.filtered_pairs") == []


def test_a_text_without_a_fault_speaks_before_one_that_fits_better(db) -> None:
    add_video(db, "v")
    for index, (scorer, value) in enumerate(
        [("caption_refusal", 1.0), ("caption_loops", 0.9), ("caption_language", 0.1)]
    ):
        clip = add_clip(db, "v", index, similarity=0.1)
        add_text(db, clip, "v2", "a faulty text", 0.9)
        score(db, clip, scorer, value, captioner=("hf", "v2"))
    build(db)
    best = db.execute("select caption, similarity, fault from intermediate.best_captions").fetchall()
    assert best == [("a cat", 0.1, None)] * 3
    score(db, clip, "caption_loops", 1.0)
    build(db)
    where = f"from intermediate.best_captions where clip_id = '{clip}'"
    assert db.execute(f"select caption, fault {where}").fetchall() == [("a faulty text", "wrong_language")]


def test_equal_texts_are_told_apart_by_version_and_a_clip_without_text_has_no_row(db) -> None:
    add_video(db, "v")
    clip, silent = add_clip(db, "v", 0, similarity=0.4), add_clip(db, "v", 1)
    db.execute("delete from captions.captions where clip_id = ?", [silent])
    add_text(db, clip, "v2", "a striped cat", 0.4)
    build(db)
    assert db.execute("select clip_id, captioner_version from intermediate.best_captions").fetchall() == [(clip, "v2")]
    verdicts = db.execute("select drop_reason from intermediate.int_pair_verdicts where clip_id = ?", [silent])
    assert verdicts.fetchall() == [("no_caption",)]


def test_all_numbers_of_a_column_are_of_one_scorer_version(db) -> None:
    """Version zz scored one text of two: its number is never set against one of s1, though its hash is greater."""
    add_video(db, "v")
    clip = add_clip(db, "v", 0, similarity=0.2, aesthetic=5.0)
    add_text(db, clip, "v2", "a striped cat", 0.3)
    score(db, clip, "similarity", 0.9, "zz")
    score(db, clip, "aesthetic", 9.0, "zz", captioner=None)
    add_clip(db, "v", 1)
    build(db)
    captions = f"select captioner_version, similarity from staging.stg_captions where clip_id = '{clip}' order by 1"
    aesthetic = f"select aesthetic from staging.stg_clip_scores where clip_id = '{clip}'"
    assert db.execute(captions).fetchall() == [("v1", 0.2), ("v2", 0.3)]
    assert db.execute(aesthetic).fetchall() == [(5.0,)]
    db.execute("set variable similarity_version = 'zz'; set variable aesthetic_version = 'zz'")
    build(db)
    assert db.execute(captions).fetchall() == [("v1", 0.9), ("v2", None)]
    assert db.execute(aesthetic).fetchall() == [(9.0,)]
    db.execute("set variable similarity_version = ''; set variable aesthetic_version = null")
    build(db)
    assert db.execute(captions).fetchall() == [("v1", 0.2), ("v2", 0.3)]
    assert db.execute(aesthetic).fetchall() == [(5.0,)]


def test_of_versions_that_scored_as_many_texts_the_greatest_counts(db) -> None:
    add_video(db, "v")
    clip = add_clip(db, "v", 0, similarity=0.2)
    score(db, clip, "similarity", 0.7, "s2")
    build(db)
    assert db.execute("select similarity from staging.stg_captions").fetchall() == [(0.7,)]


def test_caption_scores_are_columns(db) -> None:
    add_video(db, "v")
    clip = add_clip(db, "v", 0, similarity=0.2)
    for scorer, value in (
        ("caption_loops", 0.1),
        ("caption_refusal", 0.0),
        ("caption_language", 0.8),
        ("scale_agreement", 0.6),
    ):
        score(db, clip, scorer, value)
    score(db, clip, "nsfw", 0.01, captioner=None)
    build(db)
    columns = "similarity, loops, refusal, language_probability, scale_agreement"
    assert db.execute(f"select {columns} from staging.stg_captions").fetchall() == [(0.2, 0.1, 0.0, 0.8, 0.6)]
    assert db.execute("select nsfw from subsets.filtered_pairs").fetchall() == [(0.01,)]


def scores_of(lake: Lake, *rows: tuple[str, str]) -> None:
    """Store a number by each scorer and version."""
    made = [{"batch": "b", "clip_id": "c", "scorer": s, "scorer_version": v, "value": 0.5} for s, v in rows]
    change = Append("scores.clip_scores", lake.to_arrow("scores.clip_scores", made), ("scorer", "scorer_version"))
    lake.commit(Write("scores.clip_scores", "test"), [change])


def test_the_current_scorers_count_where_they_have_scored(embedded_settings: Settings) -> None:
    lake, model = Lake(embedded_settings), MODELS["stg_captions"]
    settings = embedded_settings.model_copy(update={"scores": ScoreSettings(nsfw="none")})
    current = {scorer.name: scorer.version for scorer in load_scorers(settings)}
    scores_of(lake, ("similarity", current["similarity"]), ("similarity", "old"), ("aesthetic", "old"))
    found = model_parameters(lake, model, settings)
    assert found["similarity_version"] == current["similarity"]
    assert (found["aesthetic_version"], found["caption_loops_version"], found["nsfw_version"]) == ("", "", "none")
    assert model_parameters(lake, MODELS["filtered_pairs"], settings) == {}
    chosen = settings.model_copy(update={"subsets": SubsetSettings(parameters={"similarity_version": "old"})})
    assert model_parameters(lake, model, chosen)["similarity_version"] == "old"
    assert model_config(lake, model, chosen) != model_config(lake, model, settings)
    assert build_model(lake, model, chosen).num_out == 0
    assert lake.value("select getvariable('similarity_version')") == "old"
    lake.close()


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
