"""Scratch folders: one for each process, gone with it however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from internvid_assets.lake.scratch import Scratch

_HOLDER = """
import sys
from pathlib import Path
from internvid_assets.lake.scratch import Scratch
scratch = Scratch(Path(sys.argv[1]))
(scratch.folder / "large").write_bytes(b"0" * 1000)
print(scratch.folder, flush=True)
sys.stdin.read()
"""


def holder(parent: Path) -> tuple[subprocess.Popen, Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(parent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_killed_process_s_folder_is_removed_by_the_next_and_a_living_one_s_is_not(tmp_path: Path) -> None:
    parent = tmp_path / "scratch"
    killed, dead = holder(parent)
    alive, living = holder(parent)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert (dead / "large").exists()
    mine = Scratch(parent)
    assert not dead.exists() and (living / "large").exists() and mine.folder not in (dead, living)
    alive.communicate("")
    assert not living.exists()
    mine.close()
    assert [path.name for path in parent.iterdir()] == ["lock"]


def test_a_fork_that_ends_leaves_its_parent_s_folder(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    child = os.fork()
    if not child:
        scratch.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert scratch.folder.exists()
    scratch.close()
    assert not scratch.folder.exists()
