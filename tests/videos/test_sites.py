"""yt-dlp over real HTTP: pages, playlists, metadata, subtitles, failures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from internvid_assets.lake import Lake
from internvid_assets.settings import FetchSettings, Settings
from internvid_assets.videos import site_lists
from internvid_assets.videos.fetch.failures import FetchFailure
from internvid_assets.videos.fetch.site import fetch_site_video, has_extractor, site_metadata
from internvid_assets.videos.queries import search_queries, write_searches
from internvid_assets.videos.sources import Source, SourceError, discover
from tests.videos.homes import accounted_for, ingest, states, video_bytes, with_fetch
from tests.videos.media_server import MediaServer, Misdeed, Resource, serving

PAGE = (
    b'<html><head><title>A page</title><meta name="description" content="of words"></head><body>'
    b'<video src="/v.mp4"></video></body></html>'
)


@pytest.fixture
def web() -> Iterator[tuple[str, MediaServer]]:
    with serving() as found:
        yield found


def test_a_page_gives_its_video(web: tuple[str, MediaServer], embedded_settings: Settings) -> None:
    address, server = web
    server.resources = {
        "/watch": Resource(PAGE, content_type="text/html"),
        "/empty": Resource(b"<html><body>nothing</body></html>", content_type="text/html"),
        "/v.mp4": Resource(video_bytes()),
    }
    lake, settings = Lake(embedded_settings), with_fetch(embedded_settings)
    ingest(lake, settings, [Source(f"{address}/watch"), Source(f"{address}/empty")])
    assert states(lake) == {"watch": ("held", None, 1), "empty": ("given_up", "unsupported", 1)}
    accounted_for(lake)
    assert lake.value("select num_bytes from videos.raw_videos") == len(video_bytes())
    lake.close()


@pytest.mark.parametrize(
    ("misdeed", "name"),
    [
        (Misdeed(404), "not_found"),
        (Misdeed(429), "rate_limited"),
        (Misdeed(403), "rate_limited"),
        (Misdeed(503), "server_error"),
    ],
)
def test_a_site_that_refuses_has_a_class(
    web: tuple[str, MediaServer], tmp_path: Path, misdeed: Misdeed, name: str
) -> None:
    address, server = web
    server.resources = {"/watch": Resource(PAGE, content_type="text/html"), "/v.mp4": Resource(b"", always=misdeed)}
    with pytest.raises(FetchFailure) as caught:
        fetch_site_video(f"{address}/watch", tmp_path, FetchSettings(idle_seconds=2), "en")
    assert caught.value.name == name


def test_what_broke_off_goes_on(web: tuple[str, MediaServer], tmp_path: Path) -> None:
    address, server = web
    server.resources = {
        "/watch": Resource(PAGE, content_type="text/html"),
        "/v.mp4": Resource(video_bytes(), [Misdeed(reset_after=5000)]),
    }
    with pytest.raises(FetchFailure) as caught:
        fetch_site_video(f"{address}/watch", tmp_path, FetchSettings(idle_seconds=2), "en")
    assert caught.value.name in ("connection", "wrong_length")
    video = fetch_site_video(f"{address}/watch", tmp_path, FetchSettings(idle_seconds=2), "en")
    assert video.path.read_bytes() == video_bytes()
    assert any(
        seen.range and seen.range.startswith("bytes=") and seen.status == 206 for seen in server.requests("/v.mp4")
    )


def test_a_large_video_is_given_up(web: tuple[str, MediaServer], tmp_path: Path) -> None:
    address, server = web
    server.resources = {"/watch": Resource(PAGE, content_type="text/html"), "/v.mp4": Resource(video_bytes())}
    with pytest.raises(FetchFailure) as caught:
        fetch_site_video(f"{address}/watch", tmp_path, FetchSettings(max_bytes=1000), "en")
    assert caught.value.name == "too_big"


def test_sites_are_known_by_name() -> None:
    assert has_extractor("https://vimeo.com/76979871") and not has_extractor("https://example.org/watch")


def test_metadata_goes_by_our_names() -> None:
    info = {
        "title": "T",
        "description": "",
        "tags": ["a"],
        "language": "en-US",
        "license": "CC BY",
        "extractor": "youtube",
    }
    assert site_metadata(info) == {"title": "T", "tags": ["a"], "language": "en", "license": "CC BY"}


def test_lists_become_sources_and_are_kept(embedded_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search of a manifest, its entries as yt-dlp gives them."""
    asked = []

    def entries(address: str, fetch: FetchSettings):
        asked.append(address)
        yield {"url": "https://www.youtube.com/watch?v=dQw4w9WgXcQ", "title": "One", "_type": "url"}
        yield {"url": "https://www.youtube.com/playlist?list=PLx", "_type": "playlist"}
        if "dogs" in address:
            raise FetchFailure("rate_limited", "HTTP 429")

    monkeypatch.setattr(site_lists, "list_entries", entries)
    settings = embedded_settings.model_copy(update={"fetch": FetchSettings(host_requests_per_second={})})
    manifest = settings.home.parent / "searches.jsonl"
    write_searches(search_queries(["PlayingGuitar"]), manifest, 5, "en")
    wanted = [
        Source(
            "https://www.youtube.com/watch?v=dQw4w9WgXcQ", youtube_id="dQw4w9WgXcQ", title="One", query="playing guitar",
            language="en",
        )
    ]  # fmt: skip
    for _ in range(2):
        assert list(discover([manifest], settings)) == wanted
    assert asked == ["ytsearch5:playing guitar"]
    with pytest.raises(SourceError, match=r"ytsearch3:dogs cannot be listed \(rate_limited\).*repeat later"):
        list(discover(["ytsearch3:dogs"], settings))


def test_phrases_become_searches(tmp_path: Path) -> None:
    phrases = [
        "# labels", "1. PlayingGuitar", "cook/bake", "seal-with", "up", "Pushing [something] off", "playing guitar", "", "3)",
        '"walking the dog"', " ".join(["word"] * 13),
    ]  # fmt: skip
    assert search_queries(phrases) == [
        "playing guitar",
        "cook",
        "bake",
        "seal with",
        "pushing something off",
        "walking the dog",
    ]
    assert write_searches(["a b"], tmp_path / "q.csv", 3, None) == 1
    assert (tmp_path / "q.csv").read_text().splitlines() == ["uri,query,language", "ytsearch3:a b,a b,"]
    write_searches(["a b"], tmp_path / "q.jsonl", 3, "en")
    assert json.loads((tmp_path / "q.jsonl").read_text()) == {"uri": "ytsearch3:a b", "query": "a b", "language": "en"}
    with pytest.raises(ValueError, match=r"must end in .jsonl or .csv"):
        write_searches(["a"], tmp_path / "q.xml", 3, None)
    with pytest.raises(ValueError, match="no action phrase is left"):
        search_queries(["up", "#"])
