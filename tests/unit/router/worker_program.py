"""A worker without a wire: it counts what its parent tells it to, and ends in whatever way a test needs.

Notes: `table` (a table's text), `attempts` (how many to route to chat's old side and to answer), `open` (how many to
route and leave open), `die`, `hang` and `babble`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time

from arbiter.core.routes import RouteTable
from arbiter.core.traffic import Side
from arbiter.router.accounting import Ledger, Outcome
from arbiter.router.admin import Standing
from arbiter.router.metrics import Meter
from arbiter.router.workers import Channel, Reporter


async def main(fd: int) -> None:
    """Serve until drained."""
    loop = asyncio.get_running_loop()
    meter = Meter()
    ledger = Ledger("pod/1", meter, loop.time(), time.time() * 1000.0)  # noqa: TID251  the edge of a program
    standing = Standing(meter)
    drained = asyncio.Event()
    channel = await Channel.open(socket.socket(fileno=fd))

    def note(topic: str, text: str) -> None:
        match topic:
            case "table":
                table = RouteTable.from_text(text)
                ledger.obey(table, loop.time())
                standing.obey(table)
            case "attempts" | "open":
                for _ in range(int(text)):
                    entry = ledger.route("chat", Side.OLD, loop.time())
                    if topic == "attempts":
                        entry.finish(Outcome.OK, loop.time(), 0, 1, 2)
            case "die":
                os._exit(3)
            case "hang":
                time.sleep(60.0)
            case _:
                channel.send('{"kind":"babble"}')

    reporter = Reporter(channel, ledger, standing, note, lambda _: drained.set())
    reporting = asyncio.create_task(reporter.run())
    await drained.wait()
    await reporter.close()
    await asyncio.wait([reporting])


asyncio.run(main(int(sys.argv[sys.argv.index("--worker-fd") + 1])))
