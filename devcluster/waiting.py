"""Waits for facts, and never without an end.

The only module of devcluster that reads the clock: everything else says how many seconds it grants.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Stopwatch:
    """Counts seconds from when it was made."""

    def __init__(self) -> None:
        """Start counting."""
        self._started = time.monotonic()  # noqa: TID251  waiting is about the real clock

    def seconds(self) -> float:
        """Give the seconds since the start."""
        return time.monotonic() - self._started  # noqa: TID251  waiting is about the real clock


def wait_until(fact: Callable[[], bool], seconds: float, pause: float = 0.05) -> bool:
    """Ask for a fact until it holds or `seconds` are over, and say whether it holds."""
    watch = Stopwatch()
    while not fact():
        if watch.seconds() >= seconds:
            return False
        time.sleep(pause)
    return True
