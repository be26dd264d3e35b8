"""Incremental re-captioning on a small home: order, budgets, interruption, old texts, what improved."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from internvid_assets.captions import recaption as module
from internvid_assets.captions.base import Captioner, ClipInput, CoarseCaption, FineCaption, MergeInput
from internvid_assets.captions.recaption import improvement, policy_sql, recaption, stale_clips
from internvid_assets.captions.recipe import Recipe
from internvid_assets.captions.transcripts import Transcriber
from internvid_assets.lake import Lake
from internvid_assets.lake.models import discover
from internvid_assets.lake.stage import Refusal
from internvid_assets.settings import Settings
from internvid_assets.store import ObjectStore, open_store
from internvid_assets.subsets.build import build_model
from tests.captions.homes import make_home, put

NUM_CLIPS = 40


class Writer(Captioner):
    """A captioner that says what it is told."""

    name = "writer"

    def __init__(self, version: str = "1", refused: str = "", merge_prompt: str = ""):
        self.version, self.refused, self.merge_prompt = version, refused, merge_prompt
        self.asked: dict[str, list[str]] = {"coarse": [], "fine": [], "merge": []}

    def spec(self, step: str) -> dict[str, str]:
        return {"version": self.version, "prompt": self.merge_prompt if step == "merge" else ""}

    def coarse(self, clips: Iterable[ClipInput]) -> Iterator[tuple[str, CoarseCaption | Refusal]]:
        for clip in clips:
            self.asked["coarse"].append(clip.clip_id)
            yield clip.clip_id, Refusal("unfit", "no") if clip.clip_id == self.refused else CoarseCaption("coarse")

    def fine(self, clips: Iterable[ClipInput]) -> Iterator[tuple[str, FineCaption | Refusal]]:
        for clip in clips:
            self.asked["fine"].append(clip.clip_id)
            yield clip.clip_id, FineCaption((0.0,), ("fine",))

    def merge(self, clips: Iterable[MergeInput]) -> Iterator[tuple[str, str | Refusal]]:
        for clip in clips:
            self.asked["merge"].append(clip.clip_id)
            yield clip.clip_id, f"new text of {clip.clip_id}"


def recipe(**more: str) -> Recipe:
    writer = Writer(**more)
    return Recipe(writer, writer, writer, Transcriber(None))


def quiet(items, *_, **__):
    return items


def refresh(lake: Lake, settings: Settings) -> None:
    """The SQL models that say which text speaks for a clip, anew."""
    for model in discover():
        if model.layer != "staging" and model.name != "best_captions":
            continue
        result = build_model(lake, model, settings)
        lake.commit(result.write(model.table, "refresh", None, 0, []), result.changes)


def score(lake: Lake, version: str, values: dict[str, float]) -> None:
    """Similarities of a version's captions."""
    put(lake, "scores.clip_scores", [
        {"batch": "b", "clip_id": clip_id, "captioner": captioner, "captioner_version": version,
         "scorer": "similarity", "scorer_backend": "test", "scorer_version": "s", "value": value}
        for captioner in ("old", "writer") for clip_id, value in values.items()
    ])  # fmt: skip


