"""The launchers of a training's nodes keep hold of each other: they start together, and a lost one is noticed by all.

A node that goes away without a word would leave the others waiting in a collective (NCCL notices after half an hour). So the
first node's launcher listens, the others stay connected to it for as long as they train, and a connection that breaks ends
the attempt everywhere. The Job starts the missing pods again, they meet again, and training goes on from the saved state.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator

_RETRY_SECONDS = 0.5
_HELLO_SECONDS = 10.0
_MAX_MESSAGE = 64
# A node that vanished sends no goodbye: its silence is noticed after some 25 s.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))


class PeerLost(Exception):
    """A node's launcher is gone."""


class PeerFailed(Exception):
    """A node's training ended with an error; the message names the node and the exit code."""


class Peers:
    """The connections of one launcher: on the first node to all others, on the others to the first."""

    def __init__(self, connections: dict[int, socket.socket], is_done: bool = False):
        self._connections = connections
        self._is_done = is_done

    def check(self) -> None:
        """Raises: PeerLost or PeerFailed when a node has gone or told of an error before everything was stored."""
        if self._is_done:
            return
        for node, words in self._heard(0.0):
            self._is_done |= words == "done"
            if words.startswith("failed"):
                raise PeerFailed(f"node {node} ended with exit code {words.split()[1]}")

    def tell(self, words: str) -> None:
        """Say something to everyone who still listens."""
        for connection in self._connections.values():
            with contextlib.suppress(OSError):
                connection.sendall(f"{words}\n".encode())

    def await_done(self) -> None:
        """Return when the first node says that everything is stored. Raises: PeerLost when it goes before."""
        while not self._is_done:
            self._is_done = any(words == "done" for _, words in self._heard(None))

    def _heard(self, seconds: float | None) -> list[tuple[int, str]]:
        nodes = {connection: node for node, connection in self._connections.items()}
        readable, _, _ = select.select(list(nodes), [], [], seconds)
        return [(nodes[one], words) for one in readable for words in _received(one, nodes[one])]

    def close(self) -> None:
        """Hang up."""
        for connection in self._connections.values():
            connection.close()


@contextlib.contextmanager
def meet(node: int, num_nodes: int, first_node: str, port: int, address: str = "") -> Iterator[Peers]:
    """Connected peers, once the launchers of all nodes are there.

    Args:
        first_node: host name of the first node; it may not resolve yet.
        address: where the first node listens; empty: everywhere.
    """
    peers = _gather(num_nodes, port, address) if node == 0 else _join(node, first_node, port)
    try:
        yield peers
    finally:
        peers.close()


def _gather(num_nodes: int, port: int, address: str) -> Peers:
    """Wait for every other node; of two connections of one node the newer counts. Whoever comes later is refused."""
    connections: dict[int, socket.socket] = {}
    if num_nodes > 1:
        with socket.create_server((address, port), backlog=num_nodes) as server:
            while len(connections) < num_nodes - 1 or _forget_gone(connections):
                connection, _ = server.accept()
                connection.settimeout(_HELLO_SECONDS)
                with contextlib.suppress(PeerLost, ValueError):
                    [hello] = _received(_alive(connection), -1)
                    connections[int(hello.removeprefix("hello "))] = connection
    peers = Peers(connections)
    peers.tell("go")
    return peers


def _forget_gone(connections: dict[int, socket.socket]) -> bool:
    """Whether any had hung up: nobody speaks between hello and go, so what can be read is the end."""
    readable, _, _ = select.select(list(connections.values()), [], [], 0.0)
    for node in [node for node, connection in connections.items() if connection in readable]:
        connections.pop(node).close()
    return bool(readable)


def _join(node: int, first_node: str, port: int) -> Peers:
    """Connect to the first node until it says go. One that trains already, or that goes away, is tried again."""
    while True:
        with contextlib.suppress(OSError, PeerLost):
            connection = _alive(socket.create_connection((first_node, port), timeout=10))
            connection.settimeout(None)
            connection.sendall(f"hello {node}\n".encode())
            words = _received(connection, 0)
            if words[0] == "go":
                return Peers({0: connection}, is_done="done" in words)
        time.sleep(_RETRY_SECONDS)


def _alive(connection: socket.socket) -> socket.socket:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    return connection


def _received(connection: socket.socket, node: int) -> list[str]:
    """The lines that wait. Raises: PeerLost when the connection is closed."""
    try:
        data = connection.recv(_MAX_MESSAGE)
    except OSError as error:
        raise PeerLost(f"node {node} is gone: {error}") from error
    if not data:
        raise PeerLost(f"node {node} is gone")
    return data.decode().splitlines()
