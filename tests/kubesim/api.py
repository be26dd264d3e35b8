"""The API server's HTTP side: objects, watches and logs, in the real client's wire format."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.kubesim.admission import admit, check_update
from tests.kubesim.objects import ApiError, Object, Objects

if TYPE_CHECKING:
    from tests.kubesim.faults import Faults
    from tests.kubesim.kubelet import Kubelet

_CORE = "/api/v1"
_GROUP = "/apis/{group}/{version}"
_KINDS = {"configmaps": "ConfigMap", "secrets": "Secret", "services": "Service", "pods": "Pod", "jobs": "Job",
          "events": "Event"}  # fmt: skip
_CLUSTER_WIDE = frozenset({"clustertrainingruntimes", "nodes"})


class Api:
    """Routes of the server."""

    def __init__(self, objects: Objects, kubelet: Kubelet, faults: Faults):
        self._objects, self._kubelet, self._faults = objects, kubelet, faults

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard], client_max_size=16 << 20)
        router = application.router
        router.add_get("/version{slash:/?}", self._version)
        router.add_get(_CORE + "/namespaces/{namespace}/pods/{name}/log", self._log)
        for base in (_CORE, _GROUP):
            for scope in ("", "/namespaces/{namespace}"):
                router.add_get(base + scope + "/{plural}", self._list)
                router.add_post(base + scope + "/{plural}", self._create)
                for item in ("/{plural}/{name}", "/{plural}/{name}/{status:status}"):
                    router.add_get(base + scope + item, self._get)
                    router.add_put(base + scope + item, self._replace)
                    router.add_patch(base + scope + item, self._patch)
                router.add_delete(base + scope + "/{plural}/{name}", self._delete)
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Faults first, then errors as Status objects."""
        fault = self._faults.next_for(request.method, request.path)
        if fault is not None and fault.status == 0 and request.transport is not None:
            request.transport.abort()
            return web.Response(status=500)
        try:
            if fault is not None:
                response = _status(fault.status, fault.reason, "a fault of the test's")
                response.headers.update(fault.headers)
                return response
            return await handler(request)
        except ApiError as error:
            return _status(error.status, error.reason, error.message)

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"major": "1", "minor": "36", "gitVersion": "v1.36.0-kubesim"})

    async def _list(self, request: web.Request) -> web.StreamResponse:
        plural, namespace = request.match_info["plural"], _namespace(request)
        labels, fields = request.query.get("labelSelector", ""), request.query.get("fieldSelector", "")
        if request.query.get("watch") in ("true", "True", "1"):
            return await self._watch(request, plural, namespace, labels, fields)
        items = self._objects.list(plural, namespace, labels, fields)
        kind = items[0]["kind"] if items else "Object"
        return web.json_response(
            {"kind": f"{kind}List", "apiVersion": _api_version(request),
             "metadata": {"resourceVersion": str(self._objects.version)}, "items": items}
        )  # fmt: skip

    async def _watch(
        self, request: web.Request, plural: str, namespace: str | None, labels: str, fields: str
    ) -> web.StreamResponse:
        """One JSON object a line, chunked, as `application/json`."""
        since = int(request.query.get("resourceVersion") or 0)
        seconds = float(request.query.get("timeoutSeconds") or 300)
        limit = self._faults.drop_watches_after.pop(0) if self._faults.drop_watches_after else None
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(seconds):
                sent = 0
                async for event, item in self._matching(plural, namespace, labels, fields, since):
                    await response.write(json.dumps({"type": event, "object": item}).encode() + b"\n")
                    sent += 1
                    if sent == limit and request.transport is not None:
                        request.transport.abort()
                        return response
        return response

    async def _matching(
        self, plural: str, namespace: str | None, labels: str, fields: str, since: int
    ) -> AsyncIterator[tuple[str, Object]]:
        from tests.kubesim.selectors import matches_fields, matches_labels

        if since == 0:
            since = self._objects.version
            for item in self._objects.list(plural, namespace, labels, fields):
                yield "ADDED", item
        try:
            async for event, item in self._objects.watch(plural, since):
                in_scope = namespace in (None, item["metadata"].get("namespace"))
                if in_scope and matches_labels(item, labels) and matches_fields(item, fields):
                    yield event, item
        except ApiError as error:
            yield "ERROR", _status_body(error.status, error.reason, error.message)

    async def _create(self, request: web.Request) -> web.Response:
        item = await request.json()
        plural = request.match_info["plural"]
        item.setdefault("apiVersion", _api_version(request))
        if plural in _KINDS:
            item.setdefault("kind", _KINDS[plural])
        item.setdefault("metadata", {})
        namespace = _namespace(request) or (
            "" if plural in _CLUSTER_WIDE else item["metadata"].get("namespace", "default")
        )
        created = self._objects.create(plural, namespace, admit(_without_nulls(item)))
        return web.json_response(created, status=201)

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response(self._objects.get(*_key(request)))

    async def _replace(self, request: web.Request) -> web.Response:
        item, before = _without_nulls(await request.json()), self._objects.get(*_key(request))
        if "status" in request.match_info:
            item = {**before, "status": item.get("status", {}), "metadata": item["metadata"]}
        else:
            item = {**{key: value for key, value in item.items() if key != "status"}, **_status_of(before)}
        check_update(before, item)
        return web.json_response(self._objects.replace(*_key(request), item))

    async def _patch(self, request: web.Request) -> web.Response:
        """Merge patches; strategic ones are merged the same way, so their lists replace lists."""
        patch, before = await request.json(), self._objects.get(*_key(request))
        if isinstance(patch, list):
            raise ApiError(415, "UnsupportedMediaType", "the stand-in takes merge patches only")
        after = _merged(before, patch)
        check_update(before, after)
        return web.json_response(self._objects.replace(*_key(request), after))

    async def _delete(self, request: web.Request) -> web.Response:
        options = (await request.json()) if request.can_read_body else {}
        options = options or {}
        plural = request.match_info["plural"]
        default = "Orphan" if plural == "jobs" else "Background"  # batch/v1 keeps the pods unless told otherwise
        policy = request.query.get("propagationPolicy") or options.get("propagationPolicy") or default
        grace = request.query.get("gracePeriodSeconds") or options.get("gracePeriodSeconds")
        gone = self._objects.delete(*_key(request), policy, None if grace is None else int(grace))
        self._objects.collect_garbage()
        return web.json_response(gone)

    async def _log(self, request: web.Request) -> web.StreamResponse:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        pod = self._objects.get("pods", namespace, name)
        log = self._kubelet.log(pod)
        if log is None:
            raise ApiError(400, "BadRequest", f'container in pod "{name}" is waiting to start: ContainerCreating')
        query = request.query
        begin = max(0, len(log.lines) - int(query["tailLines"])) if "tailLines" in query else 0
        since = None
        if "sinceSeconds" in query:
            since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=int(query["sinceSeconds"]))
        follow = query.get("follow") in ("true", "True")
        cut = self._faults.cut_logs_after.pop(0) if follow and self._faults.cut_logs_after else None
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        sent = 0
        async for moment, text in log.read(begin, follow):
            if since is not None and moment < since:
                continue
            stamp = f"{moment:%Y-%m-%dT%H:%M:%S.%f}000Z " if query.get("timestamps") in ("true", "True") else ""
            await response.write(f"{stamp}{text}\n".encode())
            sent += 1
            if sent == cut and request.transport is not None:
                request.transport.abort()
                break
        return response


def _key(request: web.Request) -> tuple[str, str, str]:
    return request.match_info["plural"], _namespace(request) or "", request.match_info["name"]


def _namespace(request: web.Request) -> str | None:
    return request.match_info.get("namespace")


def _api_version(request: web.Request) -> str:
    group = request.match_info.get("group")
    return f"{group}/{request.match_info['version']}" if group else "v1"


def _status_of(item: Object) -> Object:
    return {"status": item["status"]} if "status" in item else {}


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict) or not isinstance(target, dict):
        return patch
    merged = {**target, **{key: _merged(target.get(key), value) for key, value in patch.items()}}
    return {key: value for key, value in merged.items() if value is not None}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value


def _status_body(code: int, reason: str, message: str) -> Object:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
            "reason": reason, "code": code}  # fmt: skip


def _status(code: int, reason: str, message: str) -> web.Response:
    return web.json_response(_status_body(code, reason, message), status=code)
