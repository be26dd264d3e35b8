"""The endpoint backend: prompts, refusals, resuming, and kill -9 in the middle of a batch, against a real server."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from internvid_assets.captions.answers import AnswerLog
from internvid_assets.captions.base import ClipInput, CoarseCaption, FineCaption, MergeInput
from internvid_assets.captions.chat_client import EndpointError
from internvid_assets.captions.endpoint import COARSE_PROMPT, EndpointCaptioner
from internvid_assets.clips.frames import FrameSource
from internvid_assets.lake import Lake
from internvid_assets.lake.stage import Refusal
from internvid_assets.settings import Settings
from internvid_assets.store import open_store
from tests.captions.chat_server import Behaviour, good, serving
from tests.captions.homes import make_home


@pytest.fixture
def clips(embedded_settings: Settings) -> list[ClipInput]:
    lake, store = Lake(embedded_settings), open_store(embedded_settings)
    ids = make_home(lake, store, 1, 4, second_frames=3)
    return [ClipInput(frames) for frames in FrameSource(lake, store).of_clips(ids)]


def merge_input(clip_id: str, *texts: str, transcript: str = "") -> MergeInput:
    return MergeInput(clip_id, CoarseCaption(texts[0]), FineCaption((), ()), transcript, texts=texts)


def test_every_step_asks_with_its_prompt(clips: list[ClipInput]) -> None:
    with serving(Behaviour()) as (url, server):
        captioner = EndpointCaptioner(url=url, fine_prompt="Tags, please.", merge_prompt="Join {texts} {as json}")
        coarse, fine = dict(captioner.coarse(clips)), dict(captioner.fine(clips))
        merged = dict(captioner.merge([merge_input("c", "a cat", "a mat", transcript="meow")]))
    assert len(coarse) == len(fine) == 4 and len({c.text for c in coarse.values()}) == 4
    assert all(len(f.frame_texts) == len(f.frame_seconds) == 3 and len(set(f.frame_texts)) == 3 for f in fine.values())
    assert isinstance(merged["c"], str)
    joined = 'Join - a cat\n- a mat\n- Someone says: "meow" {as json}'
    assert server.seen.prompts == {COARSE_PROMPT, "Tags, please.", joined}
    assert captioner.spent() == {"requests": 17, "prompt_tokens": 7 * 17, "completion_tokens": 2 * 17}
    assert captioner.spent() == {}


def test_money_is_counted_where_prices_are_set(clips: list[ClipInput]) -> None:
    with serving(Behaviour()) as (url, _):
        captioner = EndpointCaptioner(url=url, prompt_price="1000000", completion_price="10")
        list(captioner.coarse(clips[:1]))
    assert captioner.spent()["money"] == pytest.approx(7 + 2 * 10 / 1e6)


def test_refusals_empty_texts_and_cut_sentences_are_judged(clips: list[ClipInput]) -> None:
    script = [
        good("I'm sorry, but I can't help with that."),
        good("  "),
        good("A man rides. He is ab", "length"),
        good("A cat"),
    ]
    with serving(Behaviour(script=[(200, {}, body) for body in script])) as (url, _):
        results = dict(EndpointCaptioner(url=url, concurrency="1").coarse(clips))
    found = [r.reason if isinstance(r, Refusal) else r.text for r in results.values()]
    assert found == ["model_refused", "empty_text", "A man rides.", "A cat"]


def test_one_refused_frame_refuses_the_clip_and_only_it_is_asked_again(
    clips: list[ClipInput], embedded_settings: Settings
) -> None:
    store = open_store(embedded_settings)
    with serving(Behaviour(script=[(200, {}, good("a cat")), (400, {}, "cannot read")])) as (url, server):
        captioner = EndpointCaptioner(url=url, concurrency="1")
        for expected in (Refusal, FineCaption):
            with AnswerLog(store, "answers/fine") as captioner.answers:
                [(_, result)] = captioner.fine(clips[:1])
                assert isinstance(result, expected)
        assert server.seen.requests == 4 and result.frame_texts[0] == "a cat"


def test_the_version_is_what_decides_the_text() -> None:
    def versions(**options: str) -> list[dict]:
        return [EndpointCaptioner(**options).spec(step) for step in ("coarse", "fine", "merge")]

    same = versions()
    assert versions(url="http://other/v1", concurrency="9", timeout_seconds="5", prompt_price="3") == same
    for option, changed in {
        "model": (1, 1, 1), "revision": (1, 1, 1), "max_tokens": (1, 1, 1), "temperature": (1, 1, 1),
        "coarse_prompt": (1, 0, 0), "fine_prompt": (0, 1, 0), "merge_prompt": (0, 0, 1), "max_second_frames": (0, 1, 0),
    }.items():  # fmt: skip
        value = {"max_tokens": "9", "temperature": "1", "max_second_frames": "3"}.get(option, "say {texts}")
        assert tuple(int(a != b) for a, b in zip(versions(**{option: value}), same, strict=True)) == changed, option


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("concurrency", "0"),
        ("max_tries", "many"),
        ("timeout_seconds", "nan"),
        ("merge_prompt", "no place"),
        ("temperature", "-1"),
    ],
)
def test_wrong_options_are_named(option: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{option} = '{value}' must"):
        EndpointCaptioner(**{option: value})


def test_a_server_that_is_gone_is_an_error_not_a_thousand_refusals(clips: list[ClipInput]) -> None:
    with pytest.raises(EndpointError, match="does not answer"):
        list(EndpointCaptioner(url="http://127.0.0.1:9/v1", max_tries="1").coarse(clips))


PROGRAM = """
import sys
from pathlib import Path
from internvid_assets.captions import write
from internvid_assets.captions.recipe import load_recipe
from internvid_assets.lake import Lake
from internvid_assets.lake.stage import with_snapshots
from internvid_assets.settings import CaptionSettings, Settings
from internvid_assets.store import open_store

