"""Measures how soon a new weight is obeyed after its table arrived, in a file and by watch.

`python -m bench.router.arrival [--changes N]`. Each change sends all requests to the other side; four connections ask
without a pause meanwhile. The clock starts

- for a file: when it has been replaced (the rename has returned);
- for a watch: when the API server, a scripted one in this process, hands the event to its socket. So the way over the
  loopback and the reading of the event are in the figure; a cluster's own time, from whoever writes the ConfigMap to
  that moment, is not.

Told are when the first request is sent that obeys, and when it has been answered, which takes the request's own time
too; and when the last one is sent that does not. Only requests sent after the clock started count.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from bench.router.figures import spread, table
from bench.router.load import Client, connect, request, switched, weights
from bench.router.peers import COMPILED, ROOT, Upstream, route_table
from bench.router.processes import cores, free_port, running

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMESPACE, CONFIG_MAP = "bench", "bench-routes"

PATIENCE_S = 60.0
"""Seconds that a router may take to obey its first table: with the kubernetes library it starts slowly."""


class ApiServer:
    """Lists and watches one ConfigMap, as far as a router asks."""

    def __init__(self, text: str) -> None:
        """It holds this table."""
        self._text = text
        self._version = 1
        self._watches: list[asyncio.StreamWriter] = []

    async def up(self) -> int:
        """Listen, and give the port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        return port

    def tell(self, text: str) -> float:
        """Hand a new table to whoever watches, and give the moment."""
        self._text = text
        self._version += 1
        event = json.dumps({"type": "MODIFIED", "object": self._config_map()}).encode() + b"\n"
        at = time.perf_counter()
        for watch in self._watches:
            watch.write(b"%x\r\n%b\r\n" % (len(event), event))
        return at

    def _config_map(self) -> dict[str, Any]:
        metadata = {"name": CONFIG_MAP, "namespace": NAMESPACE, "resourceVersion": str(self._version)}
        return {"metadata": metadata, "data": {"routes.json": self._text}}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            while await reader.readline() != b"\r\n":
                pass
            if b"watch=1" in head:
                writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                self._watches.append(writer)
                continue
            listed = {"metadata": {"resourceVersion": str(self._version)}, "items": [self._config_map()]}
            body = json.dumps(listed).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))


@dataclass(frozen=True)
class Measured:
    """What one way of arrival gave; seconds."""

    way: str
    sent: list[float]
    answered: list[float]
    last: list[float]
    errors: dict[str, int]


def _kubeconfig(folder: Path, port: int) -> Path:
    path = folder / "kubeconfig"
    named = {"name": "bench"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "bench",
        "contexts": [{**named, "context": {"cluster": "bench", "user": "bench"}}],
        "clusters": [{**named, "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{**named, "user": {"token": "bench"}}],
    }
    path.write_text(json.dumps(config))
    return path


async def _obeys(port: int) -> None:
    """Wait until the router has a table."""
    answered = asyncio.Event()
    data = request(port)

    def on_answer(client: Client) -> None:
        if client.status == 200:
            answered.set()
        else:
            asyncio.get_running_loop().call_later(0.05, client.send, data, 0.0)

    (client,) = await connect(port, 1, lambda: Client(on_answer, lambda _: None))
    client.send(data, 0.0)
    await asyncio.wait_for(answered.wait(), PATIENCE_S)
    client.transport.abort()


async def measured(changes: int, folder: Path, upstream: Upstream, core: int) -> list[Measured]:
    """Both ways, one after the other, each with a router of its own on that core."""
    flips = [(("old", "new")[n % 2], route_table(upstream, 100 * (n % 2), n + 2)) for n in range(changes + 1)]
    first = route_table(upstream, 50, 1)
    file, server = folder / "routes.json", ApiServer(first)
    file.write_text(first)
    environment = {"PYTHONPATH": str(COMPILED)} if COMPILED.exists() else {}
    watched = ("--config-map", CONFIG_MAP, "--namespace", NAMESPACE)
    found = []
    for way, options in (
        ("a file that is replaced", ("--routes", file)),
        ("a ConfigMap, by watch", (*watched, "--kubeconfig", _kubeconfig(folder, await server.up()))),
    ):
        port, program = free_port(), Path(sys.executable).with_name("arbiter")
        words = (program, "router", *options, "--port", port, "--admin-port", free_port())
        with running(core, [str(word) for word in words], port, folder / "router.log", environment):
            await _obeys(port)
            done = (
                await weights(port, str(file), flips, 0)
                if way.startswith("a file")
                else await switched(port, flips, server.tell)
            )
        found.append(Measured(way, done["first"], done["answered"], done["last"], done["errors"]))
    return found


def told(found: Sequence[Measured], changes: int) -> str:
    """The table of figures."""
    header = ["first request that obeys: sent", "answered", "9 of 10 answered", "last that does not: sent", "errors"]
    rows = [
        [
            each.way,
            spread(each.sent, 1e3, "ms"),
            spread(each.answered, 1e3, "ms"),
            f"{statistics.quantiles(each.answered, n=10, method='inclusive')[8] * 1e3:.3g} ms",
            spread(each.last, 1e3, "ms"),
            str(sum(each.errors.values())),
        ]
        for each in found
    ]
    built = "compiled" if COMPILED.exists() else "from its sources"
    return table([f"a new weight arrives in, {changes} changes, router {built}", *header], rows)


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.router.arrival", description=__doc__)
    parser.add_argument("--changes", type=int, default=40, help="of each way, at least 2")
    changes = max(2, parser.parse_args().changes)
    first, second, load = cores()
    upstream = Upstream(free_port(), free_port())
    command = (sys.executable, "-m", "bench.router.standin", str(upstream.old), str(upstream.new))
    with tempfile.TemporaryDirectory(prefix="bench-arrival-") as made:
        folder = Path(made)
        with running(second, command, upstream.new, folder / "upstream.log", {"PYTHONPATH": str(ROOT)}):
            os.sched_setaffinity(0, {load})
            print(told(uvloop.run(measured(changes, folder, upstream, first)), changes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
