"""The whole stand-in: started in a thread, reached by HTTP like a cluster, with switches for tests."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from tests.kubesim.api import Api
from tests.kubesim.container import Container, service_names
from tests.kubesim.faults import Faults
from tests.kubesim.jobs import JobController
from tests.kubesim.jobsets import JobSetController, TrainJobController
from tests.kubesim.kubelet import Kubelet
from tests.kubesim.objects import Object, Objects
from tests.kubesim.scheduler import Node, Scheduler

ROOT = Path(__file__).parents[2]
_RESYNC_SECONDS = 0.25
_SETTLE_SECONDS = 0.02


class KubeSim:
    """A cluster for the time of a `with` block.

    Args:
        folder: for pods' files, volume claims and the kubeconfig.
        nodes: what is there to schedule on.
        environment: of the image, beside PATH and PYTHONPATH.
        isolated: pods get namespaces of their own (root only); else their command runs as it is.
        backoff_seconds: the Job controller's; 10 on a real cluster.
    """

    def __init__(
        self, folder: Path, nodes: list[Node] | None = None, environment: dict[str, str] | None = None,
        isolated: bool = True, backoff_seconds: float = 0.0,
    ):  # fmt: skip
        self.folder, self.faults, self.url = folder, Faults(), ""
        self._nodes = nodes or [Node(f"node-{i}", {"cpu": "8", "memory": "64Gi"}) for i in range(2)]
        self._isolated, self._backoff_seconds = isolated, backoff_seconds
        image = {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8",
        }  # fmt: skip
        self._image = {**image, **(environment or {})}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> KubeSim:
        self._thread.start()
        self._do(self._start())
        self.kubeconfig = self.folder / "kubeconfig"
        self.kubeconfig.write_text(yaml.safe_dump(_kubeconfig(self.url)))
        return self

    def __exit__(self, *_: Any) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # --- what tests do ------------------------------------------------------------------------------------------------
    def all(self, plural: str, labels: str = "") -> list[Object]:
        """Every object of a kind, of all namespaces."""
        return self.call(lambda: self.objects.list(plural, None, labels))

    def create(self, plural: str, namespace: str, item: Object) -> Object:
        """Put an object there without asking admission."""
        return self.call(lambda: self.objects.create(plural, namespace, item))

    def end_pod(self, name: str, reason: str = "Error", evicted: bool = False) -> None:
        """Kill a pod's processes: as they are, or `OOMKilled`, or evicted by its node."""
        [pod] = [pod for pod in self.all("pods") if pod["metadata"]["name"] == name]
        self.call(lambda: self.kubelet.end(pod, reason, evicted))

    def claim(self, name: str, held: Path | None = None) -> Path:
        """Make a volume claim, of a folder that is there or of a new one; its folder."""
        folder = self.container.claim_folder(name)
        if held is not None:
            folder.symlink_to(held)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def log_of(self, name: str) -> list[str]:
        """What a pod has written so far."""
        [pod] = [pod for pod in self.all("pods") if pod["metadata"]["name"] == name]
        log = self.kubelet.log(pod)
        return [] if log is None else [text for _, text in list(log.lines)]

    def until(self, is_so: Callable[[], Any], seconds: float = 60.0) -> Any:
        """The first value that is true. Raises: TimeoutError."""
        deadline = time.monotonic() + seconds
        while not (value := is_so()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not so within {seconds} s")
            time.sleep(0.02)
        return value

    def call(self, function: Callable[[], Any]) -> Any:
        """Run something in the server's thread."""

        async def do() -> Any:
            return function()

        return self._do(do())

    # --- life ---------------------------------------------------------------------------------------------------------
    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)

    async def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.objects = Objects()
        self.container = Container(self.objects, self.folder, self._image, self._isolated)
        self.kubelet = Kubelet(self.objects, self.faults, self.container)
        self._controllers = [
            TrainJobController(self.objects), JobSetController(self.objects),
            JobController(self.objects, self.faults, self._backoff_seconds), Scheduler(self.objects, self._nodes), self.kubelet,
        ]  # fmt: skip
        runner = web.AppRunner(
            Api(self.objects, self.kubelet, self.faults).application(), access_log=None, shutdown_timeout=0.5
        )
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._runner, self._control = runner, asyncio.create_task(self._reconcile())

    async def _reconcile(self) -> None:
        """Every controller at every change, and now and then for what depends on time."""
        while True:
            change = asyncio.ensure_future(self.objects.changed())
            for controller in self._controllers:
                controller.reconcile()
            self.objects.collect_garbage()
            if self._isolated:
                names = service_names(self.objects)
                for pod in self.objects.each("pods"):
                    if pod["status"].get("phase") in ("Pending", "Running"):
                        self.container.write_hosts(pod, names.get(pod["metadata"]["namespace"], {}))
            await asyncio.wait([change], timeout=_RESYNC_SECONDS)
            change.cancel()
            await asyncio.sleep(_SETTLE_SECONDS)

    async def _stop(self) -> None:
        self._control.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._control
        await self.kubelet.close()
        await self._runner.cleanup()


def _kubeconfig(url: str) -> Object:
    return {
        "apiVersion": "v1", "kind": "Config", "current-context": "kubesim",
        "clusters": [{"name": "kubesim", "cluster": {"server": url}}],
        "users": [{"name": "test", "user": {"token": "kubesim"}}],
        "contexts": [{"name": "kubesim", "context": {"cluster": "kubesim", "user": "test"}}],
    }  # fmt: skip
