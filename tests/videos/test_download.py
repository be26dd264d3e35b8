"""One object into one file: resumed, verified, limited; against a server that misbehaves."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from internvid_assets.settings import S3Settings
from internvid_assets.store.objects import s3_client
from internvid_assets.videos.fetch.download import Downloaded, Limits, download
from internvid_assets.videos.fetch.failures import FetchFailure, failure_of_words, retry_after
from internvid_assets.videos.fetch.http import HtmlPage, HttpRemote, http_pool
from internvid_assets.videos.fetch.s3 import S3Remote
from tests.videos.media_server import MediaServer, Misdeed, Resource, serving

BODY = random.Random(0).randbytes(300_000)
WIDE = Limits(max_bytes=10**9, seconds=60)


@pytest.fixture
def web() -> Iterator[tuple[str, MediaServer]]:
    with serving() as found:
        yield found


def fetch(address: str, folder: Path, limits: Limits = WIDE, idle_seconds: float = 5.0) -> Downloaded:
    return download(HttpRemote(http_pool(1, idle_seconds), address), address, folder, limits)


def failing(address: str, folder: Path, limits: Limits = WIDE, idle_seconds: float = 5.0) -> FetchFailure:
    with pytest.raises(FetchFailure) as caught:
        fetch(address, folder, limits, idle_seconds)
    return caught.value


def is_body(done: Downloaded) -> bool:
    return done.path.read_bytes() == BODY and done.sha256 == hashlib.sha256(BODY).hexdigest()


@pytest.mark.parametrize(
    ("misdeed", "name"),
    [
        (Misdeed(reset_after=100_000), "connection"),
        (Misdeed(end_after=100_000), "wrong_length"),
        (Misdeed(hang_after=100_000), "timeout"),
    ],
)
def test_what_broke_off_goes_on_where_it_was(
    web: tuple[str, MediaServer], tmp_path: Path, misdeed: Misdeed, name: str
) -> None:
    address, server = web
    server.resources["/a.mp4"] = Resource(BODY, [misdeed])
    assert failing(f"{address}/a.mp4", tmp_path, idle_seconds=1.0).name == name
    assert is_body(fetch(f"{address}/a.mp4", tmp_path))
    first, second = server.requests("/a.mp4")
    assert (first.range, second.range, second.status) == (None, "bytes=100000-", 206)
    assert second.num_bytes == len(BODY) - 100_000
    assert is_body(fetch(f"{address}/a.mp4", tmp_path)) and len(server.seen) == 2  # it is whole: nobody is asked


def test_a_kept_connection_that_ended_is_no_failed_attempt(tmp_path: Path) -> None:
    """A server may close a connection that it keeps just when the next request is on its way."""
    requests = []

    def serve() -> None:
        for num_answers, num_requests in ((1, 2), (1, 1)):
            connection, _ = listening.accept()
            with connection:
                for n in range(num_requests):
                    requests.append(connection.recv(65536))
                    if n < num_answers:
                        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + BODY)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=serve)
        server.start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        pool = http_pool(1, 5.0)
        for name in ("a.mp4", "b.mp4"):
            remote = HttpRemote(pool, f"{address}/{name}")
            assert is_body(download(remote, f"{address}/{name}", tmp_path, WIDE))
        server.join()
    assert [request.split()[1] for request in requests] == [b"/a.mp4", b"/b.mp4", b"/b.mp4"]


def test_without_ranges_it_begins_anew(web: tuple[str, MediaServer], tmp_path: Path) -> None:
    address, server = web
    server.resources["/a.mp4"] = Resource(BODY, [Misdeed(reset_after=100_000)], has_ranges=False)
    failing(f"{address}/a.mp4", tmp_path)
    assert is_body(fetch(f"{address}/a.mp4", tmp_path))
    assert server.seen[1].num_bytes == len(BODY)


def test_without_a_validator_nothing_is_glued(web: tuple[str, MediaServer], tmp_path: Path) -> None:
    address, server = web
    other = BODY[::-1]
    server.resources["/a.mp4"] = Resource(BODY, [Misdeed(reset_after=100_000, body=other)], has_etag=False)
    failing(f"{address}/a.mp4", tmp_path)
    assert is_body(fetch(f"{address}/a.mp4", tmp_path))
    assert [seen.range for seen in server.seen] == [None, None]


def test_a_changed_object_is_not_glued_to_the_old_one(web: tuple[str, MediaServer], tmp_path: Path) -> None:
    address, server = web
    server.resources["/a.mp4"] = Resource(BODY, [Misdeed(reset_after=100_000, body=BODY[::-1])])
    failing(f"{address}/a.mp4", tmp_path)
    assert is_body(fetch(f"{address}/a.mp4", tmp_path))
    assert [seen.status for seen in server.seen] == [200, 200] and server.seen[1].range == "bytes=100000-"


def test_a_part_of_something_else_is_refused(web: tuple[str, MediaServer], tmp_path: Path) -> None:
    """A server that ignores If-Range and sends a part of what it has now."""
    address, server = web
    old = Misdeed(reset_after=100_000, body=BODY[::-1])
    server.resources["/a.mp4"] = Resource(BODY, [old], always=None)
    server._start = lambda request, resource, etag: 100_000 if request.headers.get("Range") else 0  # type: ignore[method-assign]
    failing(f"{address}/a.mp4", tmp_path)
    assert failing(f"{address}/a.mp4", tmp_path).name == "changed"
    assert is_body(fetch(f"{address}/a.mp4", tmp_path))


@pytest.mark.parametrize(
    ("status", "headers", "name", "wait"),
    [
        (429, {"Retry-After": "7"}, "rate_limited", 7.0),
        (503, {"Retry-After": "2"}, "server_error", 2.0),
        (500, {}, "server_error", None),
        (504, {}, "timeout", None),
        (404, {}, "not_found", None),
        (410, {}, "not_found", None),
        (403, {}, "forbidden", None),
        (401, {}, "login_required", None),
        (451, {}, "geo_blocked", None),
        (400, {}, "bad_address", None),
    ],
)
def test_statuses_have_classes(
    web: tuple[str, MediaServer], tmp_path: Path, status: int, headers: dict[str, str], name: str, wait: float | None
) -> None:
    address, server = web
    server.resources["/a.mp4"] = Resource(BODY, [Misdeed(status, headers)])
    failure = failing(f"{address}/a.mp4", tmp_path)
    assert (failure.name, failure.wait_seconds) == (name, wait)
    assert is_body(fetch(f"{address}/a.mp4", tmp_path))


def test_redirects_are_followed_and_loops_are_not(web: tuple[str, MediaServer], tmp_path: Path) -> None:
    address, server = web
    server.resources["/a.mp4"] = Resource(BODY)
    server.resources["/old"] = Resource(b"", always=Misdeed(302, {"Location": "/older"}))
    server.resources["/older"] = Resource(b"", always=Misdeed(308, {"Location": f"{address}/a.mp4"}))
    server.resources["/loop"] = Resource(b"", always=Misdeed(301, {"Location": "/loop"}))
    server.resources["/out"] = Resource(b"", always=Misdeed(301, {"Location": "file:///etc/passwd"}))
    assert is_body(fetch(f"{address}/old", tmp_path / "1"))
    assert failing(f"{address}/loop", tmp_path / "2").name == "bad_address"
    assert failing(f"{address}/out", tmp_path / "3").name == "bad_address"


def test_silence_and_closed_ports_have_classes(web: tuple[str, MediaServer], tmp_path: Path) -> None:
    address, server = web
    server.resources["/a.mp4"] = Resource(BODY, [Misdeed(hang_after=0)])
    assert failing(f"{address}/a.mp4", tmp_path, idle_seconds=0.5).name == "timeout"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # bound, but nobody listens
        assert failing(f"http://127.0.0.1:{probe.getsockname()[1]}/a.mp4", tmp_path).name == "connection"


def test_a_page_is_told_from_a_file(web: tuple[str, MediaServer], tmp_path: Path) -> None:
    address, server = web
    server.resources["/watch"] = Resource(b"<html></html>", content_type="text/html; charset=utf-8")
    with pytest.raises(HtmlPage):
        fetch(f"{address}/watch", tmp_path)


def test_promises_of_the_manifest_are_kept(web: tuple[str, MediaServer], tmp_path: Path) -> None:
    address, server = web
    server.resources["/a.mp4"] = Resource(BODY)
    right = {
        "expected_bytes": len(BODY),
        "expected_sha256": hashlib.sha256(BODY).hexdigest(),
        "expected_md5": hashlib.md5(BODY).hexdigest(),
    }
    for name, wrong, failure in (
        ("expected_bytes", 5, "wrong_length"), ("expected_sha256", "0" * 64, "wrong_hash"), ("expected_md5", "0" * 32, "wrong_hash"),
    ):  # fmt: skip
        assert failing(f"{address}/a.mp4", tmp_path, Limits(10**9, 60, **{name: wrong})).name == failure
    assert is_body(fetch(f"{address}/a.mp4", tmp_path, Limits(10**9, 60, **right)))


def test_limits_are_kept(web: tuple[str, MediaServer], tmp_path: Path) -> None:
    address, server = web
    server.resources["/a.mp4"] = Resource(BODY)
    assert failing(f"{address}/a.mp4", tmp_path, Limits(1000, 60)).name == "too_big"
    assert not (tmp_path / "body").exists()  # its length tells, before any byte is kept
    assert failing(f"{address}/a.mp4", tmp_path, Limits(10**9, -1.0)).name == "timeout"


def test_retry_after_is_seconds_or_a_date() -> None:
    from datetime import UTC, datetime

    now = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
    assert retry_after({"retry-after": "120"}) == 120
    assert retry_after({"Retry-After": "Thu, 01 Jan 2026 12:01:30 GMT"}, now) == 90
    assert retry_after({"Retry-After": "Thu, 01 Jan 2026 11:00:00 GMT"}, now) == 0
    assert retry_after({"Retry-After": "soon"}) is None and retry_after({}) is None


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("ERROR: [youtube] abc: Private video. Sign in if you've been granted access to this video", "private"),
        ("ERROR: [youtube] abc: Video unavailable", "removed"),
        ("ERROR: [youtube] abc: Video unavailable. This video has been removed by the uploader", "removed"),
        ("ERROR: [youtube] abc: Sign in to confirm you’re not a bot. Use --cookies", "rate_limited"),
        ("ERROR: [youtube] abc: Sign in to confirm your age. This video may be inappropriate", "login_required"),
        ("ERROR: [youtube] abc: Join this channel to get access to members-only content", "login_required"),
        ("ERROR: [youtube] abc: The uploader has not made this video available in your country", "geo_blocked"),
        ("ERROR: \r[download] Got error: HTTP Error 503: Service Unavailable", "server_error"),
        ("ERROR: \r[download] Got error: ('Connection broken: ConnectionResetError(104, 'x')", "connection"),
        ("ERROR: [youtube] abc: unable to download video data: HTTP Error 403: Forbidden", "rate_limited"),
        ("ERROR: [youtube] abc: Premieres in 3 hours", "not_yet"),
        ("ERROR: [youtube] abc: Requested format is not available", "unsupported"),
        ("ERROR: [youtube] abc: something nobody has seen yet", "site_error"),
    ],
)
def test_words_of_sites_have_classes(message: str, name: str) -> None:
    assert failure_of_words(message).name == name


def test_an_s3_object_goes_on_and_a_changed_one_does_not(s3_server: S3Settings, tmp_path: Path) -> None:
    client = s3_client(s3_server)
    client.put_object(Bucket="internvid", Key="resume/a.mp4", Body=BODY)
    remote, address = S3Remote(client, "s3://internvid/resume/a.mp4"), "s3://internvid/resume/a.mp4"
    for changed in (False, True):
        folder = tmp_path / str(changed)
        asked = _cut_short(remote, address, folder)
        if changed:
            client.put_object(Bucket="internvid", Key="resume/a.mp4", Body=BODY[::-1])
            with pytest.raises(FetchFailure) as caught:
                download(remote, address, folder, WIDE)
            assert caught.value.name == "changed"
        done = download(remote, address, folder, WIDE)
        assert done.path.read_bytes() == (BODY[::-1] if changed else BODY)
        assert done.num_bytes == (len(BODY) if changed else len(BODY) - asked)


def _cut_short(remote: S3Remote, address: str, folder: Path) -> int:
    """A download that breaks off behind the first piece; how many bytes came."""

    class Broken:
        def open(self, start: int, validator: str | None):
            from dataclasses import replace

            opened = remote.open(start, validator)

            def some():
                yield next(opened.chunks)[:100_000]
                raise FetchFailure("connection", "cut")

            return replace(opened, chunks=some())

    with pytest.raises(FetchFailure):
        download(Broken(), address, folder, WIDE)
    return (folder / "body").stat().st_size


def test_missing_s3_objects_and_buckets_have_classes(s3_server: S3Settings, tmp_path: Path) -> None:
    client = s3_client(s3_server)
    for address in ("s3://internvid/no/such.mp4", "s3://nobucket/a.mp4"):
        with pytest.raises(FetchFailure) as caught:
            download(S3Remote(client, address), address, tmp_path, WIDE)
        assert caught.value.name == "not_found"