home, url = Path(sys.argv[1]), sys.argv[2]
settings = Settings(home=home, captions=CaptionSettings(backend="endpoint", options={"url": url, "concurrency": "16"}))
lake, store, recipe = Lake(settings), open_store(settings), load_recipe(settings.captions)
print("ready", flush=True)
for table, make in (
    ("coarse_captions", write.coarse_parts), ("fine_captions", write.fine_parts), ("captions", write.merge_parts)
):
    for read, part in with_snapshots(lake, make(lake, store, recipe, "b", lambda items, *_, **__: items)):
        lake.commit(part.write(f"captions.{table}", "run", "b", read, []), part.changes)
print("done", flush=True)
"""


def test_killed_anywhere_every_clip_is_captioned_once_and_no_old_answer_is_paid_twice(
    tmp_path: Path,
) -> None:
    settings, num_clips, chance = Settings(home=tmp_path), 300, random.Random(7)
    lake, store = Lake(settings), open_store(settings)
    make_home(lake, store, 3, num_clips // 3)
    lake.close()
    kills: list[float] = []
    with serving(Behaviour(latency_seconds=0.12)) as (url, server):
        for _ in range(30):
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(tmp_path), url], stdout=subprocess.PIPE, text=True
            )
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            try:
                process.wait(timeout=chance.uniform(1.0, 6.0))
                break
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                kills.append(time.monotonic())
                process.wait()
        assert process.returncode == 0 and process.stdout.read() == "done\n" and len(kills) >= 2
    counts = {
        table: lake.rows(f"select count(*) as rows, count(distinct clip_id) as clips from captions.{table}")[0]
        for table in ("coarse_captions", "fine_captions", "captions")
    }
    assert all(count == {"rows": num_clips, "clips": num_clips} for count in counts.values()), counts
    needed = num_clips * (1 + 2 + 1)
    assert len(server.seen.answered) == needed
    lost = [at for key, times in server.seen.answered_at.items() for at in times[:-1]]
    under_way = 0.5  # the server still answers what a dead process had asked
    for at in lost:
        assert any(-under_way < kill - at < 2.0 for kill in kills), f"lost: answered {at}, killed {kills}"
    paid = lake.value("select sum(amount) from lineage.costs where item = 'completion_tokens'")
    assert paid <= 2 * server.seen.requests
    assert list(store.keys("answers/")) == []
