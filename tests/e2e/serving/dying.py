"""An operator that dies or stops in the middle of its work: `python -m tests.e2e.serving.dying RULE FOLDER operator …`.

Whatever the operator's own command is given, comes behind. It is the product as it is; only the way to the API server
is wrapped from outside. As soon as the API server has done a write, and before the operator can take note of it, the
process ends itself by SIGKILL. Then it is started anew, as Kubernetes does, until it is told to end.

RULE says after which writes it dies:

    never       after none
    each        after each object's write, `OFTEN` times where it is written again and again
    nth=N       once, after the N-th write; it goes on undisturbed from then
    moves       once after each write that moves a swap: to a phase, a step or a weight, or a table to other shares
    stops=WHAT  it does not die, but stops itself by SIGSTOP when it is about to write what is so named, once

In FOLDER the files `writes` and `deaths` have a line for each write that was done, and for each that was died of; the
file `late` says what became of the write before which it stopped. That one is on its way then: nothing takes it back.

A killed leader's Lease has to run out before another one may lead. That takes ten seconds, in which nothing happens
but that they pass; so each further life removes the Lease first, as if they had. `test_two_operators.py` waits for it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arbiter.cli.main import main as arbiter
from arbiter.controller import main as operator
from arbiter.errors import ClusterError, RejectedError
from arbiter.kubeapi import lease
from arbiter.kubeapi.connection import Connection, Request
from arbiter.kubeapi.resources import LEASES

if TYPE_CHECKING:
    from types import FrameType

OFTEN = 2
"""How often it dies of writing the same object: each new leader writes some of them again."""

UNCOUNTED = ("/leases", "/events")
"""What is no part of a plan, or only tells people about it."""

TOLD = (signal.SIGTERM, signal.SIGCONT)
"""What is passed on to the life that is running."""

ASK = Connection.ask
"""The way to the API server as it is in the product."""

WARM = (operator,)
"""What each life needs: imported once, before the first one begins."""


class Life:
    """One life of the operator, from its start to its death."""

    def __init__(self, rule: str, folder: Path) -> None:
        """Read of what the lives before have died."""
        self._rule, _, self._after = rule.partition("=")
        self._folder = folder
        self._died = Counter(_lines(folder / "deaths"))
        self._written = 0

    def wrote(self, what: str) -> None:
        """Note a write, and die of it where the rule says so."""
        self._written += 1
        _note(self._folder / "writes", what)
        if self._dies(what):
            _note(self._folder / "deaths", what)
            os.kill(os.getpid(), signal.SIGKILL)

    def _dies(self, what: str) -> bool:
        match self._rule:
            case "each":
                return self._died[what] < OFTEN
            case "nth":
                return not self._died and self._written == int(self._after)
            case "moves":
                return " moves " in what and not self._died[what]
            case _:
                return False

    def _stops(self, what: str) -> bool:
        stops = self._rule == "stops" and self._after in what
        if stops:
            self._rule = "never"
        return stops

    async def _late(self, command: list[str], request: Request) -> dict[str, Any]:
        """Carry out a write that comes late, and note what became of it."""
        connection = _connection(command)
        try:
            answer = await ASK(connection, request)
        except ClusterError as error:
            _note(self._folder / "late", type(error).__name__)
            raise
        finally:
            await connection.close()
        _note(self._folder / "late", "done")
        return answer

    def live(self, command: list[str]) -> int:
        """Run the operator; gives its exit code, unless it dies."""
        if self._died:
            asyncio.run(_as_if_the_lease_had_run_out(command))
        one_at_a_time = asyncio.Lock()

        async def ask_and_note(connection: Connection, request: Request) -> dict[str, Any]:
            if request.method == "GET" or any(part in request.path for part in UNCOUNTED):
                return await ASK(connection, request)
            if self._stops(_named(request)):
                os.kill(os.getpid(), signal.SIGSTOP)
                with ThreadPoolExecutor(1) as beside:  # the loop learns nothing until it is done
                    return beside.submit(asyncio.run, self._late(command, request)).result()
            async with one_at_a_time:  # else a death of one write hides what another one had just done
                answer = await ASK(connection, request)
                self.wrote(_named(request) + (_move(request) if self._rule == "moves" else ""))
            return answer

        setattr(Connection, "ask", ask_and_note)  # noqa: B010  mypy lets nobody assign to a method
        return arbiter(command)


def main(rule: str, folder: Path, *command: str) -> int:
    """Start one life after another, until one ends otherwise than by its own death."""
    assert WARM
    told: set[int] = set()
    while True:
        # What is told meanwhile waits until there is a life that it can be passed on to.
        signal.pthread_sigmask(signal.SIG_BLOCK, TOLD)
        if not (running := os.fork()):
            for number in TOLD:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, TOLD)
            os._exit(Life(rule, folder).live(list(command)))

        def tell(number: int, _: FrameType | None, life: int = running) -> None:
            told.add(number)
            os.kill(life, number)

        for number in TOLD:
            signal.signal(number, tell)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, TOLD)
        _, ended = os.waitpid(running, 0)
        killed = os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signal.SIGKILL
        if not killed or signal.SIGTERM in told:
            return 0 if os.WIFSIGNALED(ended) else os.waitstatus_to_exitcode(ended)


def _named(request: Request) -> str:
    """What was written: the verb, and the object's place."""
    name = (request.body or {}).get("metadata", {}).get("name", "")
    return f"{request.method} {request.path}" + (f"/{name}" if request.method == "POST" else "")


def _move(request: Request) -> str:
    """What a write says of where a swap is; nothing for any other write."""
    body = request.body or {}
    status = body.get("status") or {}
    if "/modelswaps/" in request.path and "phase" in status:
        place = status.get("progress") or "", status.get("outcome") or "", status.get("stage") or ""
        return f" moves {' '.join((status['phase'], *filter(None, place)))}"
    if "/modelpools/" in request.path and status.get("tasks"):
        return f" moves {[(each['name'], (each.get('active') or {}).get('model')) for each in status['tasks']]}"
    if routes := (body.get("data") or {}).get("routes.json"):
        tasks = json.loads(routes)["tasks"]
        shares = {name: [(each["model"], each["weight"]) for each in tasks[name]["targets"]] for name in sorted(tasks)}
        return f" moves {shares}"
    return ""


async def _as_if_the_lease_had_run_out(command: list[str]) -> None:
    connection = _connection(command)
    try:
        await connection.ask(Request("DELETE", LEASES.path(_option(command, "namespace"), lease.NAME), {}))
    except RejectedError as error:
        if error.status != 404:
            raise
    finally:
        await connection.close()


def _connection(command: list[str]) -> Connection:
    """Give a way to the API server of its own."""
    return Connection.kubeconfig(Path(_option(command, "kubeconfig")))


def _option(command: list[str], name: str) -> str:
    return next(each.partition("=")[2] for each in command if each.startswith(f"--{name}="))


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def _note(file: Path, line: str) -> None:
    """Add a line at once: what is written may be the last that this process does."""
    with file.open("a") as noted:
        noted.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]))
