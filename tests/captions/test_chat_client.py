"""The client against a real server that misbehaves."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from internvid_assets.captions.chat_client import (
    ChatAnswer,
    ChatClient,
    ChatRequest,
    EndpointError,
    retry_after_seconds,
)
from internvid_assets.lake.stage import Refusal
from tests.captions.chat_server import Behaviour, good, serving


def requests(count: int) -> list[ChatRequest]:
    bodies = [
        {"messages": [{"role": "user", "content": [{"type": "text", "text": f"number {i}"}]}]} for i in range(count)
    ]
    return [ChatRequest(i, json.dumps(body).encode()) for i, body in enumerate(bodies)]


def test_a_storm_of_failures_loses_nothing_and_retry_after_is_honoured() -> None:
    storm = Behaviour(
        latency_seconds=0.002, rate_limited_share=0.04, failing_share=0.03, hanging_share=0.02, truncated_share=0.02
    )
    with serving(storm) as (url, server):
        client = ChatClient(url, concurrency=32, timeout_seconds=1.0, max_tries=10)
        answers = dict(client.ask(requests(600)))
    assert sorted(answers) == list(range(600))
    assert all(isinstance(answer, ChatAnswer) for answer in answers.values())
    assert len({answer.text for answer in answers.values()}) == 600  # each request got its own answer
    assert server.seen.too_early == 0 and server.seen.most_at_once <= 32 + 32  # hung ones linger on the server
    assert max(server.seen.came.values()) <= 10
    assert client.ledger.requests == server.seen.requests and client.ledger.retries == server.seen.requests - 600


def test_scripted_failures_are_retried_and_counted() -> None:
    script = [(429, {"retry-after": "0.2"}, ""), (500, {}, "oops"), (200, {}, '{"choices": ['), (200, {}, "[]")]
    with serving(Behaviour(script=script)) as (url, _):
        client = ChatClient(url, concurrency=1)
        began = time.monotonic()
        answers = list(client.ask(requests(2)))
    assert [key for key, _ in answers] == [0, 1] and time.monotonic() - began > 0.2
    assert (client.ledger.requests, client.ledger.retries, client.ledger.prompt_tokens) == (6, 4, 14)


def test_what_asking_again_would_not_mend_is_asked_once() -> None:
    long_wait = {"retry-after": "3600"}
    with serving(Behaviour(script=[(400, {}, "no such picture"), (429, long_wait, "")])) as (url, server):
        refused = [answer for _, answer in ChatClient(url, concurrency=1).ask(requests(3))]
    assert [r.reason for r in refused if isinstance(r, Refusal)] == ["endpoint_error", "endpoint_rate_limited"]
    assert "no such picture" in refused[0].detail and server.seen.requests == 3


def test_tries_are_bounded() -> None:
    with serving(Behaviour(script=[(500, {}, "oops")] * 3)) as (url, server):
        answers = dict(ChatClient(url, concurrency=1, max_tries=3).ask(requests(2)))
    assert isinstance(answers[0], Refusal) and answers[0].reason == "endpoint_error" and server.seen.requests == 4


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_model_stops_everything_at_once(status: int) -> None:
    with serving(Behaviour(script=[(status, {}, "who are you")] * 9)) as (url, server):
        with pytest.raises(EndpointError, match="check the url, key and model"):
            list(ChatClient(url, concurrency=2).ask(requests(100)))
        assert server.seen.requests <= 4


def test_a_dead_server_is_one_error_and_not_a_refusal_of_every_clip() -> None:
    with pytest.raises(EndpointError, match="does not answer"):
        list(ChatClient("http://127.0.0.1:9/v1", concurrency=64, max_tries=1).ask(requests(10_000)))
    with pytest.raises(EndpointError, match="does not answer"):
        list(ChatClient("http://127.0.0.1:9/v1", max_tries=2).ask(requests(1)))


def test_own_limits_are_kept() -> None:
    with serving(Behaviour()) as (url, server):
        began = time.monotonic()
        list(ChatClient(url, concurrency=8, requests_per_minute=1200).ask(requests(21)))
        assert time.monotonic() - began >= 20 * 0.05
        began = time.monotonic()
        list(ChatClient(url, concurrency=1, tokens_per_minute=5400).ask(requests(6)))  # nine tokens an answer
        assert time.monotonic() - began >= 5 * 0.1
    assert server.seen.requests == 27


def test_requests_are_drawn_as_needed_and_answers_kept_while_the_caller_is_busy() -> None:
    drawn, kept = [], []
    first = threading.Event()

    def draw():
        for request in requests(1000):
            drawn.append(request.key)
            yield request

    with serving(Behaviour(latency_seconds=0.001)) as (url, _):
        answers = ChatClient(url, concurrency=4).ask(draw(), lambda key, _: (kept.append(key), first.set()))
        next(answers)
        first.wait()
        deadline = time.monotonic() + 10
        while len(kept) < 16 and time.monotonic() < deadline:  # the caller takes nothing meanwhile
            time.sleep(0.01)
        assert 16 <= len(kept) <= len(drawn) <= 4 * 4 + 4
        answers.close()
        assert len(drawn) <= 4 * 4 + 4


def test_what_the_requests_raise_reaches_the_caller() -> None:
    def broken():
        yield from requests(3)
        raise RuntimeError("no more frames")

    with serving(Behaviour()) as (url, _), pytest.raises(RuntimeError, match="no more frames"):
        list(ChatClient(url).ask(broken()))


def test_a_cut_answer_says_so_and_the_key_is_sent() -> None:
    with serving(Behaviour(script=[(200, {}, good("A man. He", "length"))])) as (url, server):
        answers = [answer for _, answer in ChatClient(url, "secret").ask(requests(1))]
    assert answers == [ChatAnswer("A man. He", 7, 2, True)] and server.seen.keys == {"Bearer secret"}


def test_retry_after_is_seconds_or_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert retry_after_seconds("2.5") == 2.5 and 55 < retry_after_seconds(later) <= 60
    assert [retry_after_seconds(value) for value in ("", "soon", "-3")] == [0, 0, 0]
