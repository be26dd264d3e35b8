"""The kubelet of all nodes: each pod's command runs as a local process with its own host name, hosts file and volumes."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.kubesim.container import Container, NotReady
from tests.kubesim.faults import Faults
from tests.kubesim.objects import ApiError, Object, Objects, now

_FIRST_HOST = 2
_LINE_LIMIT = 16 << 20
_RETRY_SECONDS = 0.2


class PodLog:
    """What a container wrote, with the time of each line."""

    def __init__(self) -> None:
        self.lines: list[tuple[datetime.datetime, str]] = []
        self._is_over = False
        self._news = asyncio.Event()

    def add(self, text: str) -> None:
        self.lines.append((datetime.datetime.now(datetime.UTC), text))
        self._tell()

    def end(self) -> None:
        self._is_over = True
        self._tell()

    async def read(self, begin: int, follow: bool) -> AsyncIterator[tuple[datetime.datetime, str]]:
        """The lines from one on; with `follow` until the container has ended."""
        number = begin
        while True:
            news = self._news
            while number < len(self.lines):
                yield self.lines[number]
                number += 1
            if not follow or self._is_over:
                return
            await news.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class Kubelet:
    """Starts, watches and ends the pods that have a node."""

    def __init__(self, objects: Objects, faults: Faults, container: Container):
        self._objects, self._faults, self._container = objects, faults, container
        self._runners: dict[str, _Runner] = {}
        self._last_host = _FIRST_HOST
        self.num_started: dict[str, int] = {}
        """How often each pod was started, by name: never more than once."""

    def reconcile(self) -> None:
        for pod in self._objects.each("pods"):
            metadata = pod["metadata"]
            uid, is_over = metadata["uid"], pod["status"].get("phase") in ("Succeeded", "Failed")
            if uid not in self._runners and pod["spec"].get("nodeName") and not is_over:
                self._last_host += 1
                ip = f"127.{self._last_host >> 16 & 255}.{self._last_host >> 8 & 255}.{self._last_host & 255}"
                self._runners[uid] = _Runner(self, self._objects, self._faults, self._container, pod, ip)
            elif metadata.get("deletionTimestamp"):
                runner = self._runners.get(uid)
                if runner is None or runner.is_over:
                    self._objects.remove("pods", metadata["namespace"], metadata["name"])
                else:
                    runner.stop(metadata.get("deletionGracePeriodSeconds", 30))

    def log(self, pod: Object) -> PodLog | None:
        """None: the container has not started."""
        runner = self._runners.get(pod["metadata"]["uid"])
        return runner.log if runner is not None and runner.has_started else None

    def end(self, pod: Object, reason: str, evicted: bool = False) -> None:
        """Kill a running container, as the kernel (`OOMKilled`) or the node (`Evicted`) would."""
        self._runners[pod["metadata"]["uid"]].kill(reason, evicted)

    async def close(self) -> None:
        for runner in self._runners.values():
            runner.kill("Error", False)
        await asyncio.gather(*(runner.task for runner in self._runners.values()), return_exceptions=True)


class _Runner:
    """One pod from its start to its end."""

    def __init__(
        self, kubelet: Kubelet, objects: Objects, faults: Faults, container: Container, pod: Object, ip: str
    ):  # fmt: skip
        self._kubelet, self._objects, self._faults, self._container = kubelet, objects, faults, container
        self._namespace, self._name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        self._ip, self._reason, self._is_evicted, self._is_killed, self._stops_at = ip, "", False, False, 0.0
        self._process: asyncio.subprocess.Process | None = None
        self.log, self.has_started, self.is_over = PodLog(), False, False
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        with contextlib.suppress(ApiError):  # the pod object went away
            try:
                await self._start()
                if self._process is not None:
                    await self._attend(self._process)
            except Exception as error:
                self.log.add(f"kubesim: {error!r}")
                self._write_end(128)
                raise
            finally:
                self.is_over = True
                self.log.end()
            pod = self._objects.get("pods", self._namespace, self._name)
            if pod["metadata"].get("deletionTimestamp"):
                self._objects.remove("pods", self._namespace, self._name)

    async def _start(self) -> None:
        """Wait until image, secrets and claims are there, as a kubelet does, then start the process."""
        self._write({"phase": "Pending", "hostIP": "127.0.0.1", "podIP": self._ip, "podIPs": [{"ip": self._ip}]})
        while not self._stops_at:
            pod = self._objects.get("pods", self._namespace, self._name)
            try:
                if pod["spec"]["containers"][0]["image"] in self._faults.missing_images:
                    raise NotReady("ImagePullBackOff", "Back-off pulling image: not found")
                command, environment = self._container.prepare(pod)
            except NotReady as problem:
                self._write_state({"waiting": {"reason": problem.reason, "message": str(problem)}})
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            self._kubelet.num_started[self._name] = self._kubelet.num_started.get(self._name, 0) + 1
            self._process = await asyncio.create_subprocess_exec(
                *command, env=environment, cwd="/", stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, limit=_LINE_LIMIT,
            )  # fmt: skip
            self.has_started = True
            self._write({"phase": "Running", "startTime": now()})
            self._write_state({"running": {"startedAt": now()}}, ready=True)
            return

    async def _attend(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        if self._reason:
            self._signal(signal.SIGKILL)
        async for line in process.stdout:
            self.log.add(line.decode(errors="replace").rstrip("\n"))
        code = await process.wait()
        self._write_end(137 if self._is_killed else 128 - code if code < 0 else code)

    def stop(self, grace_seconds: float) -> None:
        """SIGTERM, and SIGKILL when the grace is over."""
        if not self._stops_at:
            self._stops_at = time.monotonic() + grace_seconds
            self._signal(signal.SIGTERM)
        elif time.monotonic() >= self._stops_at:
            self._signal(signal.SIGKILL)

    def kill(self, reason: str, evicted: bool) -> None:
        if not self.is_over:
            self._reason, self._is_evicted = reason, evicted
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        """To the container's first process; in namespaces that is the child of the one that made them."""
        if self._process is None or self._process.returncode is not None:
            return
        outer = self._process.pid
        self._is_killed |= number == signal.SIGKILL
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            inner = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
            os.kill(int(inner[0]) if inner and self._container.isolated else outer, number)

    def _write_end(self, code: int) -> None:
        reason = self._reason or ("Completed" if code == 0 else "Error")
        status: dict[str, Any] = {"phase": "Succeeded" if code == 0 else "Failed", "kubesimEnded": time.time()}
        if self._is_evicted:
            status.update(reason="Evicted", message="The node was low on resource: ephemeral-storage.")
        self._write_state({"terminated": {"exitCode": code, "reason": reason, "finishedAt": now()}})
        self._write(status, disrupted=self._is_evicted)

    def _write_state(self, state: Object, ready: bool = False) -> None:
        pod = self._objects.get("pods", self._namespace, self._name)
        container = pod["spec"]["containers"][0]
        self._write(
            {"containerStatuses": [{"name": container["name"], "image": container["image"], "imageID": "", "ready": ready,
                                    "restartCount": 0, "started": ready, "state": state}]}
        )  # fmt: skip

    def _write(self, values: Object, disrupted: bool = False) -> None:
        def change(pod: Object) -> None:
            pod["status"].update(values)
            if disrupted:
                pod["status"].setdefault("conditions", []).append(
                    {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}
                )

        self._objects.update("pods", self._namespace, self._name, change)
