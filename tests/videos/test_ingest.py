"""Sources of every kind become videos, quarantine rows or items that wait; nothing is lost, nothing is doubled."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from internvid_assets.captions.transcripts import Transcriber
from internvid_assets.lake import Lake, Replace, Write
from internvid_assets.settings import GateSettings, Settings
from internvid_assets.store import open_store
from internvid_assets.store.objects import s3_client
from internvid_assets.videos import ledger_queries as queries
from internvid_assets.videos.fetch import download as download_module
from internvid_assets.videos.ledger import utc_now
from internvid_assets.videos.sources import Source, discover
from tests.videos.homes import accounted_for, ingest, states, video_bytes, with_fetch
from tests.videos.media_server import MediaServer, Misdeed, Resource, serving
from tests.videos.test_sources import write_tar


@pytest.fixture
def web() -> Iterator[tuple[str, MediaServer]]:
    with serving() as found:
        yield found


@pytest.fixture
def home(embedded_settings: Settings) -> Iterator[tuple[Lake, Settings]]:
    lake = Lake(embedded_settings)
    yield lake, with_fetch(embedded_settings)
    lake.close()


def test_what_becomes_of_good_and_bad_addresses(web: tuple[str, MediaServer], home: tuple[Lake, Settings]) -> None:
    (address, server), (lake, settings) = web, home
    server.resources = {
        "/a.mp4": Resource(video_bytes(0)),
        "/copy.mp4": Resource(video_bytes(0)),
        "/moved.mp4": Resource(b"", always=Misdeed(302, {"Location": "/b.mp4"})),
        "/b.mp4": Resource(video_bytes(1)),
        "/secret.mp4": Resource(b"", always=Misdeed(403)),
        "/text.mp4": Resource(b"no video at all"),
        "/short.mp4": Resource(video_bytes(2, frames=10)),
        "/busy.mp4": Resource(video_bytes(3), always=Misdeed(503)),
        "/late.mp4": Resource(video_bytes(4), [Misdeed(500)]),
    }
    names = ("a", "copy", "moved", "secret", "text", "short", "busy", "late", "none")
    sources = [Source(f"{address}/{name}.mp4", title=name) for name in names]
    [result] = ingest(lake, settings, sources).values()
    wanted = {
        "a.mp4": ("held", None, 1),
        "copy.mp4": ("refused", "exact_duplicate", 1),
        "moved.mp4": ("held", None, 1),
        "secret.mp4": ("given_up", "forbidden", 1),
        "text.mp4": ("refused", "not_a_video", 1),
        "short.mp4": ("refused", "too_short", 1),
        "busy.mp4": ("retryable", "server_error", 1),
        "late.mp4": ("held", None, 1),
        "none.mp4": ("gone", "not_found", 1),
    }
    assert states(lake) == wanted
    accounted_for(lake)
    assert result.drops == {name: 1 for _, name, _ in wanted.values() if name}
    quarantined = {row["reason"] for row in lake.rows("select reason from videos.quarantine")}
    assert quarantined == {"exact_duplicate", "forbidden", "not_a_video", "too_short", "not_found"}
    assert lake.value("select title from videos.raw_videos where source_uri like '%/moved.mp4'") == "moved"
    held = lake.rows("select media_key, content_sha256 from videos.raw_videos")
    assert sorted(open_store(settings).keys("videos/")) == sorted(row["media_key"] for row in held)
    num_requests = len(server.seen)
    before = [lake.rows(f"select * from videos.{table} order by all") for table in ("raw_videos", "items", "attempts")]
    ingest(lake, settings, sources)  # nothing is due
    after = [lake.rows(f"select * from videos.{table} order by all") for table in ("raw_videos", "items", "attempts")]
    assert (after, len(server.seen)) == (before, num_requests)


def test_a_failure_waits_longer_each_time_and_is_given_up(
    web: tuple[str, MediaServer], embedded_settings: Settings
) -> None:
    address, server = web
    lake, settings = (
        Lake(embedded_settings),
        with_fetch(embedded_settings, max_tries=1, max_attempts=3, retry_minutes=10),
    )
    server.resources = {"/a.mp4": Resource(video_bytes(), always=Misdeed(500))}
    sources, pauses, since = [Source(f"{address}/a.mp4")], [], []
    for attempt in (1, 2, 3):
        ingest(lake, settings, sources)
        [item] = lake.rows("select * from videos.items")
        since.append(item["failing_since"])
        if attempt < 3:
            assert item["state"] == "retryable"
            pauses.append(item["next_retry_at"] - item["tried_at"])
            assert queries.make_due(lake, [], False, item["next_retry_at"] - timedelta(seconds=1)) == []
            assert len(queries.make_due(lake, [], False, item["next_retry_at"])) == 1
    assert pauses == [timedelta(minutes=10), timedelta(minutes=20)]
    assert states(lake) == {"a.mp4": ("given_up", "server_error", 3)} and len(set(since)) == 1
    accounted_for(lake)
    assert [row["attempt"] for row in lake.rows("select attempt from videos.attempts order by attempt")] == [1, 2, 3]
    server.resources["/a.mp4"].always = None
    assert queries.make_due(lake, [], True, utc_now()) == []  # given up: only by its class
    assert queries.make_due(lake, ["timeout"], True, utc_now()) == []
    assert len(queries.make_due(lake, ["server_error"], False, utc_now())) == 1
    ingest(lake, settings, sources)
    assert states(lake) == {"a.mp4": ("held", None, 4)}
    accounted_for(lake)
    with pytest.raises(ValueError, match="'nonsense' is none of"):
        queries.make_due(lake, ["nonsense"], False, utc_now())
    lake.close()


def test_a_host_that_asks_for_peace_gets_it_from_all_items(
    web: tuple[str, MediaServer], embedded_settings: Settings
) -> None:
    """Retry-After within the limit is waited for, beyond it everything of the host is put off, unasked."""
    address, server = web
    lake, settings = Lake(embedded_settings), with_fetch(embedded_settings, per_host=1)
    server.resources = {f"/{n}.mp4": Resource(video_bytes(n)) for n in range(4)}
    server.resources["/0.mp4"].misdeeds = [Misdeed(429, {"Retry-After": "1"})]
    sources = [Source(f"{address}/{n}.mp4") for n in range(4)]
    ingest(lake, settings, sources)
    assert set(states(lake).values()) == {("held", None, 1)}
    refused_at = server.seen[0].at
    assert all(seen.at >= refused_at + 1.0 for seen in server.seen[1:])
    server.resources |= {
        f"/late{n}.mp4": Resource(video_bytes(9), always=Misdeed(429, {"Retry-After": "3600"})) for n in range(5)
    }
    server.seen.clear()
    ingest(lake, settings, [Source(f"{address}/late{n}.mp4") for n in range(5)])
    assert len(server.seen) == 1
    waiting = lake.rows("select * from videos.items where state = 'retryable'")
    assert len(waiting) == 5 and all(row["failure"] == "rate_limited" for row in waiting)
    assert all(row["next_retry_at"] - row["tried_at"] > timedelta(seconds=3500) for row in waiting)
    assert sorted(row["num_attempts"] for row in waiting) == [0, 0, 0, 0, 1]
    accounted_for(lake)
    lake.close()


def test_a_host_is_asked_by_few_at_once_and_in_its_rhythm(
    web: tuple[str, MediaServer], embedded_settings: Settings
) -> None:
    address, server = web
    lake = Lake(embedded_settings)
    server.latency_seconds = 0.02
    server.resources = {f"/{n}.mp4": Resource(video_bytes(n % 3)) for n in range(12)}
    ingest(lake, with_fetch(embedded_settings, per_host=2, requests_per_second=20.0), [
        Source(f"{address}/{n}.mp4") for n in range(12)
    ])  # fmt: skip
    assert max(seen.at_once for seen in server.seen) <= 2
    times = sorted(seen.at for seen in server.seen)
    assert times[-1] - times[0] >= 11 / 20 - 0.05
    accounted_for(lake)
    lake.close()


def test_a_storm_loses_and_doubles_nothing(web: tuple[str, MediaServer], embedded_settings: Settings) -> None:
    address, server = web
    lake = Lake(embedded_settings)
    settings = with_fetch(embedded_settings, max_tries=1, per_host=16, max_attempts=50).model_copy(
        update={"batch_size": 10}
    )
    storm = [
        Misdeed(429),
        Misdeed(500),
        Misdeed(reset_after=4000),
        Misdeed(end_after=5000),
        Misdeed(503, {"Retry-After": "0"}),
    ]
    for n in range(40):
        server.resources[f"/{n}.mp4"] = Resource(video_bytes(n), [storm[(n + k) % 5] for k in range(n % 6)])
    sources = [Source(f"{address}/{n}.mp4") for n in range(40)]
    for _ in range(6):
        ingest(lake, settings, sources)
        accounted_for(lake)
        queries.make_due(lake, [], True, utc_now())
    assert {state for state, _, _ in states(lake).values()} == {"held"}
    assert lake.value("select count(distinct content_sha256) from videos.raw_videos") == 40
    asked = {name: len(server.requests(f"/{name}")) for name in states(lake)}
    assert asked == {name: attempts for name, (_, _, attempts) in states(lake).items()}
    assert len(server.seen) > 80
    keys = sorted(row["media_key"] for row in lake.rows("select media_key from videos.raw_videos"))
    assert list(open_store(settings).keys("videos/")) == keys
    lake.close()


def test_a_full_disk_fails_the_run_and_condemns_nothing(
    web: tuple[str, MediaServer], home: tuple[Lake, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    (address, server), (lake, settings) = web, home
    server.resources = {"/a.mp4": Resource(video_bytes())}

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(download_module, "_receive", full)
        with pytest.raises(OSError, match="No space left"):
            ingest(lake, settings, [Source(f"{address}/a.mp4")])
    assert states(lake) == {}
    ingest(lake, settings, [Source(f"{address}/a.mp4")])
    assert states(lake) == {"a.mp4": ("held", None, 1)}


def test_what_is_held_stays_when_its_source_goes(tmp_path: Path, home: tuple[Lake, Settings]) -> None:
    lake, settings = home
    path = tmp_path / "a.mp4"
    path.write_bytes(video_bytes())
    sources = list(discover([path]))
    ingest(lake, settings, sources)
    before = lake.rows("select * from videos.raw_videos")
    path.unlink()
    ingest(lake, settings, sources)
    assert lake.rows("select * from videos.raw_videos") == before and states(lake) == {"a.mp4": ("held", None, 1)}
    accounted_for(lake)


def test_another_gate_judges_again(web: tuple[str, MediaServer], home: tuple[Lake, Settings]) -> None:
    """What is held without asking its source, what was refused by asking again."""
    (address, server), (lake, settings) = web, home
    server.resources = {"/long.mp4": Resource(video_bytes(0)), "/short.mp4": Resource(video_bytes(1, frames=30))}
    sources = [Source(f"{address}/{name}.mp4") for name in ("long", "short")]
    ingest(lake, settings, sources)
    assert {state for state, _, _ in states(lake).values()} == {"held"}
    strict = settings.model_copy(update={"gate": GateSettings(min_lines=16, min_seconds=2)})
    ingest(lake, strict, sources)
    assert states(lake)["short.mp4"][:2] == ("refused", "too_short") and len(server.seen) == 2
    ingest(lake, settings, sources)
    assert states(lake)["short.mp4"][0] == "held" and len(server.seen) == 3
    accounted_for(lake)


def test_the_same_id_from_two_sources_is_one_video(tmp_path: Path, home: tuple[Lake, Settings]) -> None:
    lake, settings = home
    for seed, name in enumerate(("one [dQw4w9WgXcQ].mp4", "two [dQw4w9WgXcQ].mp4")):
        (tmp_path / name).write_bytes(video_bytes(seed))
    ingest(lake, settings, list(discover([tmp_path])))
    assert {state[:2] for state in states(lake).values()} == {("held", None), ("refused", "exact_duplicate")}
    assert lake.value("select detail from videos.quarantine").startswith("same id as")


def test_shards_and_their_subtitles(tmp_path: Path, home: tuple[Lake, Settings]) -> None:
    lake, settings = home
    subtitles = b"WEBVTT\n\n00:00.000 --> 00:02.000\nguten Tag\n"
    shard = write_tar(
        tmp_path / "0.tar",
        {"a.json": b'{"title": "T"}', "a.mp4": video_bytes(0), "a.de.vtt": subtitles, "b.mp4": video_bytes(1)},
    )
    ingest(lake, settings, list(discover([shard])))
    rows = lake.rows("select * from videos.raw_videos order by source_uri")
    assert [(row["title"], row["num_bytes"]) for row in rows] == [
        ("T", len(video_bytes(0))),
        (None, len(video_bytes(1))),
    ]
    store = open_store(settings)
    files = [store.local_path(key) for key in rows[0]["subtitle_keys"]]
    media = store.local_path(rows[0]["media_key"])
    [words] = Transcriber(None).words(Path(rows[0]["source_uri"]), media, [(0.0, 2.0)], False, False, files)
    assert (words.source, words.text, words.language) == ("subtitles", "guten Tag", "de")
    shard.unlink()
    ingest(lake, settings, [Source(f"{shard}#a.mp4"), Source(f"{shard}#c.mp4")])
    assert {name: state[:2] for name, state in states(lake).items()} == {
        "0.tar#a.mp4": ("held", None), "0.tar#b.mp4": ("held", None), "0.tar#c.mp4": ("gone", "gone"),
    }  # fmt: skip


def test_s3_objects_with_a_store_in_s3(cluster_settings: Settings) -> None:
    client, prefix = s3_client(cluster_settings.s3), f"in-{cluster_settings.media_uri.split('/')[3]}"
    for n in range(3):
        client.put_object(Bucket="internvid", Key=f"{prefix}/{n}.mp4", Body=video_bytes(n))
    client.put_object(Bucket="internvid", Key=f"{prefix}/0.en.srt", Body=b"1\n00:00:00,000 --> 00:00:01,000\nhi\n")
    lake, settings = Lake(cluster_settings), with_fetch(cluster_settings)
    sources = [*discover([f"s3://internvid/{prefix}/"], settings), Source(f"s3://internvid/{prefix}/none.mp4")]
    for _ in range(2):
        ingest(lake, settings, sources)
        assert {state for state, _, _ in states(lake).values()} == {"held", "gone"}
        accounted_for(lake)
    [with_words] = lake.rows("select * from videos.raw_videos where source_uri like '%/0.mp4'")
    assert open_store(settings).get_bytes(with_words["subtitle_keys"][0]).endswith(b"hi\n")
    lake.close()


def test_availability_says_what_is_gone_since_when(
    web: tuple[str, MediaServer], home: tuple[Lake, Settings], tmp_path: Path
) -> None:
    (address, server), (lake, settings) = web, home
    server.resources = {"/a.mp4": Resource(video_bytes()), "/busy.mp4": Resource(b"", always=Misdeed(500))}
    sources = [Source(f"{address}/{name}.mp4") for name in ("a", "busy", "gone")]
    ingest(lake, settings, sources)
    first = {row["source_uri"]: row for row in queries.availability(lake)}
    assert set(first) == {f"{address}/busy.mp4", f"{address}/gone.mp4"}
    queries.make_due(lake, ["not_found", "server_error"], True, utc_now())
    ingest(lake, settings, sources)
    for row in queries.availability(lake):
        assert row["failing_since"] == first[row["source_uri"]]["failing_since"] < row["tried_at"]
        assert row["num_attempts"] == 2
    lines = queries.availability_lines(lake)
    assert lines[0] == "1 videos held; not to be had: 1 gone, 1 retryable"
    assert queries.write_availability(lake, tmp_path / "gone.csv") == 2
    assert (tmp_path / "gone.csv").read_text().count("not_found") == 1
    assert queries.summary_lines(lake)[0] == "items    held 1, retryable 1 (server_error 1), gone 1 (not_found 1)"


def test_an_interrupted_retry_is_still_pending(home: tuple[Lake, Settings]) -> None:
    lake, _ = home
    row = {"batch": "b", "source_uri": "http://h/a", "state": "pending", "failure": "timeout", "num_attempts": 1}
    lake.commit(Write("videos.items", "t"), [Replace("videos.items", lake.to_arrow("videos.items", [row]))])
    assert queries.make_due(lake, [], False, utc_now()) == ["b"]
    assert queries.due_batches(lake, utc_now()) == [("b", 1)]
