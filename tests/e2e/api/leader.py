"""A process that wants to lead: `python -m tests.e2e.api.leader KUBECONFIG NAMESPACE IDENTITY`.

It prints `leads` once it does, and ends in order when it is told to by SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from arbiter.kubeapi.connection import Connection
from arbiter.kubeapi.leading import Candidate, lead


async def main(kubeconfig: str, namespace: str, identity: str) -> None:
    """Lead until told to end."""
    connection = Connection.kubeconfig(Path(kubeconfig))

    async def work() -> None:
        print("leads", flush=True)  # noqa: T201  how the test hears of it
        await asyncio.Event().wait()

    clock = time.monotonic  # noqa: TID251  the edge of the program

    def now() -> datetime:
        return datetime.now(UTC)  # noqa: TID251  the edge of the program

    leading = asyncio.ensure_future(lead(Candidate(connection, namespace, identity, clock, now), work))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leading.cancel)
    await asyncio.wait([leading])
    await connection.close()
    if not leading.cancelled():
        leading.result()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