@pytest.fixture
def home(embedded_settings: Settings) -> tuple[Lake, ObjectStore, list[str]]:
    """Clips with old captions, of which the later ones fit better."""
    lake, store = Lake(embedded_settings), open_store(embedded_settings)
    ids = make_home(lake, store, 2, NUM_CLIPS // 2)
    put(lake, "captions.captions", [
        {"batch": "b", "clip_id": clip_id, "captioner": "old", "captioner_version": "0", "text": f"old text of {clip_id}",
         "num_words": 4} for clip_id in ids
    ])  # fmt: skip
    score(lake, "0", {clip_id: number / NUM_CLIPS for number, clip_id in enumerate(ids)})
    refresh(lake, embedded_settings)
    return lake, store, ids


def test_a_budget_takes_the_worst_described_first_and_keeps_old_texts(home) -> None:
    lake, store, ids = home
    before = lake.rows("select * from captions.captions order by clip_id")
    before_id = lake.snapshot_id()
    assert recaption(lake, store, recipe(), 5, 10.0, "run", quiet) == {"b": 5}
    new = lake.rows("select clip_id from captions.captions where captioner = 'writer' order by clip_id")
    assert [row["clip_id"] for row in new] == ids[:5]
    assert lake.rows("select * from captions.captions where captioner <> 'writer' order by clip_id") == before
    seen = lake.rows(
        "select asset, num_out, read_snapshot_id from lineage.materializations where run_id = 'run' order by written_at"
    )
    assert [(row["asset"], row["num_out"]) for row in seen] == [
        ("captions.coarse_captions", 5), ("captions.fine_captions", 5), ("captions.captions", 5)
    ]  # fmt: skip
    assert [row["read_snapshot_id"] for row in seen] == [before_id + i for i in range(3)]  # what each write had read
    assert len(stale_clips(lake, recipe(), 10_000)) == NUM_CLIPS - 5


def test_a_policy_is_sql_of_ours_or_of_yours(home, tmp_path: Path) -> None:
    lake, _, ids = home
    own = tmp_path / "best.sql"
    own.write_text("-- the best first\nselect batch, clip_id, previous_captioner, previous_version from stale\n"
                   "where similarity > 0.5 order by similarity desc;\n")  # fmt: skip
    assert [row["clip_id"] for row in stale_clips(lake, recipe(), 3, str(own))] == ids[:-4:-1]
    assert len(stale_clips(lake, recipe(), 99, str(own))) == NUM_CLIPS // 2 - 1
    assert [row["clip_id"] for row in stale_clips(lake, recipe(), 2, "newest_first")] == ids[:2]
    with pytest.raises(ValueError, match=r"'oldest' must be one of newest_first, worst_first, or a \.sql file"):
        policy_sql("oldest")


def test_time_is_a_budget_too_and_the_next_run_goes_on(home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 4)
    lake, store, _ = home
    late = itertools.count()  # a second passes with every look at the clock
    done = recaption(lake, store, recipe(), 10_000, 0.5, "run", quiet, clock=lambda: float(next(late)))
    assert 0 < sum(done.values()) < NUM_CLIPS
    assert len(stale_clips(lake, recipe(), 10_000)) == NUM_CLIPS - sum(done.values())
    recaption(lake, store, recipe(), 10_000, 10.0, "run", quiet)
    assert stale_clips(lake, recipe(), 10_000) == []
    assert lake.value("select count(*) from captions.captions where captioner = 'writer'") == NUM_CLIPS


def test_a_new_merge_prompt_looks_at_no_frame_again(home) -> None:
    lake, store, _ = home
    recaption(lake, store, recipe(), 10_000, 10.0, "first", quiet)
    changed = recipe(merge_prompt="in verse")
    assert len(stale_clips(lake, changed, 10_000)) == NUM_CLIPS
    recaption(lake, store, changed, 7, 10.0, "second", quiet)
    assert changed.merge.asked == {"coarse": [], "fine": [], "merge": changed.merge.asked["merge"]}
    assert len(changed.merge.asked["merge"]) == 7


def test_a_refused_clip_is_quarantined_and_does_not_hold_up_the_rest(home) -> None:
    lake, store, _ = home
    refused = []
    for _ in range(2):
        clip_id = stale_clips(lake, recipe(version="3"), 1)[0]["clip_id"]
        done = recaption(lake, store, recipe(version="3", refused=clip_id), 1, 10.0, "run", quiet)
        assert sum(done.values()) == 0
        refused.append(clip_id)
    assert refused[0] != refused[1]
    held = lake.rows("select item_id from videos.quarantine where reason = 'unfit' order by item_id")
    assert [row["item_id"] for row in held] == sorted(refused)
    recaption(lake, store, recipe(version="3"), 10_000, 10.0, "run", quiet)  # what is captioned later leaves quarantine
    assert lake.value("select count(*) from videos.quarantine") == 0


def test_the_run_says_what_improved_and_the_better_text_speaks(home, embedded_settings: Settings) -> None:
    lake, store, ids = home
    worst = recipe()
    recaption(lake, store, worst, 6, 10.0, "run", quiet)
    version = worst.version("merge")
    new = dict(zip(ids, (0.9, 0.9, 0.01, 0.0, 0.1), strict=False))
    score(lake, version, new)
    refresh(lake, embedded_settings)
    found = improvement(lake, "run")
    assert found.counts == {"better": 2, "worse": 2, "equal": 1, "unknown": 1}
    assert len(found.samples) == 4 and "re-captioned: 2 better" in found.lines()[0]
    assert f"old text of {ids[0]}" in found.markdown() and "0.900" in found.markdown()
    best = {
        row["clip_id"]: row["captioner"]
        for row in lake.rows("select clip_id, captioner from intermediate.best_captions")
    }
    assert [best[clip_id] for clip_id in ids[:4]] == ["writer", "writer", "old", "old"] and best[ids[5]] == "old"
    assert improvement(lake, "another run").lines() == ["re-captioned: no clip got a new text"]


def test_what_a_version_means_is_stored(home) -> None:
    lake, store, _ = home
    recaption(lake, store, recipe(), 5, 10.0, "run", quiet)
    recaption(lake, store, recipe(), 5, 10.0, "run", quiet)
    rows = lake.rows("select captioner_version, step, spec from captions.captioners order by step")
    assert [row["step"] for row in rows] == ["coarse", "fine", "merge"]
    merge = recipe()
    assert rows[2]["captioner_version"] == merge.version("merge") and merge.version("coarse") in rows[2]["spec"]


def test_wrong_budgets_and_empty_homes_are_told(home, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="budget = 0 must be at least 1"):
        stale_clips(home[0], recipe(), 0)
    with pytest.raises(ValueError, match="no clip has been scored yet"):
        stale_clips(Lake(Settings(home=tmp_path / "new")), recipe(), 1)
