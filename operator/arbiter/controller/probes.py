"""Answers probes and Prometheus on the operator's own port.

`/healthz` says that the loop turns; `/readyz` that the caches are filled, in the leader and in the one that waits
alike, so that a rolling update waits until the new one could take over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from arbiter.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

MISSING_NAMED = 5
"""How many of the missing are named."""


def application(missing: Callable[[], tuple[str, ...]], exposition: Callable[[], bytes]) -> web.Application:
    """What is answered.

    Args:
        missing: what has not been seen yet, or is no longer, as words; nothing when all is well.
        exposition: Prometheus' text.
    """

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if not (lacking := missing()):
            return web.Response(text="ok\n")
        more = f", and {len(lacking) - MISSING_NAMED} more" if len(lacking) > MISSING_NAMED else ""
        return web.Response(status=503, text=f"not ready: waiting for {', '.join(lacking[:MISSING_NAMED])}{more}\n")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=exposition(), headers={"content-type": CONTENT_TYPE_PLAIN_0_0_4})

    made = web.Application()
    made.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return made


async def serve(made: web.Application, host: str, port: int) -> web.AppRunner:
    """Answer on this address; the caller cleans the runner up.

    Raises:
        InvalidInputError: the port cannot be had.
    """
    runner = web.AppRunner(made, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise InvalidInputError("--port", f"{port} cannot be had: {error.strerror}") from error
    return runner
