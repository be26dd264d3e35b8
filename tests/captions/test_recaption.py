"""Incremental re-captioning on a small home: order, budgets, interruption, old texts."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from internvid_assets.captions import recaption as module
from internvid_assets.captions.base import ClipInput, CoarseCaption, FineCaption, MergeInput
from internvid_assets.captions.recaption import recaption, stale_clips
from internvid_assets.demo.render import render_corpus
from internvid_assets.lake import Lake
from internvid_assets.lake.stage import Refusal
from internvid_assets.settings import Settings
from internvid_assets.store import open_store


@dataclass
class Writer:
    """A captioner that says what it is told."""

    name: str = "writer"
    version: str = "1"
    refused: str = ""

    def coarse(self, clips: Sequence[ClipInput]) -> list[CoarseCaption | Refusal]:
        return [
            Refusal("unfit", "no") if c.frames.clip_id == self.refused else CoarseCaption("coarse", (), ())
            for c in clips
        ]

    def fine(self, clips: Sequence[ClipInput]) -> list[FineCaption | Refusal]:
        return [FineCaption((0.0,), ("fine",), "", "") for _ in clips]

    def merge(self, clips: Sequence[MergeInput]) -> list[str | Refusal]:
        return [f"new text of {c.clip_id}" for c in clips]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    folder = tmp_path_factory.mktemp("recaption")
    render_corpus(folder / "corpus", seed=5, scale=0.02)
    program = [sys.executable, "-c", "from internvid_assets.cli import main; main()", "run"]
    arguments = [folder / "corpus" / "videos", "--home", folder / "home", "--until", "internvid_icl"]
    subprocess.run([*program, *map(str, arguments)], check=True, capture_output=True, timeout=600)
    yield Settings(home=folder / "home")


def quiet(items, *_, **__):
    return items


def test_a_budget_takes_the_worst_described_first_and_keeps_old_texts(home: Settings) -> None:
    lake, store = Lake(home), open_store(home)
    before = lake.rows("select * from captions.captions order by clip_id")
    worst = lake.rows("select clip_id from staging.stg_captions order by similarity, clip_id limit 5")
    before_id = lake.snapshot_id()
    done = recaption(lake, store, Writer(), 5, 10.0, "run", quiet)
    assert sum(done.values()) == 5
    new = lake.rows("select clip_id, text from captions.captions where captioner = 'writer'")
    assert {row["clip_id"] for row in new} == {row["clip_id"] for row in worst}
    assert lake.rows("select * from captions.captions where captioner <> 'writer' order by clip_id") == before
    written = lake.rows(
        "select drops, num_out from lineage.materializations where run_id = 'run' and asset = 'captions.captions'"
    )
    assert sum(row["num_out"] for row in written) == 5
    seen = lake.rows(
        "select asset, read_snapshot_id from lineage.materializations where run_id = 'run' order by written_at"
    )
    assert [row["read_snapshot_id"] for row in seen] == [before_id + i for i in range(3)]  # what each write had read
    num_clips = lake.value("select count(*) from clips.clips")
    assert len(stale_clips(lake, Writer(), 10_000)) == num_clips - 5


def test_time_is_a_budget_too_and_the_next_run_goes_on(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 4)
    lake, store, captioner = Lake(home), open_store(home), Writer(version="2")
    num_clips = len(stale_clips(lake, captioner, 10_000))
    ticks = itertools.chain([0.0, 1.0, 2.0], itertools.repeat(61.0))  # the start, then before each chunk
    assert sum(recaption(lake, store, captioner, 10_000, 1.0, "run", quiet, lambda: next(ticks)).values()) == 8
    assert len(stale_clips(lake, captioner, 10_000)) == num_clips - 8
    recaption(lake, store, captioner, 10_000, 10.0, "run", quiet)
    assert stale_clips(lake, captioner, 10_000) == []


def test_a_refused_clip_is_quarantined_and_does_not_hold_up_the_rest(home: Settings) -> None:
    lake, store = Lake(home), open_store(home)
    refused = []
    for _ in range(2):
        clip = stale_clips(lake, Writer(version="3"), 1)[0]["clip_id"]
        done = recaption(lake, store, Writer(version="3", refused=clip), 1, 10.0, "run", quiet)
        assert sum(done.values()) == 0
        refused.append(clip)
    found = lake.rows("select item_id from videos.quarantine where stage = 'coarse_captions' and reason = 'unfit'")
    assert sorted(row["item_id"] for row in found) == sorted(refused)
    assert {row["clip_id"] for row in stale_clips(lake, Writer(version="3"), 10_000)[-2:]} == set(refused)


def test_a_home_without_scores_says_what_to_do_first(embedded_settings: Settings) -> None:
    with pytest.raises(ValueError, match="no clip has been scored yet"):
        stale_clips(Lake(embedded_settings), Writer(), 5)


def test_no_budget_is_refused(home: Settings) -> None:
    with pytest.raises(ValueError, match="budget = 0 must be at least 1"):
        stale_clips(Lake(home), Writer(), 0)
