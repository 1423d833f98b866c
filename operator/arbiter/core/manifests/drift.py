"""Decides whether an object that stands still says what was asked for, so that nothing is written in vain.

Rule: what stands may say more than the manifest, because the API server fills in defaults and others own fields of
their own; it may not say less or otherwise. What the manifest said once and no longer says shows by a sum of the whole
manifest that the object carries as an annotation.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING

from arbiter.api.meta import GROUP

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

CONTENT = f"{GROUP}/content"
"""Annotation with the sum of the manifest that the object was last brought into."""

_KEYS = ("name", "mountPath", "containerPort", "port", "uid", "key")
"""What tells the items of Kubernetes' lists apart; the first one that an item has counts."""


def stamped(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Give the manifest with the sum of its content."""
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), CONTENT: _sum(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def says(body: Mapping[str, Any], manifest: Mapping[str, Any]) -> bool:
    """Whether an object that stands says all that a stamped manifest asks for."""
    return _holds(body, manifest)


def _sum(manifest: Mapping[str, Any]) -> str:
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()[:16]


def _holds(actual: object, wanted: object) -> bool:
    if isinstance(wanted, dict):
        return isinstance(actual, dict) and all(
            key in actual and _holds(actual[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(actual, list) and _holds_list(actual, wanted)
    return type(actual) is type(wanted) and actual == wanted


def _holds_list(actual: list[object], wanted: list[object]) -> bool:
    """Compare item by item; items with a name are found by it, because others may have added items of their own."""
    key = _key(wanted)
    if key is None:
        return len(actual) == len(wanted) and all(map(_holds, actual, wanted))
    by_key = {item.get(key): item for item in actual if isinstance(item, dict)}
    return all(isinstance(item, dict) and _holds(by_key.get(item[key]), item) for item in wanted)


def _key(items: list[object]) -> str | None:
    return next((key for key in _KEYS if items and all(isinstance(item, dict) and key in item for item in items)), None)
