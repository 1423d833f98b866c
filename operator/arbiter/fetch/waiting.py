"""Says how long to wait before another attempt, and makes attempts until one succeeds or time runs out.

Rule: what nothing will mend is not tried again; a server that names a time is not asked before it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from arbiter.fetch.failures import FailureCode, SourceError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FIRST_S = 1.0
"""Seconds before the second attempt, before chance shortens them."""

LONGEST_S = 60.0
"""Most seconds between two attempts, unless the server asks for more."""

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Pace:
    """How attempts follow one another.

    Attributes:
        draw: gives numbers drawn evenly from [0, 1), so that many that failed at once do not come back at once.
        sleep: waits so many seconds.
    """

    draw: Callable[[], float]
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep

    def pause(self, failed: int, error: SourceError) -> float:
        """Give the seconds to wait after so many failures in a row."""
        longest = min(LONGEST_S, FIRST_S * 2.0 ** min(failed - 1, 16))
        shortened: float = longest * (0.5 + self.draw() / 2)
        return max(error.retry_after_s, shortened)


async def within(deadline_s: float, pace: Pace, attempt: Callable[[], Awaitable[Found]]) -> Found:
    """Make attempts until one succeeds, fails for good, or the deadline leaves no time for another.

    Raises:
        SourceError: the last one; DeadlinePassed when the first attempt was not even over.
    """
    last: SourceError | None = None
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline_s
    failed = 0
    try:
        async with asyncio.timeout_at(end):
            while True:
                try:
                    return await attempt()
                except SourceError as error:
                    failed += 1
                    last, wait = error, pace.pause(failed, error)
                    if not error.transient or loop.time() + wait >= end:
                        raise
                await pace.sleep(wait)
    except TimeoutError:
        raise last or SourceError(
            FailureCode.DeadlinePassed, f"no answer came within {deadline_s:g} s", transient=True
        ) from None
