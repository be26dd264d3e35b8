"""Launchers of several nodes start together and miss each other at once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from internvid_assets.viclip.kubernetes.peers import PeerFailed, PeerLost, Peers, meet
from tests.servers import free_ports

Act = Callable[[Peers], Any]


def nodes(*acts: Act) -> list[Any]:
    """What each node's act gives, or raises, once all have met."""
    [port] = free_ports(1)
    found: list[Any] = [None] * len(acts)

    def run(node: int) -> None:
        try:
            with meet(node, len(acts), "localhost", port, "127.0.0.1") as peers:
                found[node] = acts[node](peers)
        except (PeerLost, PeerFailed) as error:
            found[node] = error

    threads = [threading.Thread(target=run, args=(node,)) for node in reversed(range(len(acts)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    return found


def until_lost(peers: Peers) -> None:
    while True:
        peers.check()


def test_when_all_is_stored_everyone_may_go() -> None:
    assert nodes(lambda peers: peers.tell("done"), Peers.await_done, Peers.await_done) == [None, None, None]


def test_a_single_node_needs_nobody() -> None:
    assert nodes(lambda peers: peers.check()) == [None]


def test_a_node_that_goes_is_missed_by_all() -> None:
    first, second, third = nodes(until_lost, lambda peers: None, until_lost)
    assert str(first) == "node 1 is gone" and second is None
    assert isinstance(third, PeerLost) and "node 0 is gone" in str(third)


def test_the_first_node_hears_of_an_error() -> None:
    def fail(peers: Peers) -> None:
        peers.tell("failed 13")
        peers.await_done()

    first, second = nodes(until_lost, fail)
    assert isinstance(first, PeerFailed) and str(first) == "node 1 ended with exit code 13"
    assert isinstance(second, PeerLost)


def test_after_done_a_closed_connection_is_no_loss() -> None:
    gone = threading.Event()

    def tell(peers: Peers) -> None:
        peers.tell("done")

    def look(peers: Peers) -> None:
        while not peers._is_done:
            peers.check()
        gone.wait(0.2)
        peers.check()

    assert nodes(tell, look) == [None, None]


def test_a_node_that_starts_again_before_all_are_there_counts_once() -> None:
    """Its first connection is replaced; a stranger's words are not listened to."""
    [port] = free_ports(1)
    met: list[Any] = []

    def gather() -> None:
        with meet(0, 3, "", port, "127.0.0.1") as peers:
            met.append(sorted(peers._connections))
            peers.tell("done")

    first = threading.Thread(target=gather)
    first.start()
    for words in ("hello 1\n", "GET / HTTP/1.1\n"):
        while True:
            try:
                early = socket.create_connection(("127.0.0.1", port))
                break
            except ConnectionRefusedError:
                continue
        early.sendall(words.encode())
        early.close()

    def join(node: int) -> None:
        with meet(node, 3, "127.0.0.1", port) as peers:
            peers.await_done()

    others = [threading.Thread(target=join, args=(node,)) for node in (2, 1)]  # with 2, all would seem to be there
    others[0].start()
    others[0].join(1.5)
    assert others[0].is_alive() and not met
    others[1].start()
    for thread in (first, *others):
        thread.join(30)
        assert not thread.is_alive()
    assert met == [[1, 2]]


def test_nobody_is_taken_in_once_training_has_begun() -> None:
    [port] = free_ports(1)

    def refused(peers: Peers) -> bool:
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port))
        peers.tell("done")
        return True

    done: list[bool] = []

    def gather() -> None:
        with meet(0, 2, "", port, "127.0.0.1") as peers:
            done.append(refused(peers))

    first = threading.Thread(target=gather)
    first.start()
    with meet(1, 2, "127.0.0.1", port) as peers:
        peers.await_done()
    first.join(30)
    assert done == [True]
