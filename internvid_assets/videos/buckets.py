"""Sources under an S3 prefix: listed page by page, in key order, with what lies beside them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

from internvid_assets.videos.fetch.s3 import split_s3
from internvid_assets.videos.sidecars import split_sidecars, subtitles_of, what_they_say
from internvid_assets.videos.source import Source, SourceError


def bucket_sources(client: Any, address: str) -> Iterator[Source]:
    """Every object whose key begins with the prefix and that is no sidecar. Hidden ones are left out.

    Raises: SourceError when it cannot be listed or holds nothing.
    """
    bucket, prefix = split_s3(address)
    is_empty = True
    for _, keys in groupby(_keys(client, address, bucket, prefix), _group):
        for key, sidecars in split_sidecars(keys):
            is_empty = False
            yield _source(client, bucket, key, sidecars)
    if is_empty:
        raise SourceError(f"source {address} holds no objects: give s3://BUCKET/PREFIX of videos")


def _keys(client: Any, address: str, bucket: str, prefix: str) -> Iterator[str]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", ()):
                is_hidden = any(part.startswith(".") for part in item["Key"].removeprefix(prefix).split("/"))
                if not item["Key"].endswith("/") and not is_hidden:
                    yield item["Key"]
    except (BotoCoreError, ClientError) as error:
        raise SourceError(
            f"source {address} cannot be listed: {error}; mend the address or [s3] of the settings"
        ) from error


def _group(key: str) -> str:
    """Equal for a file and its sidecars, and keys with the same follow each other."""
    path = PurePosixPath(key)
    return f"{path.parent}/{path.name.partition('.')[0]}"


def _source(client: Any, bucket: str, key: str, sidecars: list[str]) -> Source:
    said = what_they_say(key, sidecars, lambda name: client.get_object(Bucket=bucket, Key=name)["Body"].read())
    subtitles = tuple(f"s3://{bucket}/{name}" for name in subtitles_of(sidecars))
    return Source(f"s3://{bucket}/{key}", subtitles=subtitles, **said)
