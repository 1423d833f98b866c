"""The manifests that every judge of the API is asked about: good ones, wrong ones with their promised words, samples.

Both judges use the same: the API server's code as a library here, and a live API server in the cluster tests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from arbiter.api import crd

HERE = Path(__file__).parent
SAMPLES = sorted((HERE.parents[1] / "manifests" / "samples").glob("*.yaml"))
GOOD = {good["kind"]: good for good in yaml.safe_load_all((HERE / "good_manifests.yaml").read_text())}
WRONG = yaml.safe_load((HERE / "wrong_manifests.yaml").read_text())
KINDS = {kind.__name__: kind for kind in crd.KINDS}
FOREIGN = {"ConfigMap"}
"""Kinds of Kubernetes' own that samples have too: no definition of ours is asked about them."""


def patched(target: object, patch: object) -> Any:  # noqa: ANN401  any JSON value
    """Apply a JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = patched(merged.get(key), value)
    return merged
