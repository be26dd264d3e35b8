"""Why an item's bytes could not be had, as classes, and which of them may pass."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping
from datetime import UTC, datetime

RETRYABLE = frozenset(
    {"timeout", "rate_limited", "server_error", "connection", "wrong_length", "wrong_hash", "changed", "not_yet", "site_error"}
)  # fmt: skip
"""May pass: tried again in the run, then in later runs, until `fetch.max_attempts`."""
GONE = frozenset({"not_found", "removed", "private"})
"""The source says that it is there no longer, or not for us."""
PERMANENT = frozenset({"forbidden", "login_required", "geo_blocked", "unsupported", "too_big", "bad_address"})
CLASSES = RETRYABLE | GONE | PERMANENT


class FetchFailure(Exception):
    """An item's bytes could not be had. `name` is one of `CLASSES`; `wait_seconds` is what the server asked for."""

    def __init__(self, name: str, detail: str, wait_seconds: float | None = None, num_bytes: int = 0):
        assert name in CLASSES, name
        super().__init__(detail)
        self.name, self.detail, self.wait_seconds, self.num_bytes = name, detail, wait_seconds, num_bytes


def failure_of_status(status: int, reason: str, headers: Mapping[str, str]) -> FetchFailure:
    """The failure that an HTTP status other than 2xx means."""
    told = f"HTTP {status} {reason}".strip()
    if status in (408, 504):
        return FetchFailure("timeout", told, retry_after(headers))
    if status == 429:
        return FetchFailure("rate_limited", told, retry_after(headers))
    if status >= 500:
        return FetchFailure("server_error", told, retry_after(headers))
    if status in (404, 410):
        return FetchFailure("not_found", told)
    if status in (401, 407):
        return FetchFailure("login_required", told)
    if status == 451:
        return FetchFailure("geo_blocked", told)
    return FetchFailure("forbidden" if status in (402, 403) else "bad_address", told)


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for, whether it gives seconds or a date; None without one."""
    text = next((value for name, value in headers.items() if name.lower() == "retry-after"), "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    try:
        date = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())


_WORDS = (
    ("private", r"private video|is private"),
    ("rate_limited", r"not a bot|too many requests|rate.?limit|http error 429"),
    ("login_required", r"sign in|log ?in|logged.in|cookies|age.restricted|members.only|join this channel|purchase|subscri"),
    ("geo_blocked", r"geo.?restrict|not (made this video )?available (in|from) your (country|location)|not available from your location"),
    ("not_yet", r"premieres? in|will begin|not started|live event|is offline|currently live"),
    ("unsupported", r"unsupported url|no video formats|no media found|requested format is not available|drm"),
    ("removed", r"video unavailable|has been (removed|terminated|deleted)|no longer available|does not exist|isn.t available|is not available|copyright"),
    ("timeout", r"timed? ?out"),
    ("connection", r"connection (reset|refused|aborted|broken)|remote end closed|name or service not known|failed to resolve|incompleteread|bytes read"),
)  # fmt: skip
"""What yt-dlp's messages say, in the order they are looked for."""


def failure_of_words(message: str) -> FetchFailure:
    """The failure that a site's message tells of; `site_error` (retryable) for one that is not understood."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", message).strip().removeprefix("ERROR: ").strip()
    line = plain.splitlines()[0][:300] if plain else "the site gave no reason"
    if match := re.search(r"HTTP Error (\d{3}):? ?(.*)", line):
        return failure_of_site_status(int(match[1]), match[2], {})
    found = next((name for name, words in _WORDS if re.search(words, line, re.IGNORECASE)), "site_error")
    return FetchFailure(found, line)


def failure_of_site_status(status: int, reason: str, headers: Mapping[str, str]) -> FetchFailure:
    """As `failure_of_status`; but sites also say 403 to those who ask too often."""
    failure = failure_of_status(status, reason, headers)
    if failure.name != "forbidden":
        return failure
    return FetchFailure(
        "rate_limited", f"{failure.detail}: so do sites refuse who asks too often", failure.wait_seconds
    )
