"""Talks to a live API server as a program does: one request, one answer, nothing retried and nothing raised.

kubectl costs a process a call, so the hundreds of writes of these tests go over one connection. The Kubernetes client
opens it, because that reads whatever way to log in a kubeconfig names. Every write asks for strict validation, as
kubectl does.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from kubernetes import config

from arbiter.api import crd

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PLURALS = {kind.__name__: kind.names.plural for kind in crd.KINDS}
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"


@dataclass(frozen=True)
class Answer:
    """What the API server says to one request.

    Attributes:
        code: the HTTP status.
        body: the object, or a Status that says why there is none.
        warnings: what kubectl prints as warnings.
    """

    code: int
    body: dict[str, Any]
    warnings: tuple[str, ...] = ()

    def taken(self) -> dict[str, Any]:
        """Give the object; the request must have been granted."""
        assert self.code < 400, self.body
        return self.body

    def refused(self) -> list[str]:
        """Give every reason with its field, as kubectl prints them; the object must have been refused as such."""
        assert self.code in (400, 409, 422), self.body
        causes = self.body.get("details", {}).get("causes", [])
        return [f"{cause['field']}: {cause['message']}" for cause in causes] or [self.body["message"]]


class Api:
    """One API server, and one namespace in it where these tests write."""

    def __init__(self, kubeconfig: Path, namespace: str = "") -> None:
        """Read how to reach it; nothing is asked yet."""
        self._client = config.new_client_from_config(config_file=str(kubeconfig))  # type: ignore[no-untyped-call]  # published untyped
        self.namespace = namespace

    def inside(self, namespace: str) -> Self:
        """Write into this namespace from now on."""
        self.namespace = namespace
        return self

    def close(self) -> None:
        """End the connection."""
        self._client.rest_client.close()

    def request(
        self, method: str, path: str, body: object = None, *, content: str = "application/json", **query: str
    ) -> Answer:
        """Ask for anything; `query` becomes the part behind the question mark."""
        request = self._client.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params={"Content-Type": content, "Accept": "application/json"},
            body=body,
            auth_settings=["BearerToken"],
        )
        response = self._client.call_api(*request, _request_timeout=60)
        # One header a warning: 299 - "text"
        warnings = tuple(re.findall(r'299 \S+ "((?:[^"\\]|\\.)*)"', response.headers.get("Warning", "")))
        text = response.read().decode()
        # What is not served at all is answered in plain text.
        served = "json" in response.headers.get("Content-Type", "")
        return Answer(response.status, json.loads(text) if served else {"message": text}, warnings)

    def path(self, obj: Mapping[str, Any], subresource: str = "", *, named: bool = True) -> str:
        """Give the path of an object, or of all of its kind in the namespace."""
        parts = ["/apis", obj["apiVersion"], "namespaces", self.namespace, PLURALS[obj["kind"]]]
        if named:
            parts += [obj["metadata"]["name"], subresource]
        return "/".join(part for part in parts if part)

    def get(self, obj: Mapping[str, Any], subresource: str = "") -> Answer:
        """Read an object."""
        return self.request("GET", self.path(obj, subresource))

    def list(self, obj: Mapping[str, Any], **query: str) -> Answer:
        """Read the objects of a kind."""
        return self.request("GET", self.path(obj, named=False), **query)

    def create(self, obj: Mapping[str, Any], **query: str) -> Answer:
        """Make an object in the namespace, whatever namespace its manifest names."""
        placed = {**obj, "metadata": {**obj["metadata"], "namespace": self.namespace}}
        return self.request("POST", self.path(obj, named=False), placed, **{"fieldValidation": "Strict"} | query)

    def replace(self, obj: Mapping[str, Any], subresource: str = "", **query: str) -> Answer:
        """Write an object whole."""
        return self.request("PUT", self.path(obj, subresource), obj, **{"fieldValidation": "Strict"} | query)

    def merge(self, obj: Mapping[str, Any], patch: Mapping[str, Any], subresource: str = "", **query: str) -> Answer:
        """Change an object by a JSON merge patch."""
        query = {"fieldValidation": "Strict"} | query
        return self.request("PATCH", self.path(obj, subresource), patch, content=MERGE, **query)

    def apply(
        self, obj: Mapping[str, Any], manager: str, subresource: str = "", *, force: bool = False, **query: str
    ) -> Answer:
        """Apply server-side the fields that `obj` holds, as the wish of `manager`."""
        known = {key: value for key, value in obj["metadata"].items() if key in ("name", "labels")}
        wish = {**{key: value for key, value in obj.items() if key != "status" or subresource}, "metadata": known}
        query = {"fieldValidation": "Strict", "fieldManager": manager, "force": str(force).lower()} | query
        return self.request("PATCH", self.path(obj, subresource), wish, content=APPLY, **query)

    def delete(self, obj: Mapping[str, Any]) -> Answer:
        """Delete an object."""
        return self.request("DELETE", self.path(obj))
