"""The review page over real HTTP: what is drawn, what is judged, the precision that follows."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import cv2
import httpx
import numpy as np
import pytest
import uvicorn

from internvid_assets.captions.review import draw_sample, precision_lines, precisions, record_verdict
from internvid_assets.captions.review_page import Review, review_app
from internvid_assets.lake import Lake
from internvid_assets.settings import Settings
from internvid_assets.store import ObjectStore, open_store
from tests.captions.homes import make_home, put

NUM_CLIPS = 40


@pytest.fixture
def home(embedded_settings: Settings) -> tuple[Lake, ObjectStore]:
    lake, store = Lake(embedded_settings), open_store(embedded_settings)
    clip_ids = make_home(lake, store, 1, NUM_CLIPS)
    put(lake, "captions.captions", [
        {"batch": "b", "clip_id": c, "captioner": "writer", "captioner_version": version, "text": f"a <cat> {version}"}
        for c in clip_ids for version in ("v1", "v2")
    ])  # fmt: skip
    put(lake, "captions.coarse_captions", [
        {"batch": "b", "clip_id": c, "captioner": "writer", "captioner_version": "c1", "text": "seen in the middle"}
        for c in clip_ids
    ])  # fmt: skip
    return lake, store


@pytest.fixture
def address(home: tuple[Lake, ObjectStore]) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(review_app(Review(*home, "v1", 3, 0, "ann")), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_pairs_are_judged_one_after_the_other(home: tuple[Lake, ObjectStore], address: str) -> None:
    with httpx.Client(base_url=address, follow_redirects=True) as browser:
        first = browser.get("/")
        assert first.url.path == "/pair/0" and "a &lt;cat&gt; v1" in first.text and "seen in the middle" in first.text
        assert "/videos/0.mp4" in first.text and "nothing judged yet" in first.text
        picture = browser.get("/frames/0.jpg")
        assert cv2.imdecode(np.frombuffer(picture.content, np.uint8), cv2.IMREAD_COLOR).shape[1] == 2 * 320
        assert browser.post("/pair/0", data={"verdict": "accept"}).url.path == "/pair/1"
        assert browser.post("/pair/1", data={"verdict": "reject"}).url.path == "/pair/2"
        assert "0.50" in browser.get("/").text and browser.get("/").url.path == "/pair/2"
        browser.post("/pair/1", data={"verdict": "accept"})  # a change of mind
        assert 'class="verdict">accepted' in browser.get("/pair/1").text
        assert "whole sample" in browser.post("/pair/2", data={"verdict": "accept"}).text
        assert browser.post("/pair/0", data={"verdict": "maybe"}).status_code == 400
        assert browser.post("/pair/99", data={"verdict": "accept"}).status_code == 400
        assert browser.get("/frames/99.jpg").status_code == 404
    lake = home[0]
    assert lake.value("select count(*) from captions.reviews") == 4  # nothing is overwritten
    [row] = precisions(lake)
    assert (row["captioner_version"], row["num"], row["num_accepted"], row["num_reviewers"]) == ("v1", 3, 3, 1)
    assert row["precision"] == 1.0 and row["low"] == pytest.approx(0.4385, abs=1e-4) and row["high"] == 1.0


def test_the_sample_is_uniform_repeatable_and_of_one_version(home: tuple[Lake, ObjectStore]) -> None:
    lake = home[0]
    drawn = [[pair["clip_id"] for pair in draw_sample(lake, "v2", 10, seed)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and len(set(drawn[0])) == 10
    counts = dict.fromkeys((pair["clip_id"] for pair in draw_sample(lake, "v2", NUM_CLIPS, 0)), 0)
    for seed in range(200):
        for pair in draw_sample(lake, "v2", 10, seed):
            counts[pair["clip_id"]] += 1
    assert len(counts) == NUM_CLIPS and min(counts.values()) > 20 and max(counts.values()) < 90  # 50 expected
    assert all(pair["captioner_version"] == "v2" for pair in draw_sample(lake, "v2", 99, 0))
    with pytest.raises(ValueError, match=r"no caption is by version v9: .*v1 \(writer, 40 captions\)"):
        draw_sample(lake, "v9", 1, 0)


def test_reviewers_count_separately_and_their_newest_word_counts(home: tuple[Lake, ObjectStore]) -> None:
    lake = home[0]
    assert precision_lines(precisions(lake)) == ["nothing has been reviewed yet"]
    pairs = draw_sample(lake, "v1", 2, 0)
    for reviewer, verdicts in (("ann", ["accept", "reject"]), ("bob", ["reject", "reject"])):
        for pair, verdict in zip(pairs, verdicts, strict=True):
            record_verdict(lake, pair, reviewer, "seed 0", verdict)
    record_verdict(lake, pairs[1], "ann", "seed 1", "accept")
    [row] = precisions(lake)
    assert (row["num"], row["num_accepted"], row["num_reviewers"]) == (4, 2, 2)
    assert "2 of 4 accepted, precision 0.50" in precision_lines([row])[0]
