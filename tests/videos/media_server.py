"""A file server that misbehaves on order, over real HTTP, and remembers every request.

`python tests/videos/media_server.py FOLDER PORT KIBIBYTES_PER_SECOND LOG` serves a folder's files in a process of its own.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import re
import socket
import struct
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web


@dataclass
class Misdeed:
    """One answer that is not as it should be; unset fields are."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    reset_after: int | None = None
    """Bytes of the answer until the connection is reset."""
    end_after: int | None = None
    """Bytes of the answer until the connection is closed as if that were all."""
    hang_after: int | None = None
    """Bytes of the answer until nothing comes any more."""
    body: bytes | None = None
    """Another body than the file's."""


@dataclass
class Resource:
    """A file, and the answers to its next requests; when these are used up, it is served as it should be."""

    body: bytes
    misdeeds: list[Misdeed] = field(default_factory=list)
    always: Misdeed | None = None
    has_ranges: bool = True
    has_etag: bool = True
    content_type: str = "video/mp4"


@dataclass
class Seen:
    """A request as the server saw it, and how many bytes of the body it has sent so far."""

    path: str
    at: float
    range: str | None
    at_once: int
    """Requests under way, this one included."""
    status: int = 0
    num_bytes: int = 0


class MediaServer:
    """Resources by path, and what was seen."""

    def __init__(self) -> None:
        self.resources: dict[str, Resource] = {}
        self.seen: list[Seen] = []
        self.bytes_per_second = 0
        self.latency_seconds = 0.0
        self.log: Path | None = None
        self._at_once = 0

    def requests(self, path: str) -> list[Seen]:
        """What was asked for at a path."""
        return [seen for seen in self.seen if seen.path == path]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Any GET."""
        self._at_once += 1
        seen = Seen(request.path, time.monotonic(), request.headers.get("Range"), self._at_once)
        self.seen.append(seen)
        try:
            await asyncio.sleep(self.latency_seconds)
            response = await self._serve(request, seen)
            seen.status = response.status
            return response
        finally:
            self._at_once -= 1
            if self.log is not None:
                with self.log.open("a") as file:
                    file.write(json.dumps(seen.__dict__) + "\n")

    async def _serve(self, request: web.Request, seen: Seen) -> web.StreamResponse:
        resource = self.resources.get(request.path)
        if resource is None:
            return web.Response(status=404)
        deed = resource.misdeeds.pop(0) if resource.misdeeds else resource.always or Misdeed()
        if deed.hang_after == 0:
            await asyncio.sleep(3600)
        if deed.status != 200:
            return web.Response(status=deed.status, headers=deed.headers)
        body = resource.body if deed.body is None else deed.body
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        start = self._start(request, resource, etag)
        headers = {"Content-Length": str(len(body) - start), "Content-Type": resource.content_type} | deed.headers
        if resource.has_etag:
            headers["ETag"] = etag
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        seen.status = 206 if start else 200
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        await response.prepare(request)
        await self._send(request, response, body[start:], deed, seen)
        return response

    def _start(self, request: web.Request, resource: Resource, etag: str) -> int:
        """Where the answer begins, by Range and If-Range."""
        match = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        is_same = request.headers.get("If-Range", etag) == etag
        return int(match[1]) if match and resource.has_ranges and is_same else 0

    async def _send(
        self, request: web.Request, response: web.StreamResponse, body: bytes, deed: Misdeed, seen: Seen
    ) -> None:
        stops = [stop for stop in (deed.reset_after, deed.end_after, deed.hang_after) if stop is not None]
        end, step = min([len(body), *stops]), self.bytes_per_second // 20 or len(body) or 1
        for offset in range(0, end, step):
            seen.num_bytes = min(offset + step, end)
            await response.write(body[offset : seen.num_bytes])
            if self.bytes_per_second:
                await asyncio.sleep(0.05)
        if deed.hang_after is not None:
            await asyncio.sleep(3600)
        if stops and request.transport is not None:
            await _break(request.transport, reset=deed.reset_after is not None)


async def _break(transport: asyncio.Transport, reset: bool) -> None:
    """Close a connection in the middle of an answer, when the client's machine has what was written."""
    connection = transport.get_extra_info("socket")
    while transport.get_write_buffer_size() or _unsent(connection.fileno()):
        await asyncio.sleep(0.01)
    if reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    transport.close()


def _unsent(descriptor: int) -> int:
    """Bytes that the other side has not acknowledged."""
    return struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, b"\0\0\0\0"))[0]


@contextmanager
def serving() -> Iterator[tuple[str, MediaServer]]:
    """The address of a running server, and the server."""
    server, loop, ready = MediaServer(), asyncio.new_event_loop(), threading.Event()
    found: list[int] = []

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/{path:.*}", server.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
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
        yield f"http://127.0.0.1:{found[0]}", server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def main(folder: str, port: str, kibibytes_per_second: str, log: str) -> None:
    """Serve until killed."""
    server = MediaServer()
    server.bytes_per_second, server.log = int(kibibytes_per_second) * 1024, Path(log)
    for path in Path(folder).iterdir():
        server.resources[f"/{path.name}"] = Resource(path.read_bytes())

    async def serve() -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", server.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", int(port), backlog=1024).start()
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main(*sys.argv[1:])
