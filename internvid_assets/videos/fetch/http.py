"""Files of HTTP(S) servers."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    IncompleteRead,
    LocationParseError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)

from internvid_assets.videos.fetch.download import Opened
from internvid_assets.videos.fetch.failures import FetchFailure, failure_of_status

USER_AGENT = "internvid (+https://arxiv.org/abs/2307.06942)"
_CHUNK_BYTES = 1 << 18
_MAX_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)


class HtmlPage(Exception):
    """The address gives a page, not a file: a site's extractor may know what is on it."""


def http_pool(concurrency: int, idle_seconds: float) -> urllib3.PoolManager:
    """Connections that threads share and use again. Nothing is retried or redirected behind our back."""
    timeout = urllib3.Timeout(connect=idle_seconds, read=idle_seconds)
    return urllib3.PoolManager(num_pools=64, maxsize=concurrency, timeout=timeout, retries=False)


class HttpRemote:
    """One address of an HTTP server; see `download.Remote`."""

    def __init__(self, pool: urllib3.PoolManager, address: str):
        self._pool, self._address = pool, address

    def open(self, start: int, validator: str | None) -> Opened:
        """See `Remote.open`: a Range with If-Range, so a server that cannot or must not resume sends all.

        Raises: FetchFailure; HtmlPage for a web page.
        """
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        if start and validator:
            headers |= {"Range": f"bytes={start}-", "If-Range": validator}
        with _told():
            response = self._request(headers)
        if response.status == 416:
            response.close()
            raise FetchFailure("changed", f"the server has no bytes from {start} on")
        if response.status not in (200, 206):
            failure = failure_of_status(response.status, response.reason or "", response.headers)
            response.drain_conn() if response.status < 500 else response.close()
            raise failure
        if response.headers.get("Content-Type", "").startswith(("text/html", "application/xhtml")):
            response.close()
            raise HtmlPage(self._address)
        begins, total = _extent(response)
        return Opened(_chunks(response), begins, total, _validator(response))

    def _request(self, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """The response, after redirects."""
        address = self._address
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._answer(address, headers)
            target = response.headers.get("Location")
            if response.status not in _REDIRECTS or not target:
                return response
            response.drain_conn()
            address = urljoin(address, target)
            if urlsplit(address).scheme not in ("http", "https"):
                raise FetchFailure("bad_address", f"redirected to {address}")
        raise FetchFailure("bad_address", f"more than {_MAX_REDIRECTS} redirects")

    def _answer(self, address: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """One request, sent once more if the connection ends before an answer, as one kept from an earlier answer may.

        Source: RFC 9112 §9.3.1, Retrying Requests.
        """
        try:
            return self._pool.request("GET", address, headers=headers, preload_content=False, redirect=False)
        except ProtocolError:
            return self._pool.request("GET", address, headers=headers, preload_content=False, redirect=False)


def _extent(response: urllib3.BaseHTTPResponse) -> tuple[int, int | None]:
    """Where the body begins in the object, and the object's length, if the server says it."""
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if found is None:
            raise FetchFailure("server_error", "a part without a readable Content-Range")
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _validator(response: urllib3.BaseHTTPResponse) -> str | None:
    """What If-Range takes: a strong ETag, else the time of the last change."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified") if not etag else None


def _chunks(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """The body as it comes; the connection is used again only after all of it."""
    is_whole = False
    try:
        with _told():
            while chunk := response.read1(_CHUNK_BYTES, decode_content=False):  # as it comes: what is here is kept
                yield chunk
        is_whole = True
    finally:
        response.release_conn() if is_whole else response.close()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """urllib3's errors as failures."""
    try:
        yield
    except NewConnectionError as error:
        raise FetchFailure("connection", f"no connection: {_innermost(error)}") from error
    except (ReadTimeoutError, ConnectTimeoutError) as error:
        raise FetchFailure("timeout", "the server was silent for too long") from error
    except ProtocolError as error:
        short = next((part for part in error.args if isinstance(part, IncompleteRead)), None)
        if isinstance(error, IncompleteRead) or short is not None:
            raise FetchFailure("wrong_length", f"the server ended too early: {short or error}") from error
        raise FetchFailure("connection", f"the connection broke: {_innermost(error)}") from error
    except LocationParseError as error:
        raise FetchFailure("bad_address", str(error)) from error
    except HTTPError as error:
        raise FetchFailure("connection", f"no connection: {_innermost(error)}") from error


def _innermost(error: BaseException) -> str:
    """What the system said."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__
