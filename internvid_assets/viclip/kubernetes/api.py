"""The cluster's API as plain dictionaries, patient with its moods."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any, TypeVar

import kubernetes
import urllib3
from kubernetes.client import ApiException

from internvid_assets.settings import KubernetesSettings
from internvid_assets.viclip.kubernetes.manifest import BACKENDS, Manifest

_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_MAX_TRIES = 10
_MAX_WAIT_SECONDS = 20.0
_READ_SECONDS = 60.0
_LOG_SILENCE_SECONDS = 3600.0
T = TypeVar("T")


class Cluster:
    """One namespace of a cluster, and the kind of workload that the settings name."""

    def __init__(self, settings: KubernetesSettings, sleep: Callable[[float], None] = time.sleep):
        self._namespace, self._backend, self._sleep = settings.namespace, BACKENDS[settings.backend], sleep
        self._client = kubernetes.client.ApiClient(_configuration(settings))
        self._workloads = kubernetes.client.CustomObjectsApi(self._client)
        self._core = kubernetes.client.CoreV1Api(self._client)

    def workload(self, name: str) -> Manifest | None:
        """The Job, JobSet or TrainJob; None when there is none."""
        try:
            return self._workload_call(self._workloads.get_namespaced_custom_object, name=name)
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    def create_workload(self, manifest: Manifest) -> Manifest | None:
        """The created object; None when the name is taken."""
        try:
            return self._workload_call(self._workloads.create_namespaced_custom_object, body=manifest)
        except ApiException as error:
            if error.status == 409:
                return None
            raise

    def release_workload(self, name: str) -> None:
        """Let a suspended workload make its pods."""
        self._workload_call(
            self._workloads.patch_namespaced_custom_object, name=name, body={"spec": {"suspend": False}}
        )

    def delete_workload(self, name: str) -> None:
        """Ask for its deletion, and with it that of all it owns."""
        try:
            self._workload_call(
                self._workloads.delete_namespaced_custom_object, name=name, propagation_policy="Foreground"
            )
        except ApiException as error:
            if error.status != 404:
                raise

    def create_owned(self, manifest: Manifest) -> None:
        """Create a Service or Secret, unless it is there."""
        create = {"Service": self._core.create_namespaced_service, "Secret": self._core.create_namespaced_secret}
        try:
            self._patiently(create[manifest["kind"]], namespace=self._namespace, body=manifest)
        except ApiException as error:
            if error.status != 409:
                raise

    def pods(self, name: str) -> list[Manifest]:
        """Pods of a workload, oldest first."""
        selector = f"{self._backend.pod_label}={name}"
        found = self._patiently(self._core.list_namespaced_pod, namespace=self._namespace, label_selector=selector)
        return sorted(self._plain(found)["items"], key=lambda pod: pod["metadata"]["creationTimestamp"])

    def owned(self, owner_uid: str) -> list[Manifest]:
        """Services and Secrets that name this owner."""
        lists = (self._core.list_namespaced_service, self._core.list_namespaced_secret)
        found = [
            item for each in lists for item in self._plain(self._patiently(each, namespace=self._namespace))["items"]
        ]
        return [i for i in found if any(o["uid"] == owner_uid for o in i["metadata"].get("ownerReferences", []))]

    def warnings(self, name: str) -> list[str]:
        """What the cluster complained of about a workload or the Jobs that it was made into, newest last."""
        found = self._patiently(
            self._core.list_namespaced_event, namespace=self._namespace, field_selector="type=Warning"
        )
        events = [e for e in self._plain(found)["items"] if e["involvedObject"].get("name", "").startswith(name)]
        return [f"{event.get('reason')}: {event.get('message')}" for event in events]

    def log_lines(self, pod: str, since_seconds: int | None) -> Iterator[str]:
        """Lines of a pod's log with their times, as they come, until the pod ends or the connection breaks."""
        # Not retried here: the follower knows what it has.
        response = self._core.read_namespaced_pod_log(
            pod, self._namespace, follow=True, timestamps=True, since_seconds=since_seconds, _preload_content=False,
            _request_timeout=(_READ_SECONDS, _LOG_SILENCE_SECONDS),
        )  # fmt: skip
        with closing(response):
            rest = b""
            for piece in response.stream(amt=None):
                *lines, rest = (rest + piece).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines)
            if rest:
                yield rest.decode(errors="replace")

    def log_tail(self, pod: str, num_lines: int) -> list[str]:
        """The last lines of a pod's log; none where it has no log."""
        try:
            response = self._patiently(
                self._core.read_namespaced_pod_log, pod, self._namespace, tail_lines=num_lines, _preload_content=False
            )
            return response.data.decode(errors="replace").splitlines()
        except ApiException:
            return []

    def _workload_call(self, call: Callable[..., Any], **more: Any) -> Manifest:
        backend = self._backend
        return self._patiently(
            call, group=backend.group, version=backend.version, namespace=self._namespace, plural=backend.plural, **more
        )

    def _plain(self, found: Any) -> Mapping[str, Any]:
        return self._client.sanitize_for_serialization(found)

    def _patiently(self, call: Callable[..., T], *positional: Any, **named: Any) -> T:
        """Call the API; what may pass is tried again, after what the server asks for or longer and longer pauses.

        Raises: ValueError when the cluster does not let this account do it.
        """
        for number in range(_MAX_TRIES):
            try:
                return call(*positional, **named, _request_timeout=_READ_SECONDS)
            except ApiException as error:
                if error.status in (401, 403):
                    raise ValueError(
                        f"the cluster refuses: {_message(error)}; see docs/kubernetes-training.md"
                    ) from error
                if number + 1 == _MAX_TRIES or not _may_pass(error):
                    raise
                asked = float((error.headers or {}).get("Retry-After") or 0)
            except urllib3.exceptions.HTTPError:
                if number + 1 == _MAX_TRIES:
                    raise
                asked = 0.0
            self._sleep(max(asked, min(_MAX_WAIT_SECONDS, 0.25 * 2**number) * random.uniform(0.5, 1.0)))
        raise AssertionError("unreachable")


def _may_pass(error: ApiException) -> bool:
    """Whether trying again may help; of conflicts, those of two writers, not a name that is taken."""
    return error.status in _TRANSIENT or (error.status == 409 and "AlreadyExists" not in (error.body or ""))


def _message(error: ApiException) -> str:
    """The server's own words."""
    try:
        return str(json.loads(error.body or "")["message"])
    except (ValueError, KeyError, TypeError):
        return f"{error.status} {error.reason}"


def _configuration(settings: KubernetesSettings) -> Any:
    """The named kubeconfig, else the pod's own account, else the user's file. Raises: ValueError when there is none."""
    configuration = kubernetes.client.Configuration()
    configuration.retries = False
    config = kubernetes.config
    try:
        if settings.kubeconfig is None and settings.context is None:
            try:
                config.load_incluster_config(client_configuration=configuration)
                return configuration
            except config.ConfigException:
                pass
        config.load_kube_config(settings.kubeconfig, settings.context, configuration)
    except config.ConfigException as error:
        raise ValueError(f"no cluster to train on: {error}; set viclip.kubernetes.kubeconfig") from error
    return configuration
