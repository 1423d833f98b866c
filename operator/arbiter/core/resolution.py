"""Reads what a resolver found out about a source, from the last words of its pod.

Rule: the words come from a pod and are believed only in the form that `arbiter resolve` writes; anything else is a
failure that is tried again. What they leave open stays open.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from arbiter.api.reasons import Reason, ReasonCode
from arbiter.core.engine_health import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arbiter.core.snapshot import PodView

_VERSION: Final = 1

_CODES: Final[Mapping[str, ReasonCode]] = {
    "SourceInvalid": ReasonCode.SourceInvalid,
    "SourceNotFound": ReasonCode.SourceNotFound,
    "FileMissing": ReasonCode.SourceNotFound,
    "AccessDenied": ReasonCode.AccessDenied,
    "RateLimited": ReasonCode.ResolveFailed,
    "SourceUnreachable": ReasonCode.ResolveFailed,
    "DeadlinePassed": ReasonCode.ResolveFailed,
    "NoSpace": ReasonCode.ResolveFailed,
    "VolumeFailed": ReasonCode.ResolveFailed,
}
"""What each of the resolver's codes means for a LocalModel; the others say that the source cannot be used."""

_MOST_CAPABILITIES: Final = 32

_WORD: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,38}[a-z0-9])?")
"""A capability as the status may hold it; the API server would refuse the whole status for another one."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a source is.

    Attributes:
        digest: what identifies its content.
        size: bytes of the weights, if known.
        context_window: tokens in a request and its answer, if known.
        capabilities: what the model can do, as far as its files say.
    """

    digest: str
    size: int | None = None
    context_window: int | None = None
    capabilities: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why nothing was found.

    Attributes:
        reason: the same for people.
    """

    reason: Reason


def read_resolution(pod: PodView) -> Resolution | Failure:
    """Read the result of a resolver whose pod has ended."""
    try:
        told = json.loads(pod.last_message)
    except (ValueError, RecursionError):
        return _unreadable(pod)
    if not isinstance(told, dict) or told.get("version") != _VERSION:
        return _unreadable(pod)
    if told.get("ok") is not True:
        return _failure(told)
    digest = told.get("digest")
    if not isinstance(digest, str) or not 0 < len(digest) <= 256:
        return _unreadable(pod)
    return Resolution(
        digest, _count(told.get("size")), _count(told.get("contextWindow")), _words(told.get("capabilities"))
    )


def _failure(told: Mapping[str, object]) -> Failure:
    code = _CODES.get(str(told.get("reason")), ReasonCode.SourceUnusable)
    message = quoted(str(told.get("message") or "the resolver gave no reason"))
    return Failure(Reason(code, message))


def _unreadable(pod: PodView) -> Failure:
    ended = "" if pod.last_exit is None else f" with exit code {pod.last_exit}"
    words = f": {quoted(pod.last_message)}" if pod.last_message else ""
    return Failure(
        Reason(ReasonCode.ResolveFailed, f"the resolver ended{ended} and left no result that can be read{words}")
    )


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _words(value: object) -> frozenset[str]:
    words = value if isinstance(value, list) else []
    return frozenset([word for word in words if isinstance(word, str) and _WORD.fullmatch(word)][:_MOST_CAPABILITIES])
