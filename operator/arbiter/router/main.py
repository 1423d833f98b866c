"""Runs a router until it is told to end: one process, or a parent with its workers.

Rule: it ends in order. On SIGTERM it is no longer ready, takes no more connections, finishes what is under way within
its time, and then leaves; a second signal makes it leave at once.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import signal
import socket
import sys
import time
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING

import uvloop

from arbiter.core.routes import RouteTable
from arbiter.errors import InvalidInputError
from arbiter.router.admin import Admin, OwnBooks
from arbiter.router.keys import KeyFile
from arbiter.router.process import Serving, draw, feedback_key, new_epoch, tls_context
from arbiter.router.table_file import follow_file
from arbiter.router.wire.server import Server
from arbiter.router.worker_books import Merged
from arbiter.router.workers import Channel, Parent, Reporter, bind

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from arbiter.router.admin import Books
    from arbiter.router.options import Options

log = logging.getLogger(__name__)


class Topic(StrEnum):
    """What a parent hands to its workers."""

    GREETING = "greeting"
    TABLE = "table"
    ENDPOINTS = "endpoints"
    REFUSED = "refused"


def run(options: Options, command: Sequence[str]) -> int:
    """Run a router and give its exit code.

    Args:
        options: of its command line.
        command: the same as words, to start workers with.

    Raises:
        InvalidInputError: a file or port that it was given cannot be used.
    """
    if options.worker_fd is not None:
        main: Coroutine[None, None, None] = _work(options, options.worker_fd)
    elif options.workers > 1:
        main = _lead(options, command)
    else:
        main = _serve_alone(options)
    # What was imported never becomes garbage, and what one request leaves behind is freed by counting references:
    # looking for cycles seldom is enough, and costs less.
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
    uvloop.run(main)
    return 0


async def _serve_alone(options: Options) -> None:
    """One process that does everything."""
    loop = asyncio.get_running_loop()
    serving = Serving(options, new_epoch(), 1, feedback_key(options.feedback_key))
    following = loop.create_task(_follow(options, serving.obey, serving.standing.refuse, serving.router.place))
    await serving.listen(_bound(options, shared=False), tls_context(options))
    books = OwnBooks(serving.ledger, serving.standing, loop.time, serving.refresh)
    admin = await _admin(options, books)
    log.info("serving on port %d, admin on port %d", serving.server.port, admin.port)
    await _told_to_end(following)
    following.cancel()
    await serving.drain(options.drain_s)
    await admin.drain(0.0)


async def _lead(options: Options, command: Sequence[str]) -> None:
    """The parent of several workers: it follows the table, hands it on, and serves the admin port."""
    loop = asyncio.get_running_loop()
    merged = Merged(new_epoch())
    parent = Parent(command, options.workers, merged, lambda: int(_unix_s() * 1000.0))
    secret = feedback_key(options.feedback_key).hex()
    # Workers read these themselves. What cannot be used ends the router here, or they would start and fail for ever.
    tls_context(options)
    if options.keys is not None:
        KeyFile(options.keys)
    parent.publish(Topic.GREETING, json.dumps({"epoch": merged.epoch, "feedback": secret}))

    known: dict[str, tuple[str, ...]] = {}

    def on_table(table: RouteTable) -> None:
        backends = [backend for task in table.tasks.values() for backend in task.backends]
        for service in known.keys() - {backend.service for backend in backends}:
            del known[service]
        merged.retain({task.name: {each.model for each in task.backends} for task in table.tasks.values()}, loop.time())
        parent.publish(Topic.TABLE, table.to_text())

    def on_refused(reason: str, message: str) -> None:
        parent.publish(Topic.REFUSED, json.dumps([reason, message]), keep=False)

    def on_endpoints(service: str, urls: tuple[str, ...]) -> None:
        known[service] = urls
        parent.publish(Topic.ENDPOINTS, json.dumps(known))

    with _bound(options, shared=True):  # bound by us too, so that a port that is taken is an error at once
        following = loop.create_task(_follow(options, on_table, on_refused, on_endpoints))
        parent.start()
        admin = await _admin(options, parent)
        log.info("%d workers on port %d, admin on port %d", options.workers, options.port, admin.port)
        await _told_to_end(following)
        following.cancel()
        await parent.stop(options.drain_s)
        await admin.drain(0.0)


async def _work(options: Options, fd: int) -> None:
    """A worker: it serves, reports to its parent, and does what that hands on."""
    channel = await Channel.open(socket.socket(fileno=fd))
    hello = await channel.receive()
    if hello is None or hello.text("kind") != "note" or hello.text("topic") != Topic.GREETING:
        raise InvalidInputError("--worker-fd", "is for a router's own use: its parent did not greet")
    told = json.loads(hello.text("text"))
    serving = Serving(options, told["epoch"], options.workers, bytes.fromhex(told["feedback"]))
    ended: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def note(topic: str, text: str) -> None:
        match topic:
            case Topic.TABLE:
                serving.obey(RouteTable.from_text(text))
            case Topic.ENDPOINTS:
                for service, urls in json.loads(text).items():
                    serving.router.place(service, tuple(urls))
            case Topic.REFUSED:
                reason, message = json.loads(text)
                serving.standing.refuse(reason, message)
            case _:
                log.warning("the parent handed on something unknown: %s", topic)

    def drain(seconds: float | None) -> None:
        if not ended.done():
            ended.set_result(options.drain_s if seconds is None else seconds)

    # Only the parent ends a worker: a signal to the whole group must not end it before its requests are over.
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, lambda: None)
    reporter = Reporter(channel, serving.ledger, serving.standing, note, drain)
    reporting = asyncio.create_task(reporter.run())
    await serving.listen(_bound(options, shared=True), tls_context(options))
    await serving.drain(await ended)
    with suppress(ConnectionError):
        await reporter.close()
    await asyncio.wait([reporting], timeout=1.0)


async def _follow(
    options: Options,
    on_table: Callable[[RouteTable], None],
    on_refused: Callable[[str, str], None],
    on_endpoints: Callable[[str, tuple[str, ...]], None],
) -> None:
    """Obey the table wherever it is."""
    if options.routes is not None:
        await follow_file(options.routes, on_table, on_refused)
        return
    # Only here: with the kubernetes library a process takes half as much memory again, and half a second to start.
    from arbiter.kubeapi.connection import Connection  # noqa: PLC0415  as above
    from arbiter.router.follow import Source, follow  # noqa: PLC0415  as above

    assert options.config_map is not None  # noqa: S101  one of both is given
    outside = options.kubeconfig
    connection = Connection.in_cluster() if outside is None else Connection.kubeconfig(outside)
    source = Source(connection, options.namespace, options.config_map, options.kept, draw)
    await connection.open()
    try:
        await follow(source, on_table, on_refused, on_endpoints)
    finally:
        await connection.close()


async def _admin(options: Options, books: Books) -> Server:
    """Serve the admin port."""
    server = Server(Admin(books).handle)
    try:
        await server.start(options.admin_host, options.admin_port)
    except OSError as error:
        raise InvalidInputError("--admin-port", f"{options.admin_port} cannot be had: {error.strerror}") from error
    return server


def _bound(options: Options, *, shared: bool) -> socket.socket:
    """The clients' port."""
    try:
        return bind(options.host, options.port, shared=shared)
    except OSError as error:
        raise InvalidInputError("--port", f"{options.port} cannot be had: {error.strerror}") from error


async def _told_to_end(following: asyncio.Task[None]) -> None:
    """Wait for a signal. A second one ends the process at once; so does a table that can no longer be followed."""
    told = asyncio.Event()

    def on_signal() -> None:
        if told.is_set():
            sys.exit(1)
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    waiting = asyncio.create_task(told.wait())
    done, _ = await asyncio.wait([waiting, following], return_when=asyncio.FIRST_COMPLETED)
    if following in done:
        waiting.cancel()
        following.result()


def _unix_s() -> float:
    return time.time()  # noqa: TID251  the edge of the program
