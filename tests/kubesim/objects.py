"""The objects of the cluster: versions, conflicts, watches, and deletion with all that is owned."""

from __future__ import annotations

import asyncio
import copy
import datetime
import random
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

from tests.kubesim.selectors import matches_fields, matches_labels

Object = dict[str, Any]
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_KEPT_EVENTS = 20_000
FOREGROUND = "foregroundDeletion"


class ApiError(Exception):
    """An answer with an error status, as Kubernetes words it."""

    def __init__(self, status: int, reason: str, message: str):
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


def now(after_seconds: float = 0.0) -> str:
    """RFC 3339, to the second."""
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=after_seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def random_suffix() -> str:
    return "".join(random.choices(_ALPHABET, k=5))


class Objects:
    """Used by the server's event loop only."""

    def __init__(self) -> None:
        self._objects: dict[tuple[str, str, str], Object] = {}
        self._owned: dict[str, set[tuple[str, str, str]]] = {}
        self._has_garbage = False
        self._version = 0
        self._events: list[tuple[int, str, str, Object]] = []
        self._first_kept = 0
        self._news = asyncio.Event()
        self.listeners: list[Callable[[str, str, Object], None]] = []

    # --- reading ------------------------------------------------------------------------------------------------------
    @property
    def version(self) -> int:
        return self._version

    def get(self, plural: str, namespace: str, name: str) -> Object:
        """A copy. Raises: ApiError 404."""
        return copy.deepcopy(self._held(plural, namespace, name))

    def find(self, plural: str, namespace: str, name: str) -> Object | None:
        held = self._objects.get((plural, namespace, name))
        return copy.deepcopy(held) if held else None

    def list(self, plural: str, namespace: str | None = None, labels: str = "", fields: str = "") -> list[Object]:
        return [
            copy.deepcopy(item)
            for (kind, space, _), item in self._objects.items()
            if kind == plural
            and namespace in (None, space)
            and matches_labels(item, labels)
            and matches_fields(item, fields)
        ]

    def each(self, plural: str) -> list[Object]:
        """All of a kind as they are held: for controllers, which must not change them."""
        return [item for (kind, _, _), item in list(self._objects.items()) if kind == plural]

    def owned_by(self, uid: str, plural: str | None = None) -> list[tuple[str, Object]]:
        """Those that name this owner, with their plural, as they are held."""
        keys = sorted(self._owned.get(uid, ()))
        return [(key[0], self._objects[key]) for key in keys if key in self._objects and plural in (None, key[0])]

    # --- writing ------------------------------------------------------------------------------------------------------
    def create(self, plural: str, namespace: str, item: Object) -> Object:
        """Raises: ApiError 409 when the name is taken."""
        item = copy.deepcopy(item)
        metadata = item.setdefault("metadata", {})
        if not metadata.get("name"):
            metadata["name"] = metadata.get("generateName", "") + random_suffix()
        key = (plural, namespace, metadata["name"])
        if key in self._objects:
            raise ApiError(409, "AlreadyExists", f'{plural} "{metadata["name"]}" already exists')
        metadata.update(namespace=namespace, uid=str(uuid.uuid4()), creationTimestamp=now(), generation=1)
        self._has_garbage |= bool(metadata.get("ownerReferences"))  # its owner may be gone already
        return self._store("ADDED", key, item)

    def update(self, plural: str, namespace: str, name: str, change: Callable[[Object], Any]) -> Object:
        """Change an object in place; nothing is told when nothing changed."""
        before = self._held(plural, namespace, name)
        item = copy.deepcopy(before)
        change(item)
        if item == before:
            return item
        if item.get("spec") != before.get("spec"):
            item["metadata"]["generation"] = before["metadata"].get("generation", 1) + 1
        return self._store("MODIFIED", (plural, namespace, name), item)

    def replace(self, plural: str, namespace: str, name: str, item: Object) -> Object:
        """Raises: ApiError 409 when the given resourceVersion is not the newest."""
        held = self._held(plural, namespace, name)
        given = item.get("metadata", {}).get("resourceVersion")
        if given and given != held["metadata"]["resourceVersion"]:
            message = f'Operation cannot be fulfilled on {plural} "{name}": the object has been modified'
            raise ApiError(409, "Conflict", message)
        kept = {key: held["metadata"][key] for key in ("uid", "creationTimestamp", "namespace", "name")}

        def change(target: Object) -> None:
            target.clear()
            target.update(copy.deepcopy(item))
            target["metadata"].update(kept)

        return self.update(plural, namespace, name, change)

    def delete(self, plural: str, namespace: str, name: str, policy: str, grace_seconds: int | None = None) -> Object:
        """Begin the deletion: pods end first, a foreground deletion waits for all that is owned."""
        item = self._held(plural, namespace, name)
        owned = self.owned_by(item["metadata"]["uid"])
        if policy == "Orphan":
            for kind, one in owned:
                self.update(kind, one["metadata"]["namespace"], one["metadata"]["name"], _without_owner(item))
            self._owned.pop(item["metadata"]["uid"], None)
        if plural == "pods" and _may_run(item):
            grace = item["spec"].get("terminationGracePeriodSeconds", 30) if grace_seconds is None else grace_seconds
            return self.update(plural, namespace, name, lambda pod: _mark_deleted(pod, grace))
        self._has_garbage = True
        if policy == "Foreground" and owned:
            return self.update(plural, namespace, name, lambda one: _mark_deleted(one, 0, FOREGROUND))
        return self.remove(plural, namespace, name)

    def remove(self, plural: str, namespace: str, name: str) -> Object:
        """Take an object away at once."""
        item = copy.deepcopy(self._held(plural, namespace, name))
        del self._objects[(plural, namespace, name)]
        self._has_garbage = True
        for owner in item["metadata"].get("ownerReferences", []):
            self._owned[owner["uid"]].discard((plural, namespace, name))
        self._version += 1
        item["metadata"]["resourceVersion"] = str(self._version)
        self._tell("DELETED", plural, item)
        return item

    def collect_garbage(self) -> None:
        """Delete what has lost its owner, and owners that only waited for what they own."""
        if not self._has_garbage:
            return
        self._has_garbage = False
        uids = {item["metadata"]["uid"] for item in self._objects.values()}
        for (plural, namespace, name), item in list(self._objects.items()):
            metadata = item["metadata"]
            owners = metadata.get("ownerReferences", [])
            if (plural, namespace, name) not in self._objects or (
                metadata.get("deletionTimestamp") and plural == "pods"
            ):
                continue
            if owners and not any(owner["uid"] in uids for owner in owners):
                self.delete(plural, namespace, name, "Background")
            elif FOREGROUND in metadata.get("finalizers", []):
                owned = self.owned_by(metadata["uid"])
                for kind, one in owned:
                    if not one["metadata"].get("deletionTimestamp"):
                        self.delete(kind, namespace, one["metadata"]["name"], "Foreground")
                if not self.owned_by(metadata["uid"]):
                    self.remove(plural, namespace, name)

    # --- watching -----------------------------------------------------------------------------------------------------
    async def watch(self, plural: str, since: int) -> AsyncIterator[tuple[str, Object]]:
        """Events of a kind after a version. Raises: ApiError 410 when they are no longer kept."""
        if since < self._first_kept:
            raise ApiError(410, "Expired", f"too old resource version: {since} ({self._first_kept})")
        while True:
            news = self._news
            for version, event, kind, item in [e for e in self._events if e[0] > since]:
                since = version
                if kind == plural:
                    yield event, copy.deepcopy(item)
            if self._version <= since or not self._events:
                await news.wait()

    async def changed(self) -> None:
        """Return at the next change of anything."""
        await self._news.wait()

    def _held(self, plural: str, namespace: str, name: str) -> Object:
        try:
            return self._objects[(plural, namespace, name)]
        except KeyError:
            raise ApiError(404, "NotFound", f'{plural} "{name}" not found') from None

    def _store(self, event: str, key: tuple[str, str, str], item: Object) -> Object:
        self._version += 1
        item["metadata"]["resourceVersion"] = str(self._version)
        self._objects[key] = item
        for owner in item["metadata"].get("ownerReferences", []):
            self._owned.setdefault(owner["uid"], set()).add(key)
        self._tell(event, key[0], item)
        return copy.deepcopy(item)

    def _tell(self, event: str, plural: str, item: Object) -> None:
        self._events.append((self._version, event, plural, copy.deepcopy(item)))
        if len(self._events) > _KEPT_EVENTS:
            self._first_kept = self._events[_KEPT_EVENTS // 2][0]
            self._events = self._events[_KEPT_EVENTS // 2 :]
        for listener in self.listeners:
            listener(event, plural, item)
        self._news.set()
        self._news = asyncio.Event()


def _may_run(pod: Object) -> bool:
    return bool(pod["spec"].get("nodeName")) and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")


def _mark_deleted(item: Object, grace_seconds: int, *finalizers: str) -> None:
    item["metadata"].setdefault("deletionTimestamp", now(grace_seconds))
    item["metadata"].setdefault("deletionGracePeriodSeconds", grace_seconds)
    if finalizers:
        item["metadata"]["finalizers"] = [*item["metadata"].get("finalizers", []), *finalizers]


def _without_owner(owner: Object) -> Callable[[Object], None]:
    def change(item: Object) -> None:
        references = item["metadata"]["ownerReferences"]
        item["metadata"]["ownerReferences"] = [o for o in references if o["uid"] != owner["metadata"]["uid"]]

    return change
