"""Reports progress to Dagster when it launched the run; without Dagster Pipes the run is the same."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


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
    from dagster_pipes import open_dagster_pipes

    with open_dagster_pipes() as context:
        yield _DagsterReport(context)
