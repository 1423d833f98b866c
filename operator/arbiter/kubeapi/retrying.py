"""Asks the API server again when it was not able to answer.

That is an `UnreachableError`: a connection that could not be made or broke, 408, 429, and every status from 500 on.
All other errors would come again, and are not the business of time. After each failure the pause grows, with a part of
chance in it, and is never shorter than the server wants it.

Rule: only a request that may be carried out twice goes through here, since nobody knows what became of the first.
Those of this room may all: an apply and a delete carry preconditions, a PUT its resource version, and whoever creates
takes an object that is there already for its own if it is.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from arbiter.errors import UnreachableError
from arbiter.kubeapi.connection import ExpiredError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from arbiter.kubeapi.connection import Asking, Request


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on.

    Attributes:
        attempts: how often to ask at most.
        seconds: for all attempts and pauses together. A pass that hangs on one object keeps its pool waiting, and the
            next pass tries anew anyway; an API server that restarts is back within that time.
        first_pause_s: pause after the first failure; it doubles with each.
        longest_pause_s: its upper limit.
    """

    attempts: int = 6
    seconds: float = 30.0
    first_pause_s: float = 0.1
    longest_pause_s: float = 3.0

    def pause_s(self, failures: int, draw: float) -> float:
        """Seconds of pause after so many failures, of which chance takes up to a half."""
        return min(self.longest_pause_s, self.first_pause_s * 2.0 ** (failures - 1)) * (1.0 - draw / 2.0)


def loop_time() -> float:
    """Seconds on the event loop's clock, which never goes back."""
    return asyncio.get_running_loop().time()


@dataclass(frozen=True, slots=True)
class Retrying:
    """A way to the API server that asks again.

    Attributes:
        asking: the way that asks once.
        draw: numbers drawn evenly from [0, 1), for pauses.
        patience: how long to go on.
        clock: seconds that never go back.
        sleep: waits for so many seconds.
    """

    asking: Asking
    draw: Callable[[], float]
    patience: Patience = field(default_factory=Patience)
    clock: Callable[[], float] = loop_time
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep

    async def ask(self, request: Request) -> dict[str, Any]:
        """Give the first answer that comes.

        Raises:
            ClusterError: the last failure, or the first that time does not mend.
        """
        end = self.clock() + self.patience.seconds
        failures = 0
        while True:
            limited = replace(request, seconds=min(request.seconds, end - self.clock()))
            try:
                return await self.asking.ask(limited)
            except ExpiredError:
                raise  # that moment is over; only a new list helps
            except UnreachableError as error:
                failures += 1
                pause = max(error.retry_after_s, self.patience.pause_s(failures, self.draw()))
                if failures >= self.patience.attempts or self.clock() + pause >= end:
                    raise
            await self.sleep(pause)
