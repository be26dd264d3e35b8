"""What runs in each pod of a training: shards in, one launcher for this node's processes, states and results out.

    python -m internvid_assets.viclip.kubernetes.pod --name RUN_KEY-ROLE --shards-id ID --nodes N --processes P \
        --first-node HOST --port PORT -- ARGUMENTS OF training.train

The node's rank is JOB_COMPLETION_INDEX, which the Job sets. Exit codes: 0 done (or done before), 2 used wrongly, 75 left
because another node was lost, else the failed process's. So that a failure counts once, only the first node passes on the
failure of a process; a node that dies is counted by the Job itself.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from internvid_assets.settings import Settings
from internvid_assets.store import LocalStore, ObjectStore, open_store
from internvid_assets.viclip.kubernetes.mirror import StateMirror, is_finished, put_outputs
from internvid_assets.viclip.kubernetes.peers import PeerFailed, PeerLost, Peers, meet
from internvid_assets.viclip.launch import FILES

PEER_LOST = 75
WRONG_USE = 2
_POLL_SECONDS = 0.2
_SAY_GOODBYE_SECONDS = 10.0
"""After a failed process: how long a peer that caused it may take to be noticed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train this node's part; returns the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    split = given.index("--")
    arguments, training_arguments = make_parser().parse_args(given[:split]), given[split + 1 :]
    node = int(os.environ["JOB_COMPLETION_INDEX"])
    signal.signal(signal.SIGTERM, _leave)
    settings = Settings()
    store = open_store(settings)
    place = _place(settings, store, arguments.name)
    if place.is_finished():
        print(f"training {arguments.name} is finished already", file=sys.stderr)
        return 0
    place.output.mkdir(parents=True, exist_ok=True)
    if node == 0:
        place.fetch_state()
    shards = store.local_folder(f"shards/{arguments.shards_id}")
    with meet(node, arguments.nodes, arguments.first_node, arguments.port, os.environ.get("POD_IP", "")) as peers:
        command = node_command(
            arguments, node, [*training_arguments, "--shards", str(shards), "--output", str(place.output)]
        )
        code = _run(command, peers, place.keep_state if node == 0 else lambda: None, is_first=node == 0)
        if code == 0:
            _finish(peers, place, node)
        return code


class _Shared:
    """The output folder lies on a volume that all nodes share: what is written there is kept."""

    def __init__(self, output: Path):
        self.output = output

    def is_finished(self) -> bool:
        return (self.output / FILES[-1]).exists()

    def fetch_state(self) -> None:
        pass

    def keep_state(self) -> None:
        pass

    def put_outputs(self) -> None:
        pass


class _OnS3:
    """The output folder is this pod's own: states and results go to the media store."""

    def __init__(self, store: ObjectStore, name: str, output: Path):
        self.output = output
        self._store, self._name = store, name
        self._mirror = StateMirror(store, name, output)

    def is_finished(self) -> bool:
        return is_finished(self._store, self._name)

    def fetch_state(self) -> None:
        print(f"training goes on from {self._mirror.fetch() or 'the start'}", file=sys.stderr)

    def keep_state(self) -> None:
        self._mirror.upload()

    def put_outputs(self) -> None:
        put_outputs(self._store, self._name, self.output, FILES)


def _place(settings: Settings, store: ObjectStore, name: str) -> _Shared | _OnS3:
    output = settings.cache_folder / "training" / name
    return _Shared(output) if isinstance(store, LocalStore) else _OnS3(store, name, output)


def node_command(arguments: argparse.Namespace, node: int, training_arguments: Sequence[str]) -> list[str]:
    """One launcher starts this node's processes; each runs DeepSpeed."""
    return [
        sys.executable, "-m", "internvid_assets.viclip.kubernetes.node", "--nnodes", str(arguments.nodes),
        "--nproc-per-node", str(arguments.processes), "--node-rank", str(node), "--master-addr", arguments.first_node,
        "--master-port", str(arguments.port + 1), "-m", "training.train", *training_arguments,
    ]  # fmt: skip


def _run(command: Sequence[str], peers: Peers, keep_state: Callable[[], None], is_first: bool) -> int:
    """Run the launcher to its end, or to that of any other node's."""
    process = subprocess.Popen(command)
    ended = threading.Event()
    keeper = threading.Thread(target=_keep, args=(keep_state, ended), daemon=True)
    keeper.start()
    try:
        while process.poll() is None:
            peers.check()
            _wait(process, _POLL_SECONDS)
        return _own_code(process.returncode, peers, is_first)
    except PeerLost as lost:
        print(f"leaving: {lost}", file=sys.stderr)
        return PEER_LOST
    except PeerFailed as failed:
        print(f"leaving: {failed}", file=sys.stderr)
        return 1
    finally:
        _stop(process)
        ended.set()
        keeper.join()


def _own_code(code: int, peers: Peers, is_first: bool) -> int:
    """The exit code of this node when its processes ended by themselves. Raises: PeerLost when that was why."""
    if code in (0, WRONG_USE):
        return code
    if not is_first:
        peers.tell(f"failed {code}")
        print(f"this node's training ended with exit code {code}", file=sys.stderr)
        return PEER_LOST
    goodbye = threading.Event()
    for _ in range(int(_SAY_GOODBYE_SECONDS / _POLL_SECONDS)):
        peers.check()
        goodbye.wait(_POLL_SECONDS)
    return code


def _finish(peers: Peers, place: _Shared | _OnS3, node: int) -> None:
    """No node leaves before everything is stored: one that left is not started again."""
    if node == 0:
        place.put_outputs()
        peers.tell("done")
    else:
        peers.await_done()


def _keep(keep_state: Callable[[], None], ended: threading.Event) -> None:
    """Put new states where they are safe, and the last one when training has ended. What fails is tried again."""
    is_last = False
    while not is_last:
        is_last = ended.wait(1.0)
        try:
            keep_state()
        except Exception as error:
            print(f"the newest state could not be stored: {error}", file=sys.stderr)


def _wait(process: subprocess.Popen, seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _stop(process: subprocess.Popen) -> None:
    """End the launcher, which ends its processes; whatever is left goes with the container."""
    process.terminate()
    _wait(process, _SAY_GOODBYE_SECONDS)
    process.kill()
    process.wait()


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def make_parser() -> argparse.ArgumentParser:
    """Of a pod's own arguments, before `--`."""
    parser = argparse.ArgumentParser(prog="internvid_assets.viclip.kubernetes.pod")
    for name in ("--name", "--shards-id", "--first-node"):
        parser.add_argument(name, required=True)
    for name in ("--nodes", "--processes", "--port"):
        parser.add_argument(name, type=int, required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
