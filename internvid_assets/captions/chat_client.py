"""Many chat completions at once from an OpenAI-compatible server: retried, paced and accounted for."""

from __future__ import annotations

import asyncio
import json
import queue
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from internvid_assets.lake.stage import Refusal

_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_MISCONFIGURED = frozenset({401, 403, 404, 405})
_DOWN_AFTER = 32  # requests in a row given up for want of a server
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 20.0


class EndpointError(RuntimeError):
    """The server is gone, or wants another address, key or model: no single request is to blame."""


@dataclass(frozen=True)
class ChatRequest:
    """One request, as JSON; `key` comes back with its answer."""

    key: Any
    body: bytes


@dataclass(frozen=True)
class ChatAnswer:
    """What the server said, and what it took."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    is_cut: bool = False
    """Whether the server stopped at the token limit."""


@dataclass
class Ledger:
    """What was spent on all requests, the failed ones included."""

    requests: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass
class ChatClient:
    """A client of one server.

    Args:
        url: address up to and with `/v1`.
        concurrency: requests under way at once; one that waits to be retried counts.
        timeout_seconds: of one try.
        max_tries: tries of one request, at least 1.
        max_wait_seconds: a longer Retry-After is not waited for: the request is given up.
        requests_per_minute, tokens_per_minute: 0: no limit but the server's own.
    """

    url: str
    api_key: str | None = None
    concurrency: int = 16
    timeout_seconds: float = 60.0
    max_tries: int = 6
    max_wait_seconds: float = 300.0
    requests_per_minute: float = 0.0
    tokens_per_minute: float = 0.0
    ledger: Ledger = field(default_factory=Ledger)

    def ask(
        self, requests: Iterable[ChatRequest], keep: Callable[[Any, ChatAnswer], None] | None = None
    ) -> Iterator[tuple[Any, ChatAnswer | Refusal]]:
        """Every request's key with its answer, in the order of arrival; requests are drawn only as they can be sent.

        Args:
            keep: called with a key and its answer the moment it arrives, from another thread, however busy the caller.

        Raises: EndpointError; whatever the requests' iterator or `keep` raises.
        """
        results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        session = _Session(self, iter(requests), results, keep or (lambda key, answer: None))
        thread = threading.Thread(target=session.run, daemon=True, name="chat-client")
        thread.start()
        try:
            while (result := results.get()) is not _END:
                if isinstance(result, BaseException):
                    raise result
                session.taken()
                yield result
        finally:
            session.stop()
            thread.join()


_END = object()


class _Session:
    """One pass over the requests: an event loop in a thread of its own, so that the caller may store what has arrived
    while answers come in."""

    def __init__(
        self,
        client: ChatClient,
        requests: Iterator[ChatRequest],
        results: queue.SimpleQueue[Any],
        keep: Callable[[Any, ChatAnswer], None],
    ):
        self._client, self._requests, self._results, self._keep = client, requests, results, keep
        self._loop = asyncio.new_event_loop()
        self._room = asyncio.Semaphore(4 * client.concurrency)  # requests drawn whose answers the caller has not taken
        self._drawing = asyncio.Lock()
        self._next_start = 0.0
        self._given_up_in_a_row = 0
        self._num_answers = 0
        self._last_refusal: Refusal | None = None
        self._task: asyncio.Task[None] | None = None

    def run(self) -> None:
        """The thread's work: ends with `_END` or an exception in the results."""
        try:
            self._task = self._loop.create_task(self._work())
            self._loop.run_until_complete(self._task)
            self._results.put(_END)
        except asyncio.CancelledError:
            self._results.put(_END)
        except BaseExceptionGroup as group:
            self._results.put(group.exceptions[0])
        except BaseException as error:
            self._results.put(error)
        finally:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    def taken(self) -> None:
        """The caller took a result: there is room for another request."""
        self._from_outside(self._room.release)

    def stop(self) -> None:
        """Cancel what is under way."""
        self._from_outside(lambda: self._task.cancel() if self._task else None)

    def _from_outside(self, call: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            return  # the loop has ended, and with it all need

    async def _work(self) -> None:
        key = self._client.api_key
        connector = aiohttp.TCPConnector(limit=self._client.concurrency)
        timeout = aiohttp.ClientTimeout(total=self._client.timeout_seconds)
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        http = aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers)
        async with http, asyncio.TaskGroup() as workers:
            for _ in range(self._client.concurrency):
                workers.create_task(self._worker(http))
        if self._num_answers == 0 and self._last_refusal is not None:
            raise self._down()

    async def _worker(self, http: aiohttp.ClientSession) -> None:
        while True:
            await self._room.acquire()
            async with self._drawing:
                request = await asyncio.to_thread(next, self._requests, None)
            if request is None:
                return
            answer = await self._ask(http, request.body)
            if isinstance(answer, ChatAnswer):
                self._keep(request.key, answer)
            self._results.put((request.key, answer))

    async def _ask(self, http: aiohttp.ClientSession, body: bytes) -> ChatAnswer | Refusal:
        """One request, tried until it is answered, refused for good, or `max_tries` times."""
        client, refusal = self._client, Refusal("endpoint_error", "was not asked")
        for attempt in range(client.max_tries):
            await self._paced()
            client.ledger.requests += 1
            client.ledger.retries += attempt > 0
            outcome, wait_seconds = await self._try(http, body)
            if isinstance(outcome, ChatAnswer):
                self._num_answers, self._given_up_in_a_row = self._num_answers + 1, 0
                return outcome
            refusal = outcome
            if wait_seconds is None:  # asking again would not help
                self._given_up_in_a_row = 0
                return refusal
            if wait_seconds > client.max_wait_seconds:
                return Refusal("endpoint_rate_limited", f"Retry-After {wait_seconds:.0f} s is more than is waited for")
            if attempt + 1 < client.max_tries:
                await asyncio.sleep(max(wait_seconds, _backoff_seconds(attempt)))
        self._given_up(refusal)
        return refusal

    async def _try(self, http: aiohttp.ClientSession, body: bytes) -> tuple[ChatAnswer | Refusal, float | None]:
        """The outcome of one try, and how long the server wants to be left alone; None: do not ask again."""
        try:
            async with http.post(f"{self._client.url}/chat/completions", data=body) as response:
                data = await response.read()
        except TimeoutError:
            return Refusal("endpoint_timeout", f"no answer within {self._client.timeout_seconds:g} s"), 0.0
        except (aiohttp.ClientError, OSError) as error:
            return Refusal("endpoint_unreachable", f"{self._client.url}: {error or type(error).__name__}"), 0.0
        if response.status == 200:
            return self._parsed(data)
        detail = f"HTTP {response.status}: {data[:200].decode(errors='replace')}"
        if response.status in _MISCONFIGURED:
            raise EndpointError(f"{self._client.url} refuses every request with {detail}: check the url, key and model")
        wait_seconds = retry_after_seconds(response.headers.get("Retry-After", ""))
        return Refusal("endpoint_error", detail), wait_seconds if response.status in _RETRIED else None

    def _parsed(self, data: bytes) -> tuple[ChatAnswer | Refusal, float | None]:
        try:
            answer = json.loads(data)
            usage = answer.get("usage") or {}
            prompt_tokens, completion_tokens = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
            choice = answer["choices"][0]
            text, reason = choice["message"]["content"] or "", choice.get("finish_reason")
            if not isinstance(text, str):
                raise TypeError(f"content is {type(text).__name__}, not text")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            return Refusal("endpoint_bad_answer", f"{type(error).__name__}: {error}"), 0.0
        self._client.ledger.prompt_tokens += prompt_tokens
        self._client.ledger.completion_tokens += completion_tokens
        if self._client.tokens_per_minute:
            self._start_later(60 * (prompt_tokens + completion_tokens) / self._client.tokens_per_minute)
        return ChatAnswer(" ".join(text.split()), prompt_tokens, completion_tokens, reason == "length"), None

    async def _paced(self) -> None:
        """Wait for this request's turn under the client's own limits."""
        turn = max(self._next_start, self._loop.time())
        if self._client.requests_per_minute:
            self._start_later(60 / self._client.requests_per_minute)
        while (pause := turn - self._loop.time()) > 0:
            await asyncio.sleep(pause)

    def _start_later(self, seconds: float) -> None:
        self._next_start = max(self._next_start, self._loop.time()) + seconds

    def _given_up(self, refusal: Refusal) -> None:
        self._given_up_in_a_row += 1
        self._last_refusal = refusal
        if self._given_up_in_a_row >= _DOWN_AFTER:
            raise self._down()

    def _down(self) -> EndpointError:
        reason = self._last_refusal.detail if self._last_refusal else "no answer"
        return EndpointError(
            f"the caption server does not answer ({reason}): start it or mend captions.options.url, then run again"
        )


def _backoff_seconds(attempt: int) -> float:
    """Doubling pauses with jitter."""
    return random.uniform(0.5, 1.0) * min(_FIRST_PAUSE_SECONDS * 2**attempt, _LONGEST_PAUSE_SECONDS)


def retry_after_seconds(value: str) -> float:
    """A Retry-After header (seconds or an HTTP date) as seconds from now; 0 for none or nonsense."""
    if value.strip().replace(".", "", 1).isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
