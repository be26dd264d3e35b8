"""A chat completions server that misbehaves on order, over real HTTP; the benchmark and the tests talk to it.

`python tests/captions/chat_server.py PORT LATENCY_SECONDS` runs it in a process of its own; PORT 0 takes a free one and
prints it. GET /stats tells what it saw.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class Behaviour:
    """How the server answers. `script` holds (status, headers, body) for the next requests; shares are of all others."""

    latency_seconds: float = 0.0
    rate_limited_share: float = 0.0
    failing_share: float = 0.0
    hanging_share: float = 0.0
    truncated_share: float = 0.0
    retry_after_seconds: float = 0.3
    requests_per_second: float = 0.0
    answer: str = ""
    """What is always said; empty: a text that follows from the request."""
    script: list[tuple[int, dict[str, str], str]] = field(default_factory=list)
    seed: int = 0


@dataclass
class Seen:
    """What the server saw: per request body how often it came and was answered, and its sins against Retry-After."""

    requests: int = 0
    most_at_once: int = 0
    came: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    answered_at: dict[str, list[float]] = field(default_factory=dict)
    too_early: int = 0
    not_before: dict[str, float] = field(default_factory=dict)
    prompts: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)


def good(text: str, finish: str = "stop") -> str:
    """The body of a proper answer."""
    usage = {"prompt_tokens": 7, "completion_tokens": 2}
    return json.dumps({"choices": [{"message": {"content": text}, "finish_reason": finish}], "usage": usage})


class ChatServer:
    """One server with its behaviour and what it saw."""

    def __init__(self, behaviour: Behaviour):
        self.behaviour, self.seen = behaviour, Seen()
        self._random = random.Random(behaviour.seed)
        self._at_once = 0
        self._allowed_at = 0.0

    def app(self) -> web.Application:
        """The web application."""
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/stats", self._stats)
        return app

    async def _stats(self, _: web.Request) -> web.Response:
        seen = self.seen
        return web.json_response(
            {"requests": seen.requests, "most_at_once": seen.most_at_once, "distinct": len(seen.came),
             "answered": sum(seen.answered.values()), "too_early": seen.too_early}
        )  # fmt: skip

    async def _complete(self, request: web.Request) -> web.Response:
        data = await request.read()
        key = hashlib.sha256(data).hexdigest()
        seen, now = self.seen, time.monotonic()
        seen.requests += 1
        seen.came[key] += 1
        seen.too_early += now < seen.not_before.get(key, 0.0)
        seen.keys.add(request.headers.get("Authorization", ""))
        self._at_once += 1
        seen.most_at_once = max(seen.most_at_once, self._at_once)
        try:
            return await self._outcome(key, data, now)
        finally:
            self._at_once -= 1

    async def _outcome(self, key: str, data: bytes, now: float) -> web.Response:
        how, seen = self.behaviour, self.seen
        if how.script:
            status, headers, body = how.script.pop(0)
            return web.Response(status=status, headers=headers, text=body)
        await asyncio.sleep(how.latency_seconds)
        draw = self._random.random()
        if draw < how.rate_limited_share or self._too_many(now):
            seen.not_before[key] = now + how.retry_after_seconds
            return web.Response(status=429, headers={"Retry-After": str(how.retry_after_seconds)})
        draw -= how.rate_limited_share
        if draw < how.failing_share:
            return web.Response(status=500, text="out of luck")
        draw -= how.failing_share
        if draw < how.hanging_share:
            await asyncio.sleep(3600)
        draw -= how.hanging_share
        text = self._text(key, data)
        seen.answered[key] += 1
        seen.answered_at.setdefault(key, []).append(time.monotonic())
        return web.Response(text=good(text)[:40] if draw < how.truncated_share else good(text))

    def _too_many(self, now: float) -> bool:
        if not self.behaviour.requests_per_second:
            return False
        if now < self._allowed_at:
            return True
        self._allowed_at = max(now, self._allowed_at) + 1 / self.behaviour.requests_per_second
        return False

    def _text(self, key: str, data: bytes) -> str:
        if not self.behaviour.latency_seconds:  # measured servers do not parse
            self.seen.prompts.add(json.loads(data)["messages"][0]["content"][0]["text"])
        return self.behaviour.answer or f"a scene called {key[:10]}"


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[tuple[str, ChatServer]]:
    """The address (with /v1) of a running server, and the server."""
    server, loop, ready = ChatServer(behaviour), asyncio.new_event_loop(), threading.Event()
    found: list[int] = []

    async def start() -> web.AppRunner:
        runner = web.AppRunner(server.app(), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        found.append(runner.addresses[0][1])
        ready.set()
        return runner

    def run() -> None:
        runner = loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait()
    try:
        yield f"http://127.0.0.1:{found[0]}/v1", server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def main(port: str, latency_seconds: str, **shares: str) -> None:
    """Serve until killed; the port is printed on a line of its own."""
    behaviour = Behaviour(latency_seconds=float(latency_seconds), **{k: float(v) for k, v in shares.items()})
    app = ChatServer(behaviour).app()

    async def serve() -> None:
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", int(port), backlog=1024).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], **dict(argument.split("=") for argument in sys.argv[3:]))
