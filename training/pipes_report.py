"""Reports progress to Dagster when it launched the run; without Dagster Pipes the run is the same."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_S3_SECONDS = 2


class Report:
    """Where progress goes. This one is silent."""

    def step(self, text: str) -> None:
        """One line of progress."""

    def done(self, facts: Mapping[str, Any]) -> None:
        """What the run made."""


class _DagsterReport(Report):
    def __init__(self, context: Any):
        self._context = context

    def step(self, text: str) -> None:
        self._context.log.info(text)

    def done(self, facts: Mapping[str, Any]) -> None:
        self._context.report_custom_message(dict(facts))


@contextmanager
def session() -> Iterator[Report]:
    """A report to the Dagster run that launched this process, on its first rank; else a silent one."""
    if int(os.environ.get("RANK", 0)) != 0 or "DAGSTER_PIPES_CONTEXT" not in os.environ:
        yield Report()
        return
    from dagster_pipes import PipesEnvVarParamsLoader, open_dagster_pipes

    is_on_s3 = "bucket" in PipesEnvVarParamsLoader().load_messages_params()
    with open_dagster_pipes(message_writer=_s3_writer() if is_on_s3 else None) as context:
        yield _DagsterReport(context)


def _s3_writer() -> Any:
    """Writes messages to S3 as numbered objects, behind those of processes that reported before: a resumed run goes on."""
    import boto3
    from dagster_pipes import PipesS3MessageWriter, PipesS3MessageWriterChannel

    client = boto3.client("s3")

    class Channel(PipesS3MessageWriterChannel):
        def __init__(self, bucket: str, key_prefix: str):
            super().__init__(client, bucket, key_prefix, interval=_S3_SECONDS)
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{key_prefix}/")
            self._num_before = sum(page.get("KeyCount", 0) for page in pages)

        def upload_messages_chunk(self, payload: Any, index: int) -> None:
            super().upload_messages_chunk(payload, self._num_before + index)

    class Writer(PipesS3MessageWriter):
        def make_channel(self, params: Any) -> Channel:
            return Channel(params["bucket"], params["key_prefix"])

    return Writer(client)
