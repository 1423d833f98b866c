"""A real `arbiter router` as a process of its own, for what only a whole process does: signals, workers, its log."""

from __future__ import annotations

import asyncio
import re
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from arbiter.router.workers import bind
from tests.unit.router.routing import Reply, ask
from tests.unit.router.wire.loopback import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

READY = re.compile(r"on port ([0-9]+), admin on port ([0-9]+)")


class Started:
    """A router that was started.

    Attributes:
        child: the process.
        port: of the clients.
        admin_port: of everybody else.
        lines: what it logged so far.
    """

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        """Nothing logged yet."""
        self.child = child
        self.port = self.admin_port = 0
        self.lines: list[str] = []

    async def listen(self) -> None:
        """Take its log until it closes that."""
        assert self.child.stderr is not None
        async for line in self.child.stderr:
            self.lines.append(line.decode())
            if found := READY.search(self.lines[-1]):
                self.port, self.admin_port = int(found[1]), int(found[2])

    def logged(self, words: str) -> bool:
        """Whether a line of the log says so."""
        return any(words in line for line in self.lines)

    def workers(self) -> list[int]:
        """The process ids of its workers."""
        children = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    async def told(self, path: bytes) -> Reply:
        """What the admin port answers."""
        return await ask(self.admin_port, b"GET %b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n" % path)

    async def metric(self, line: str) -> int:
        """A count of the admin port; 0 where there is none yet."""
        text = (await self.told(b"/metrics")).body.decode()
        return next((int(each.rpartition(" ")[2]) for each in text.splitlines() if each.startswith(line + " ")), 0)

    async def obeys(self, generation: int) -> None:
        """Wait until all of it obeys a table."""

        async def all_obey() -> bool:
            table = (await self.told(b"/internal/routes")).fields["table"]
            return isinstance(table, dict) and table["generation"] == generation

        await eventually(all_obey)


@asynccontextmanager
async def started(routes: Path, *options: str, workers: int = 1) -> AsyncIterator[Started]:
    """A router by the table in this file, once it obeys its generation 1; nothing of it outlives the test."""
    with bind("127.0.0.1", 0, shared=True) as kept:  # a port that workers can meet at, and nobody else gets meanwhile
        port = kept.getsockname()[1] if workers > 1 else 0
        async with launched(
            "--routes", str(routes), "--port", str(port), "--admin-port", "0", "--workers", str(workers), *options
        ) as made:
            await until(lambda: made.port > 0 or made.child.returncode is not None)
            assert made.child.returncode is None, made.lines
            await made.obeys(1)
            yield made


@asynccontextmanager
async def launched(*options: str) -> AsyncIterator[Started]:
    """A router with these options, which may well end at once."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "arbiter.cli.main", "router", *options, stderr=asyncio.subprocess.PIPE
    )
    made = Started(child)
    listening = asyncio.create_task(made.listen())
    try:
        yield made
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()
        await listening


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds that another process has to be asked for."""
    while True:
        if await holds():
            return
        await asyncio.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether a process still does something; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
