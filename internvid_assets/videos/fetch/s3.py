"""Objects of S3-compatible servers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from internvid_assets.videos.fetch.download import Opened
from internvid_assets.videos.fetch.failures import FetchFailure, failure_of_status

_CHUNK_BYTES = 1 << 18


def split_s3(address: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    return bucket, key


class S3Remote:
    """One object; see `download.Remote`. botocore itself repeats requests that a server refuses for a moment."""

    def __init__(self, client: Any, address: str):
        self._client, (self._bucket, self._key) = client, split_s3(address)

    def open(self, start: int, validator: str | None) -> Opened:
        """See `Remote.open`: a Range with If-Match. Raises: FetchFailure."""
        wanted = {"Range": f"bytes={start}-", "IfMatch": validator} if start and validator else {}
        with _told():
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key, **wanted)
        length = answer["ContentLength"]
        part = answer.get("ContentRange", "")
        begins = int(part.removeprefix("bytes ").partition("-")[0]) if part else 0
        total = int(part.rpartition("/")[2]) if part else length
        return Opened(_chunks(answer["Body"]), begins, total, answer.get("ETag"))


def _chunks(body: Any) -> Iterator[bytes]:
    try:
        with _told():
            yield from body.iter_chunks(_CHUNK_BYTES)
    finally:
        body.close()


class _told:
    """botocore's errors as failures."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        from botocore import exceptions as boto

        if isinstance(error, boto.ClientError):
            status, code = error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
            if status in (412, 416):
                raise FetchFailure("changed", "the object has changed meanwhile") from error
            headers = error.response["ResponseMetadata"].get("HTTPHeaders", {})
            failure = failure_of_status(status, code, headers)
            name = "rate_limited" if code in ("SlowDown", "Throttling", "RequestLimitExceeded") else failure.name
            raise FetchFailure(name, f"S3 {code}", failure.wait_seconds) from error
        if isinstance(error, boto.ReadTimeoutError | boto.ConnectTimeoutError):
            raise FetchFailure("timeout", "the S3 server was silent for too long") from error
        if isinstance(error, boto.IncompleteReadError):
            raise FetchFailure("wrong_length", f"the S3 server ended too early: {error}") from error
        if isinstance(error, boto.HTTPClientError | boto.ResponseStreamingError):
            raise FetchFailure("connection", f"the S3 connection broke: {error}") from error
