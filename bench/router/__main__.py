"""Measures the router beside its peers: `python -m bench.router [--quick] [--peer NAME ...] [--repeats N]`.

Every peer gets the same upstream, the same load and one core of its own, in turns, so that a machine whose speed
drifts does so for all; figures are medians over the turns. Each turn starts the peer anew. What is added to a
request is measured at a fixed rate against going directly in the same turn: with connections that are never idle,
latency is only throughput told differently.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.router import figures
from bench.router.figures import CONNECTIONS, Endurance, Result, Sample
from bench.router.load import request
from bench.router.peers import BENCH_VENV, ROOT, Upstream, like_the_images, peers
from bench.router.processes import cores, free_port, memory, pinned, processor_s, running, tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.router.peers import Launch, Peer


class Shape(NamedTuple):
    """How many streams at once, how many events a second in each, and how many events before the next one."""

    streams: int
    pace: int
    events: int


PACED = Shape(400, 50, 250)
MANY = Shape(1000, 20, 200)
"""The long run: as many events a second in all as `PACED`, since upstream and load may share a core."""

IDLE = Shape(1000, 0, 2)
"""One event comes, and then nothing."""

CPU_CONNECTIONS = 32
"""Connections at which processor time for a request is counted."""

_WRK = """
wrk.method = "POST"
wrk.path = "/v1/chat/completions"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer bench"
wrk.body = {body}
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{{"requests": %d, "us": %d, "p50": %d, "p99": %d, "status": %d, "socket": %d, "timeout": %d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.status, e.connect + e.read + e.write, e.timeout))
end
"""


@dataclass(frozen=True)
class Plan:
    """How long and how often."""

    repeats: int
    seconds: float
    many_seconds: float
    flips: int
    rate: float


class Bench:
    """One run: the upstream, the cores and a folder."""

    def __init__(self, plan: Plan, folder: Path, upstream: Upstream) -> None:
        """The upstream is running."""
        self._plan = plan
        self._folder = folder
        self._upstream = upstream
        self._proxy_core, _, self._load_core = cores()
        body = request(0).partition(b"\r\n\r\n")[2].decode()
        self._script = folder / "wrk.lua"
        self._script.write_text(_WRK.format(body=json.dumps(body)))

    def turn(self, peer: Peer | None) -> Sample:
        """Measure a peer, or going directly, once."""
        if peer is None:
            return self._sample(self._upstream.old, set())
        with self._started(peer) as (launch, pid):
            return self._sample(launch.port, tree(pid))

    def endurance(self, peer: Peer) -> Endurance:
        """Measure what takes long, once, in a process that has done little else before."""
        with self._started(peer) as (launch, pid):
            pids = tree(pid)
            time.sleep(1.0)
            before = memory(pids)
            idle = self._streams(launch.port, pids, IDLE, 1.0)
            many = self._streams(launch.port, pids, MANY, self._plan.many_seconds)
            errors = Counter(idle["errors"]) + Counter(many["errors"])
            each = (idle["memory"] - before) / IDLE.streams if idle["open"] == IDLE.streams else math.nan
            end = Endurance(each, many["open"], many["events_per_s"], many["core"], errors)
            if launch.table:
                flips = [(side, launch.table(side == "new", n + 2)) for n, side in enumerate(self._sides())]
                hup = pid if launch.reload else 0
                switch = self._load("weights", port=launch.port, file=str(launch.file), flips=flips, hup=hup)
                end.obeyed_s, end.strayed_s, end.switch_errors = switch["first"], switch["last"], switch["errors"]
            return end

    def _sides(self) -> list[str]:
        return ["new" if flip % 2 else "old" for flip in range(self._plan.flips + 1)]

    @contextmanager
    def _started(self, peer: Peer) -> Iterator[tuple[Launch, int]]:
        """A peer that has served some requests."""
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=f"{peer.name}-") as own:
            launch = peer.launch(Path(own), self._upstream)
            log = self._folder / f"{peer.name}.log"
            with running(self._proxy_core, launch.command, launch.port, log, launch.environment) as pid:
                self._wrk(launch.port, 8, 1.0)
                yield launch, pid

    def _sample(self, port: int, pids: set[int]) -> Sample:
        """All that is measured in one turn."""
        sample, errors = Sample(), Counter[str]()
        for connections in CONNECTIONS:
            before = processor_s(pids)
            done = self._wrk(port, connections, self._plan.seconds)
            if connections == CPU_CONNECTIONS:
                sample.cpu_s = (processor_s(pids) - before) / done["requests"] if done["requests"] else math.nan
            rate = done["requests"] / (done["us"] / 1e6)
            sample.full[connections] = rate, done["p50"] / 1e6, done["p99"] / 1e6
            errors.update({name: done[name] for name in ("status", "socket", "timeout") if done[name]})
            paced = self._load(
                "paced", port=port, connections=connections, rate=self._plan.rate, seconds=self._plan.seconds
            )
            sample.paced[connections] = paced["p50"], paced["p99"]
            errors.update(paced["errors"])
            if paced["requests"] < paced["asked"] * 0.99:
                errors["unanswered at the fixed rate"] += paced["asked"] - paced["requests"]
        relayed = self._streams(port, pids, PACED, self._plan.seconds)
        sample.events_per_s, sample.core = relayed["events_per_s"], relayed["core"]
        errors.update(relayed["errors"])
        sample.errors = dict(errors)
        return sample

    def _wrk(self, port: int, connections: int, seconds: float) -> dict[str, int]:
        """Plain requests over connections that are never idle; wrk takes whole seconds."""
        command = ("wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(self._script))
        said: dict[str, int] = json.loads(self._run(*command, f"http://127.0.0.1:{port}").splitlines()[-1])
        return said

    def _streams(self, port: int, pids: set[int], shape: Shape, seconds: float) -> dict[str, Any]:
        number, *rest = shape
        return self._load("streams", port=port, number=number, shape=rest, seconds=seconds, pids=sorted(pids))

    def _load(self, kind: str, **how: object) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self._run(sys.executable, "-m", "bench.router.load", kind, json.dumps(how)))
        return said

    def _run(self, *command: str) -> str:
        done = subprocess.run(  # noqa: S603  our own load
            pinned(self._load_core, command), cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{command[:4]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout


def measured(plan: Plan, chosen: Sequence[Peer]) -> list[Result]:
    """Run everything; the first result is that of going directly."""
    results = [Result("direct"), *(Result(peer.name) for peer in chosen)]
    upstream = Upstream(free_port(), free_port())
    command = (sys.executable, "-m", "bench.router.standin", str(upstream.old), str(upstream.new))
    with tempfile.TemporaryDirectory(prefix="bench-router-") as made:
        folder = Path(made)
        with running(cores()[1], command, upstream.new, folder / "upstream.log", {"PYTHONPATH": str(ROOT)}):
            bench = Bench(plan, folder, upstream)
            for repeat in range(plan.repeats):
                turns = list(zip(results, (None, *chosen), strict=True))
                for result, peer in turns if repeat % 2 == 0 else reversed(turns):
                    _say(f"turn {repeat + 1} of {plan.repeats}: {result.name}")
                    result.samples.append(bench.turn(peer))
            for result, peer in zip(results[1:], chosen, strict=True):
                _say(f"{MANY.streams} streams for {plan.many_seconds:g} s: {peer.name}")
                result.endurance = bench.endurance(peer)
    return results


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.router", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two short turns and ten seconds of many streams")
    parser.add_argument("--peer", action="append", metavar="NAME", help="only this one; may be given again")
    parser.add_argument("--repeats", type=int, help="turns of each peer")
    parser.add_argument("--rate", type=float, default=500.0, help="requests a second of the latency measurement")
    parser.add_argument("--venv", type=Path, default=BENCH_VENV, help="where the peers that are wheels live")
    parser.add_argument("--python", type=Path, default=like_the_images(), help="runs ours; as the image's by default")
    return parser.parse_args()


def _chosen(arguments: argparse.Namespace) -> list[Peer]:
    """The peers to measure; one that was asked for by name and is missing is an error, any other is only told."""
    known = peers(arguments.venv, arguments.python)
    if unknown := set(arguments.peer or ()) - {peer.name for peer in known}:
        raise SystemExit(f"no peer {', '.join(sorted(unknown))}; there are {', '.join(peer.name for peer in known)}")
    chosen = []
    for peer in known:
        if arguments.peer and peer.name not in arguments.peer:
            continue
        if not peer.missing:
            chosen.append(peer)
        elif arguments.peer:
            raise SystemExit(f"{peer.name} cannot be measured: {peer.missing}")
        else:
            print(f"{peer.name} is left out: {peer.missing}")
    return chosen


def main() -> int:
    """Measure, and print the tables."""
    arguments = _arguments()
    if not shutil.which("wrk"):
        raise SystemExit("missing: wrk, which makes the plain load. On Debian: apt-get install wrk")
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    quick = arguments.quick
    plan = Plan(
        repeats=arguments.repeats or (2 if quick else 5),
        seconds=2.0 if quick else 5.0,
        many_seconds=10.0 if quick else 60.0,
        flips=6 if quick else 20,
        rate=arguments.rate,
    )
    chosen = _chosen(arguments)
    busy = os.getloadavg()[0]
    results = measured(plan, chosen)
    direct = results[0]
    proxy, upstream, load = cores()
    shared = ", which upstream and load share" if upstream == load else ""
    print(f"proxy on core {proxy}, upstream on {upstream}, load on {load}{shared}; {plan.repeats} turns")
    print(f"others kept {busy:.1f} cores busy in the minute before")
    for peer in chosen:
        print(f"- {peer.name} {peer.version()}: {peer.does}")
    streams = f"{PACED.streams} streams, {PACED.pace} events/s in each"
    many = f"{MANY.streams} streams, {MANY.pace} events/s in each, {plan.many_seconds:g} s"
    for table in (
        figures.plain_table(results),
        figures.paced_table(results, direct, plan.rate),
        figures.streams_table(results, streams),
        figures.endurance_table(results, many),
    ):
        print(f"\n{table}")
    print(flush=True)
    if any(peer.name == "arbiter" for peer in chosen):
        changes = ("--changes", "20" if quick else "40")
        subprocess.run((sys.executable, "-m", "bench.router.arrival", *changes), cwd=ROOT, check=True)  # noqa: S603  ours
    print(f"\n{figures.last_line(results, direct)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
