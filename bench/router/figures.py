"""What was measured of each peer, and how it is told."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

CONNECTIONS = (1, 32, 256)
"""How many connections the latency is measured at."""


@dataclass
class Sample:
    """One turn of one peer. Seconds; latencies by number of connections.

    Attributes:
        cpu_s: processor seconds for each plain request at 32 connections that are never idle.
        full: requests a second, p50 and p99 when so many connections are never idle.
        paced: p50 and p99 at the stated rate.
        events_per_s: events relayed in a second, of the streams.
        core: share of a core that this took.
        errors: what went wrong in any of it, and how often.
    """

    cpu_s: float = 0.0
    full: dict[int, tuple[float, float, float]] = field(default_factory=dict)
    paced: dict[int, tuple[float, float]] = field(default_factory=dict)
    events_per_s: float = 0.0
    core: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)


@dataclass
class Endurance:
    """What is measured once of each peer.

    Attributes:
        idle_stream_bytes: memory for each stream of many that idle.
        open: how many of the long-running streams were open at the end.
        events_per_s: events relayed in a second, of those.
        core: share of a core that this took.
        errors: what went wrong, and how often.
        obeyed_s: seconds from a new weight to the first request that obeyed it, for each change.
        strayed_s: seconds until the last request that did not.
        switch_errors: what went wrong meanwhile.
    """

    idle_stream_bytes: float
    open: int
    events_per_s: float
    core: float
    errors: dict[str, int]
    obeyed_s: list[float] = field(default_factory=list)
    strayed_s: list[float] = field(default_factory=list)
    switch_errors: dict[str, int] = field(default_factory=dict)


@dataclass
class Result:
    """Everything about one peer."""

    name: str
    samples: list[Sample] = field(default_factory=list)
    endurance: Endurance | None = None

    def cpu_s(self) -> float:
        """Processor seconds for a request, the median."""
        return statistics.median(sample.cpu_s for sample in self.samples)

    def full(self, connections: int, which: int) -> float:
        """Requests a second (0), p50 (1) or p99 (2) when connections are never idle, the median."""
        return statistics.median(sample.full[connections][which] for sample in self.samples)

    def paced(self, connections: int, which: int) -> float:
        """p50 (0) or p99 (1) at the stated rate, the median."""
        return statistics.median(sample.paced[connections][which] for sample in self.samples)

    def added(self, direct: Result, connections: int, which: int) -> float:
        """p50 (0) or p99 (1) at the stated rate above going directly: the median of the differences turn by turn."""
        turns = zip(self.samples, direct.samples, strict=True)
        return statistics.median(a.paced[connections][which] - b.paced[connections][which] for a, b in turns)

    def errors(self) -> int:
        """Everything that went wrong in the repeated turns."""
        return sum(sum(sample.errors.values()) for sample in self.samples)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: Sequence[float], scale: float, unit: str) -> str:
    """The median, and how far the values lie apart."""
    low, middle, high = (f(values) * scale for f in (min, statistics.median, max))
    return f"{_digits(middle)} {unit}" + (f" ({_digits(low)} to {_digits(high)})" if len(values) > 1 else "")


def _digits(value: float) -> str:
    """Three digits that matter, and never a power of ten."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def plain_table(results: Sequence[Result]) -> str:
    """Processor time and throughput of plain requests whose connections are never idle."""
    header = ["plain, never idle", "CPU per request at 32"]
    header += [f"{n}: requests/s, p50, p99" for n in CONNECTIONS]
    header += ["errors"]
    rows = []
    for each in results:
        cpu = spread([sample.cpu_s for sample in each.samples], 1e6, "µs") if each.name != "direct" else ""
        full = [
            f"{each.full(n, 0):,.0f}, {each.full(n, 1) * 1e3:.2f} ms, {each.full(n, 2) * 1e3:.2f} ms"
            for n in CONNECTIONS
        ]
        rows.append([each.name, cpu, *full, str(each.errors())])
    return table(header, rows)


def paced_table(results: Sequence[Result], direct: Result, rate: float) -> str:
    """Latency that each peer adds at a fixed rate."""
    header = [f"plain, {rate:,.0f} requests/s", *(f"added p50, p99 at {n}" for n in CONNECTIONS)]
    rows = [
        [each.name, *(_pair(each.added(direct, n, 0), each.added(direct, n, 1)) for n in CONNECTIONS)]
        for each in results
        if each is not direct
    ]
    base = ["direct (not added)", *(_pair(direct.paced(n, 0), direct.paced(n, 1)) for n in CONNECTIONS)]
    return table(header, [base, *rows])


def _pair(p50: float, p99: float) -> str:
    if math.isnan(p50):
        return "none answered"
    return f"{p50 * 1e3:.2f} ms, {p99 * 1e3:.2f} ms"


def streams_table(results: Sequence[Result], said: str) -> str:
    """Events relayed at a pace, and what that takes."""
    header = [said, "events/s", "core", "CPU per event"]
    rows = []
    for each in results:
        events = statistics.median(sample.events_per_s for sample in each.samples)
        core = statistics.median(sample.core for sample in each.samples)
        cost = ["", ""] if each.name == "direct" else [f"{core:.0%}", f"{core / events * 1e6:.1f} µs" if events else ""]
        rows.append([each.name, f"{events:,.0f}", *cost])
    return table(header, rows)


def endurance_table(results: Sequence[Result], said: str) -> str:
    """What many streams for a long time do to a peer, and how soon it obeys a new weight."""
    header = [said, "errors", "events/s", "core", "memory per idle stream", "new weight obeyed after", "errors then"]
    rows = []
    for each in results:
        if (end := each.endurance) is None:
            continue
        errors = ", ".join(f"{n} {what}" for what, n in sorted(end.errors.items())) or "0"
        known = not math.isnan(end.idle_stream_bytes)
        memory = f"{end.idle_stream_bytes / 1000:.1f} kB" if known else "they did not stay open"
        switch = ["", ""]
        if end.obeyed_s:
            late = [max(pair) for pair in zip(end.obeyed_s, end.strayed_s, strict=True)]
            switch = [spread(late, 1e3, "ms"), str(sum(end.switch_errors.values()))]
        rows.append(
            [f"{each.name}: {end.open} open", errors, f"{end.events_per_s:,.0f}", f"{end.core:.0%}", memory, *switch]
        )
    return table(header, rows)


def last_line(results: Sequence[Result], direct: Result) -> str:
    """The three figures to hold, of our router; a dash for what was not measured."""
    by_name = {each.name: each for each in results}
    ours, envoy = by_name.get("arbiter"), by_name.get("envoy")
    ratio = f"{ours.cpu_s() / envoy.cpu_s():.2f}" if ours and envoy else "-"
    added = f"{max(ours.added(direct, n, 0) for n in CONNECTIONS) * 1e3:.2f}" if ours else "-"
    errors = str(sum(ours.endurance.errors.values())) if ours and ours.endurance else "-"
    return f"CPU per request, arbiter/envoy: {ratio}; added p50 {added} ms; errors at 1000 streams: {errors}"
