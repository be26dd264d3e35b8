"""Trains on a cluster: makes the workload or finds the one that runs, follows it to its end, and clears up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

from internvid_assets.settings import Settings
from internvid_assets.store import LocalStore, ObjectStore
from internvid_assets.viclip.kubernetes.api import Cluster
from internvid_assets.viclip.kubernetes.failures import (
    TrainingFailed,
    end_problem,
    has_started,
    is_over,
    main_problem,
    node_index,
    outcome,
    waiting_problem,
)
from internvid_assets.viclip.kubernetes.follow import LogFollower
from internvid_assets.viclip.kubernetes.manifest import build_owned, build_workload, check_kubernetes, job_name
from internvid_assets.viclip.kubernetes.mirror import forget_messages, get_outputs, is_finished
from internvid_assets.viclip.launch import FILES, Training

_LOG_LINES = 20
_GONE_SECONDS = 120.0
_LAST_LINES_SECONDS = 15.0
Say = Callable[[str], None]


class KubernetesLauncher:
    """One training at a time."""

    def __init__(
        self, settings: Settings, store: ObjectStore, say: Say, cluster: Cluster | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ):  # fmt: skip
        """Raises: ValueError when pods could not run with these settings, or there is no cluster."""
        check_kubernetes(settings)
        self._settings, self._store, self._say, self._sleep = settings, store, say, sleep
        self._kubernetes = settings.viclip.kubernetes
        self._cluster = cluster or Cluster(self._kubernetes)

    def prepare(self, training: Training) -> None:
        """Before messages are listened for: drop those of a workload that will not be gone on with."""
        workload = self._cluster.workload(job_name(training.name))
        if workload is None or self._is_stale(workload, training):
            forget_messages(self._store, training.name)

    def train(self, training: Training, environment: Mapping[str, str], on_line: Say) -> None:
        """Train to the end; the results then lie in `training.output`. Left early, for whatever reason, nothing stays.

        Args:
            environment: for every process: Dagster Pipes.
            on_line: takes the lines of the first node's log, Pipes messages among them.

        Raises: TrainingFailed with the pod's own reason and its last lines.
        """
        name = job_name(training.name)
        try:
            self._ensure(training, environment)
            self._attend(name, on_line)
        except TrainingFailed as failed:
            if not failed.has_ended:
                self._clear(name)
            raise
        except BaseException:
            self._clear(name)
            raise
        if not isinstance(self._store, LocalStore):
            get_outputs(self._store, training.name, training.output, FILES)

    def _ensure(self, training: Training, environment: Mapping[str, str]) -> None:
        """The workload of this training: the one that is there, unless it failed or goes away, else a new one."""
        name = job_name(training.name)
        manifest = build_workload(self._settings, training, environment)
        while True:
            workload = self._cluster.workload(name) or self._cluster.create_workload(manifest)
            if workload is None:
                self._sleep(self._kubernetes.poll_seconds)  # another run has just made it, or it is going away
            elif self._is_stale(workload, training):
                self._clear(name)
            else:
                break
        if outcome(workload)[0] == "succeeded":
            self._say(f"{name} has ended well already")
            return
        for owned in build_owned(self._settings, training.name, workload):
            self._cluster.create_owned(owned)
        if workload["spec"].get("suspend") and self._kubernetes.queue is None:
            self._cluster.release_workload(name)
        self._say(f"{workload['kind']} {self._kubernetes.namespace}/{name} on {self._kubernetes.nodes} nodes")

    def _is_stale(self, workload: dict[str, Any], training: Training) -> bool:
        """Whether a workload is of no use: it failed, is being deleted, or its results have been taken away."""
        state, _ = outcome(workload)
        is_gone = workload["metadata"].get("deletionTimestamp") is not None
        return is_gone or state == "failed" or (state == "succeeded" and not self._has_results(training))

    def _has_results(self, training: Training) -> bool:
        if isinstance(self._store, LocalStore):
            return (training.output / FILES[-1]).exists()
        return is_finished(self._store, training.name)

    def _attend(self, name: str, on_line: Say) -> None:
        """Until the workload has ended: pass on the log, tell of lost pods, and give up on pods that do not start.

        Asked again and again, not watched: what a dropped watch would miss is seen at the next look.
        """
        told, since = set[str](), dict[str, float]()
        with closing(LogFollower(self._cluster.log_lines)) as follower:
            while True:
                workload = self._cluster.workload(name)
                if workload is None or workload["metadata"].get("deletionTimestamp"):
                    raise TrainingFailed("Deleted", f"{name} was deleted while it ran")
                pods = self._cluster.pods(name)
                first = [pod for pod in pods if node_index(pod) == 0]
                follower.follow(first, is_over)
                state, words = outcome(workload)
                if state in ("succeeded", "failed"):
                    follower.finish(first, _LAST_LINES_SECONDS)
                for line in follower.lines():
                    on_line(line)
                self._tell_losses(pods, told)
                if state == "succeeded":
                    return
                if state == "failed":
                    raise self._failure(pods, words)
                if state == "running":
                    self._check_started(name, pods, since)
                self._sleep(self._kubernetes.poll_seconds)

    def _tell_losses(self, pods: list[dict[str, Any]], told: set[str]) -> None:
        for pod in pods:
            problem = end_problem(pod)
            if problem is not None and problem.pod not in told:
                told.add(problem.pod)
                self._say(f"{problem}; training goes on from its last saved step if the Job starts it again")

    def _check_started(self, name: str, pods: list[dict[str, Any]], since: dict[str, float]) -> None:
        """Raises: TrainingFailed when a pod, or the first of them, has not started for too long."""
        now, limit = time.monotonic(), self._kubernetes.start_timeout_seconds
        waiting = {pod["metadata"]["name"]: pod for pod in pods if not has_started(pod)}
        ages = {pod: now - since.setdefault(pod, now) for pod in (waiting or ([] if pods else [name]))}
        since_then = f"not started within {limit:g} s"
        for pod, age in ages.items():
            if age >= limit and pod in waiting:
                problem = waiting_problem(waiting[pod])
                raise TrainingFailed(problem.reason, f"{problem}; {since_then}")
            if age >= limit:
                warnings = self._cluster.warnings(name) or ["the cluster gives no reason"]
                raise TrainingFailed(warnings[-1].partition(":")[0], f"{warnings[-1]}; no pod of {name} {since_then}")

    def _failure(self, pods: list[dict[str, Any]], words: str) -> TrainingFailed:
        problem = main_problem([problem for pod in pods if (problem := end_problem(pod)) is not None])
        if problem is None:
            return TrainingFailed(words.partition(":")[0], words, has_ended=True)
        log = self._cluster.log_tail(problem.pod, _LOG_LINES)
        return TrainingFailed(problem.reason, f"{problem} ({words})", log, has_ended=True)

    def _clear(self, name: str) -> None:
        """Delete the workload and wait until it and all it owned are gone."""
        workload = self._cluster.workload(name)
        if workload is not None:
            self._cluster.delete_workload(name)
        deadline = time.monotonic() + _GONE_SECONDS
        while time.monotonic() < deadline:
            owned = self._cluster.owned(workload["metadata"]["uid"]) if workload else []
            if not owned and self._cluster.workload(name) is None and not self._cluster.pods(name):
                return
            self._sleep(min(1.0, self._kubernetes.poll_seconds))
        self._say(f"{name} is being deleted, but something of it is still there after {_GONE_SECONDS:g} s")
