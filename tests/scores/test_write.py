"""A batch is scored in parts: bounded, once, by what each scorer reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from internvid_assets.lake import Lake
from internvid_assets.lake.stage import Refusal, StageResult
from internvid_assets.scores import todo, write
from internvid_assets.scores.base import Reads, ScoreItem, Scorer, load_scorer, load_scorers
from internvid_assets.scores.write import score_parts
from internvid_assets.settings import ScoreSettings, Settings
from internvid_assets.store import ObjectStore, open_store
from tests.captions.homes import make_home, put
from tests.scores.tiny_models import saved


@dataclass
class Counting(Scorer):
    """Gives each item the number of its letters or frames, and remembers what it was shown."""

    name: str = "similarity"  # type: ignore[misc]
    reads: Reads = Reads.FRAMES | Reads.CAPTION  # type: ignore[misc]
    version: str = "1"  # type: ignore[assignment]
    refused: str = ""
    backend: ClassVar[str] = "counting"
    shown: list[ScoreItem] = field(default_factory=list)

    def score(self, items: Sequence[ScoreItem]) -> list[float | Refusal]:
        """See the class."""
        self.shown += items
        return [self._one(item) for item in items]

    def _one(self, item: ScoreItem) -> float | Refusal:
        if item.frames and item.frames.clip_id == self.refused:
            return Refusal("unfit", "no")
        return float(len(item.caption or "")) + (len(item.frames.uniform) if item.frames else 0)


def picture(**more: Any) -> Counting:
    return Counting("aesthetic", Reads.FRAMES, **more)


def words(**more: Any) -> Counting:
    return Counting("caption_loops", Reads.CAPTION, **more)


@pytest.fixture
def home(embedded_settings: Settings) -> Iterator[tuple[Lake, ObjectStore, list[str]]]:
    """Three videos of eight clips; each clip has two captions."""
    lake, store = Lake(embedded_settings), open_store(embedded_settings)
    clips = make_home(lake, store, 3, 8)
    rows = [
        {"batch": "b", "clip_id": clip, "captioner": "tiny", "captioner_version": version, "text": f"{version} {clip}"}
        for clip in clips
        for version in ("v1", "v22")
    ]
    put(lake, "captions.captions", rows)
    yield lake, store, clips
    lake.close()


def quiet(items, *_, **__):
    return items


def store_parts(lake: Lake, parts: Iterator[StageResult]) -> list[StageResult]:
    """Store each part before the next is made."""
    told = []
    for part in parts:
        lake.commit(part.write("scores.clip_scores", "run", "b", lake.snapshot_id(), []), part.changes)
        told.append(part)
    return told


def count(lake: Lake) -> int:
    return lake.value("select count(*) from scores.clip_scores")


def test_every_clip_and_caption_gets_its_number_once(home) -> None:
    lake, store, clips = home
    scorers = [Counting(), picture(), words()]
    told = store_parts(lake, score_parts(lake, store, scorers, "b", quiet))
    assert sum(part.num_out for part in told) == count(lake) == 24 * (2 + 1 + 2)
    assert told[0].metadata == {"num_aesthetic": 24, "num_caption_loops": 48, "num_similarity": 48}
    row = lake.rows(
        "select * from scores.clip_scores where scorer = 'similarity' and captioner_version = 'v22' order by clip_id limit 1"
    )[0]
    assert row == {
        "batch": "b", "clip_id": clips[0], "captioner": "tiny", "captioner_version": "v22", "scorer": "similarity",
        "scorer_backend": "counting", "scorer_version": "1", "value": 4.0 + len(clips[0]) + 2,
    }  # fmt: skip
    assert (
        lake.value("select count(*) from scores.clip_scores where (captioner is null) <> (scorer = 'aesthetic')") == 0
    )
    again = [Counting(), picture(), words()]
    assert list(score_parts(lake, store, again, "b", quiet)) == [] and not any(s.shown for s in again)
    assert count(lake) == 120


def test_parts_are_bounded_and_a_clip_lies_in_one(home, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, store, clips = home
    monkeypatch.setattr(write, "_MAX_ROWS", 20)
    monkeypatch.setattr(write, "_CHUNK", 3)
    monkeypatch.setattr(todo, "_GROUP", 10)
    scorer = Counting()
    parts = score_parts(lake, store, [scorer, picture(), words()], "b", quiet)
    first = next(parts)
    assert first.num_out == 20 and len(scorer.shown) <= 20  # what is not yet wanted is not yet made
    told = [first, *parts]
    assert [part.num_out for part in told] == [20] * 6
    held = [set(part.changes[0].rows["clip_id"].to_pylist()) for part in told]  # type: ignore[union-attr]
    assert set.union(*held) == set(clips) and sum(map(len, held)) == len(clips)


def test_a_killed_run_goes_on_behind_the_last_stored_part(home, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, store, _ = home
    monkeypatch.setattr(write, "_MAX_ROWS", 10)
    monkeypatch.setattr(write, "_CHUNK", 2)
    store_parts(lake, iter([next(score_parts(lake, store, [picture()], "b", quiet))]))
    assert count(lake) == 10
    scorer = picture()
    store_parts(lake, score_parts(lake, store, [scorer], "b", quiet))
    assert count(lake) == 24 and len(scorer.shown) == 14


def test_scorers_of_texts_open_no_frame_pack(home) -> None:
    lake, store, _ = home
    for key in list(store.keys("packs/")):
        store.delete(key)
    texts = [load_scorer(name, "embedded") for name in ("caption_loops", "caption_refusal", "caption_language")]
    told = store_parts(lake, score_parts(lake, store, texts, "b", quiet))
    assert sum(part.num_out for part in told) == count(lake) == 3 * 48
    with pytest.raises(FileNotFoundError):
        list(score_parts(lake, store, [*texts, picture()], "b", quiet))


def test_frames_are_read_only_for_clips_that_lack_such_a_score(home) -> None:
    lake, store, clips = home
    store_parts(lake, score_parts(lake, store, [picture()], "b", quiet))
    new = {"batch": "b", "clip_id": clips[0], "captioner": "tiny", "captioner_version": "v3", "text": "new"}
    store_parts(lake, score_parts(lake, store, [Counting()], "b", quiet))
    put(lake, "captions.captions", [new])
    for key in list(store.keys("packs/"))[1:]:
        store.delete(key)
    scorers = [Counting(), picture(), words()]
    store_parts(lake, score_parts(lake, store, scorers, "b", quiet))
    assert [len(scorer.shown) for scorer in scorers] == [1, 0, 49]
    assert all(item.frames is None for item in scorers[2].shown)


def test_versions_live_side_by_side(home) -> None:
    lake, store, _ = home
    store_parts(lake, score_parts(lake, store, [words()], "b", quiet))
    before = lake.rows("select * from scores.clip_scores order by all")
    store_parts(lake, score_parts(lake, store, [words(version="2")], "b", quiet))
    assert lake.rows("select * from scores.clip_scores where scorer_version = '1' order by all") == before
    assert lake.value("select count(*) from scores.clip_scores where scorer_version = '2'") == len(before)


def test_a_refusal_is_kept_until_it_is_taken_back(home) -> None:
    lake, store, clips = home
    others = {"batch": "b", "stage": "scores", "item_id": "elsewhere", "reason": "unfit", "detail": "no"}
    put(lake, "videos.quarantine", [others, {**others, "stage": "captions", "item_id": clips[3]}])
    told = store_parts(lake, score_parts(lake, store, [picture(refused=clips[3])], "b", quiet))
    assert told[0].drops == {"unfit": 1} and count(lake) == 23
    refused = "select item_id, stage from videos.quarantine order by all"
    kept = [(clips[3], "captions"), (clips[3], "scores"), ("elsewhere", "scores")]
    assert [tuple(row.values()) for row in lake.rows(refused)] == sorted(kept)
    store_parts(lake, score_parts(lake, store, [picture(refused=clips[3])], "b", quiet))
    assert len(lake.rows(refused)) == 3
    store_parts(lake, score_parts(lake, store, [picture()], "b", quiet))
    assert [tuple(row.values()) for row in lake.rows(refused)] == sorted([kept[0], kept[2]]) and count(lake) == 24
    assert list(score_parts(lake, store, [picture()], "b", quiet)) == []


def test_the_texts_behind_a_caption_are_those_of_its_recipe(home) -> None:
    lake, store, clips = home
    keyed = {"batch": "b", "clip_id": clips[0], "captioner": "part"}
    coarse = [{**keyed, "captioner_version": v, "text": f"coarse {v}"} for v in ("c1", "c2")]
    fine = {**keyed, "captioner_version": "f1", "frame_texts": ["one", "two", "one"], "motion_text": "it moves"}
    spec = {"coarse_version": "c2", "fine_version": "f1"}
    put(lake, "captions.coarse_captions", coarse)
    put(lake, "captions.fine_captions", [fine])
    captioner = {"captioner": "tiny", "captioner_version": "v1", "step": "merge", "spec": json.dumps(spec)}
    put(lake, "captions.captioners", [captioner, {**captioner, "step": "coarse", "spec": "{}"}])
    scorer = Counting("scale_agreement", Reads.CAPTION | Reads.SOURCES)
    store_parts(lake, score_parts(lake, store, [scorer], "b", quiet))
    assert [item.sources for item in scorer.shown] == [("coarse c2", "one", "two", "it moves")]
    assert [row["captioner_version"] for row in lake.rows("select * from scores.clip_scores")] == ["v1"]
    assert list(score_parts(lake, store, [scorer], "b", quiet)) == []


def test_a_batch_without_clips_gives_no_part(home) -> None:
    lake, store, _ = home
    assert list(score_parts(lake, store, [Counting(), words()], "empty", quiet)) == []


def test_the_newest_checkpoint_scores(home, tmp_path: Path) -> None:
    lake, store, clips = home
    chosen = ScoreSettings(
        **{**dict.fromkeys(ScoreSettings.model_fields, "none"), "similarity": "viclip", "options": {}}
    )
    settings = lake.settings.model_copy(update={"scores": chosen})
    with pytest.raises(ValueError, match="none was trained yet: score with another backend first"):
        print(load_scorers(settings, lake, store)[0].version)
    with pytest.raises(ValueError, match="known only with a lake"):
        print(load_scorers(settings)[0].version)
    scores = {}
    for seed, role in ((9, "viclip"), (1, "viclip"), (5, "control")):
        folder = saved("viclip", tmp_path / str(seed), seed)
        store.put_folder(f"checkpoints/{seed}", folder)
        row = {
            "checkpoint_id": str(seed),
            "role": role,
            "checkpoint_key": f"checkpoints/{seed}",
            "weights_sha256": f"{seed}",
        }
        put(lake, "viclip.viclip_checkpoint", [row])
        by_path = load_scorer("similarity", "viclip", {"checkpoint": str(folder)})
        scores[seed] = by_path.score([item_of(lake, store, clips[0])])[0]
    lake.maintain(0.0)
    scorer = load_scorers(settings, lake, store)[0]
    assert scorer.score([item_of(lake, store, clips[0])])[0] == pytest.approx(scores[1]) != pytest.approx(scores[9])


def item_of(lake: Lake, store: ObjectStore, clip: str) -> ScoreItem:
    from internvid_assets.clips.frames import FrameSource

    return ScoreItem(next(FrameSource(lake, store).of_clips([clip])), "a red circle moves")


def test_all_embedded_scores_of_a_small_home(home) -> None:
    lake, store, _ = home
    store_parts(lake, score_parts(lake, store, load_scorers(Settings(), lake, store), "b", quiet))
    found = lake.rows("select scorer, count(*) as num from scores.clip_scores group by scorer order by 1")
    of_clips = dict.fromkeys(["aesthetic", "nsfw", "overlay_text"], 24)
    of_texts = dict.fromkeys(["caption_language", "caption_loops", "caption_refusal", "similarity"], 48)
    assert {row["scorer"]: row["num"] for row in found} == of_clips | of_texts
