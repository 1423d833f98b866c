"""A store of objects that answers requests as an API server does, as far as plans ask of it; nothing is sent."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from arbiter.errors import ConflictError, RejectedError
from arbiter.kubeapi.applying import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from arbiter.kubeapi.connection import Request


class Stored:
    """Objects by their path.

    Attributes:
        objects: what is stored.
        asked: method and path of every request, in order.
        normalize: what the server makes of an object before it stores it.
        fail: raises for a request that shall fail.
        changed: told of every change: its kind, the path and the object.
        version: the resource version of the latest write.
    """

    def __init__(self) -> None:
        """It is empty."""
        self.objects: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.normalize: Callable[[dict[str, Any]], dict[str, Any]] = lambda body: body
        self.fail: Callable[[Request], None] = lambda _: None
        self.changed: Callable[[str, str, dict[str, Any]], None] = lambda *_: None
        self.version = 100

    @property
    def writes(self) -> list[str]:
        """All requests but looks."""
        return [asked for asked in self.asked if not asked.startswith("GET")]

    async def ask(self, request: Request) -> dict[str, Any]:
        """Answer one request."""
        self.asked.append(f"{request.method} {request.path}")
        self.fail(request)
        body = copy.deepcopy(dict(request.body or {}))
        match request.method:
            case "GET":
                return copy.deepcopy(self._found(request.path))
            case "PATCH" if "metadata" not in body:
                return self._store(request.path, _merged(self._found(request.path), body))
            case "PATCH":
                return self._apply(request.path, body)
            case "POST":
                path = f"{request.path}/{body['metadata']['name']}"
                if path in self.objects:
                    raise ConflictError(f"{path} exists")
                return self._store(path, body)
            case "PUT":
                path = request.path.removesuffix("/status")
                found = self._found(path)
                if found["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
                    raise ConflictError(f"{path} has changed")
                whole = body if path == request.path else {**found, "status": body["status"]}
                return self._store(path, whole)
            case "DELETE":
                found = self._found(request.path)
                if found["metadata"]["uid"] != body["preconditions"]["uid"]:
                    raise ConflictError(f"{request.path} is another one")
                self.remove(request.path)
                return found
            case _:
                raise AssertionError(request.method)

    def put(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Somebody else stores an object."""
        return self._store(path, body)

    def remove(self, path: str) -> None:
        """Somebody removes an object."""
        self.version += 1
        body = self.objects.pop(path)
        body["metadata"]["resourceVersion"] = str(self.version)
        self.changed("DELETED", path, copy.deepcopy(body))

    def _found(self, path: str) -> dict[str, Any]:
        if path not in self.objects:
            raise RejectedError(f"{path} is not there", 404)
        return self.objects[path]

    def _apply(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        before = self.objects.get(path)
        metadata = body["metadata"]
        version = metadata.pop("resourceVersion", "")
        if version == NEVER and before is not None:
            raise ConflictError(f"{path} exists")
        if version not in {"", NEVER} and (before is None or before["metadata"]["resourceVersion"] != version):
            raise ConflictError(f"{path} has changed")
        if before is not None and metadata.pop("uid") != before["metadata"]["uid"]:
            raise ConflictError(f"{path} is another one")
        merged = _merged(before or {}, body)
        if before is not None and self.normalize(copy.deepcopy(merged)) == before:
            return copy.deepcopy(before)
        return self._store(path, merged)

    def _store(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        body = self.normalize(body)
        body["metadata"].setdefault("uid", f"uid-{self.version}")
        body["metadata"]["resourceVersion"] = str(self.version)
        kind = "MODIFIED" if path in self.objects else "ADDED"
        self.objects[path] = body
        self.changed(kind, path, copy.deepcopy(body))
        return copy.deepcopy(body)


def _merged(before: Any, wanted: Any) -> Any:  # noqa: ANN401  any part of an object
    if isinstance(before, dict) and isinstance(wanted, dict):
        return {**before, **{name: _merged(before.get(name), value) for name, value in wanted.items()}}
    return wanted
