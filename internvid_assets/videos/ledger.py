"""What became of each source: its state, why, and when it is tried again. Pure decisions; the times are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from internvid_assets.lake.stage import Quarantined
from internvid_assets.settings import FetchSettings
from internvid_assets.videos.addresses import is_remote
from internvid_assets.videos.fetch.failures import GONE, RETRYABLE

STATES = ("pending", "held", "refused", "retryable", "gone", "given_up")
"""Not tried (again); its bytes are held; what came is not wanted; failed and will be tried again; the source is there no
longer; failed for good."""
QUARANTINED = frozenset({"refused", "gone", "given_up"})
_LONGEST_WAIT = timedelta(days=7)


@dataclass(frozen=True)
class Outcome:
    """How one attempt at one source ended. `failure` is a fetch failure's class, or the reason of a refusal."""

    source_uri: str
    failure: str | None = None
    detail: str | None = None
    is_refusal: bool = False
    video: dict[str, Any] | None = None
    """The row of `videos.raw_videos`, but for the batch."""
    num_tries: int = 1
    """0: the host had asked for no more requests, so none was made."""
    num_bytes: int = 0
    seconds: float = 0.0
    tried_at: str = ""
    """ISO 8601, UTC."""
    wait_seconds: float | None = None
    """What the server asked for."""

    def state(self, num_attempts: int, max_attempts: int) -> str:
        """Where it leads to after so many attempts."""
        if self.video is not None:
            return "held"
        if self.is_refusal:
            return "refused"
        if self.failure == "gone" or self.failure in GONE:
            return "gone"
        return "retryable" if self.failure in RETRYABLE and num_attempts < max_attempts else "given_up"


Row = Mapping[str, Any]


def item_row(
    previous: Row | None, outcome: Outcome, batch: str, fetch: FetchSettings, gate_version: str
) -> dict[str, Any]:
    """The row of `videos.items` after an attempt.

    An attempt at a file of this machine that ends as the one before leaves the row as it is: looking again is no news.
    """
    before = previous["num_attempts"] if previous else 0
    num_attempts = before + (1 if outcome.num_tries else 0)
    tried_at = datetime.fromisoformat(outcome.tried_at)
    state = outcome.state(num_attempts, fetch.max_attempts)
    told = {"state": state, "failure": outcome.failure, "detail": outcome.detail}
    if previous and not is_remote(outcome.source_uri) and all(previous[name] == value for name, value in told.items()):
        return dict(previous) | {"gate_version": gate_version}
    goes_on = previous and previous["failure"] == outcome.failure and previous["failing_since"] is not None
    since = previous["failing_since"] if previous and goes_on else tried_at
    return {
        "batch": batch,
        "source_uri": outcome.source_uri,
        **told,
        "num_attempts": num_attempts,
        "tried_at": tried_at,
        "failing_since": None if outcome.failure is None else since,
        "next_retry_at": tried_at + _pause(num_attempts, outcome, fetch) if state == "retryable" else None,
        "gate_version": gate_version,
    }


def _pause(num_attempts: int, outcome: Outcome, fetch: FetchSettings) -> timedelta:
    """Until the next attempt: doubling, but no sooner than the server wants."""
    own = timedelta(minutes=fetch.retry_minutes) * 2 ** min(max(num_attempts, 1) - 1, 20)
    return max(min(own, _LONGEST_WAIT), timedelta(seconds=outcome.wait_seconds or 0.0))


def attempt_row(item: Row, outcome: Outcome) -> dict[str, Any]:
    """The row of `videos.attempts` for an attempt that led to the item's state."""
    return {
        "batch": item["batch"], "source_uri": item["source_uri"], "attempt": item["num_attempts"], "state": item["state"],
        "failure": item["failure"], "detail": item["detail"], "num_tries": outcome.num_tries,
        "num_bytes": outcome.num_bytes, "seconds": outcome.seconds, "tried_at": item["tried_at"],
    }  # fmt: skip


def is_due(item: Row | None, now: datetime, gate_version: str) -> bool:
    """Whether a source of another machine is to be asked for. A refusal stands until the gate changes."""
    if item is None or item["state"] == "pending":
        return True
    if item["state"] == "refused":
        return item["gate_version"] != gate_version
    return item["state"] == "retryable" and (item["next_retry_at"] is None or item["next_retry_at"] <= now)


def quarantined(item: Row) -> Quarantined:
    """A source that is not wanted or cannot be had, as quarantine knows it."""
    return Quarantined(item["source_uri"], item["failure"] or "", item["detail"] or "", item["source_uri"])


def utc_now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)


def dumped(outcome: Outcome) -> dict[str, Any]:
    """For the journal."""
    return asdict(outcome)
