"""What was measured of the operator, and how it is told."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.router.figures import spread, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HOUR_S, MB = 3600.0, 1e6

LOOK_S = 0.1
"""Seconds between two looks at an operator that settles: each makes it write out all that it counts."""

OURS, THEIRS, ENGINE = "ours", "Kubernetes", "engine"
"""Whose time a part of the way to the first completion is."""


@dataclass(frozen=True)
class Window:
    """A time in which nothing was done to the operator.

    Attributes:
        seconds: its length.
        core: share of a core.
        resident: bytes held at its end.
        proportional: the same, with shared pages divided among those who share them.
        most: the most bytes held until then.
        writes: of objects, as the operator counts them.
        changes: of objects that it may write, as watches told.
        renewals: of its Lease, as a watch told.
        events: that it told.
        busy: load average of the minute before; above the number of cores, everything waits for others.
    """

    seconds: float
    core: float
    resident: int
    proportional: int
    most: int
    writes: int
    changes: int
    renewals: int
    events: int
    busy: float


@dataclass(frozen=True)
class Edit:
    """One edit; moments of one clock.

    Attributes:
        sent: when it was sent.
        answered: when the API server had answered it.
        said: when a watch told that the status is about it.
        done: when a watch had told of everything that it leads to.
    """

    sent: float
    answered: float
    said: float
    done: float

    @property
    def since_answer(self) -> float:
        """Seconds from the API server's answer to the status; none if the status was told before the answer came."""
        return max(0.0, self.said - self.answered)

    @property
    def since_sent(self) -> float:
        """Seconds from when it was sent to everything that it leads to."""
        return self.done - self.sent


@dataclass(frozen=True)
class Restart:
    """One restart; seconds since the old process was told to end, or was killed.

    Attributes:
        killed: it was killed, so that its Lease had to run out.
        ended_s: the old process was gone, and the new one was started.
        leads_s: the new one led.
        rests_s: the new one had made its last pass.
        passes: that it made.
        writes: of objects, that it made.
    """

    killed: bool
    ended_s: float
    leads_s: float
    rests_s: float
    passes: float
    writes: int

    @property
    def rate(self) -> float:
        """Passes a second, at least: that it leads was seen a look after it did."""
        return self.passes / (self.rests_s - self.leads_s + LOOK_S)


@dataclass
class Crowd:
    """Everything about many models and pools.

    Attributes:
        models: how many.
        pools: how many.
        applied_s: seconds in which all of them were applied.
        settled_s: seconds from the first that was applied until all were Ready.
        passes: that this took.
        failed: passes that did not end well, in all.
        pool_edits: edits of pools.
        model_edits: edits of models.
        windows: of rest.
        restarts: of both ways.
    """

    models: int
    pools: int
    applied_s: float = 0.0
    settled_s: float = 0.0
    passes: float = 0.0
    failed: float = 0.0
    pool_edits: list[Edit] = field(default_factory=list)
    model_edits: list[Edit] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    restarts: list[Restart] = field(default_factory=list)


@dataclass(frozen=True)
class First:
    """One pool from `kubectl apply` to its first completion.

    Attributes:
        known: its model was resolved before.
        moments: what happened; seconds since the pool was applied.
        resolver_s: seconds that the resolver's program takes by itself; none where it was not run.
        busy: load average of the minute before; above the number of cores, everything waits for others.
    """

    known: bool
    moments: Mapping[str, float]
    resolver_s: float
    busy: float


@dataclass(frozen=True)
class Part:
    """A part of the way to the first completion; the parts of a way lie end to end.

    Attributes:
        what: happens in it.
        whose: time it is: `ours`, `Kubernetes` or `engine`.
        seconds: of it.
    """

    what: str
    whose: str
    seconds: float


def parts(first: First) -> tuple[Part, ...]:
    """Cut the way to the first completion at what the next step waits for."""
    at = first.moments
    cuts: list[tuple[str, str, float]] = []
    if first.known:
        cuts.append(("applied; the engine's Deployment is made", OURS, at["engine made"]))
    else:
        cuts.append(("applied; the resolver's Job is made", OURS, at["resolver made"]))
        cuts.append(("the resolver's pod starts and ends, its program left out", THEIRS, at["resolver ended"]))
        cuts.append(("its result is read; the engine's Deployment is made", OURS, at["engine made"]))
    cuts += [
        ("the engine's pod is made and scheduled, its container starts", THEIRS, at["engine runs"]),
        (
            "the engine loads its model; the kubelet sees that it is ready, its endpoint is listed",
            ENGINE,
            at["engine listed"],
        ),
        ("the node sends the Service's connections to it", THEIRS, at["engine reached"]),
        ("it is asked for one token and gives it; the status is written", OURS, at["active"]),
        ("the routes are written", OURS, at["routed"]),
        ("a router is reached, which started beside the engine", THEIRS, at["router reached"]),
        ("the router obeys and passes the held request on", OURS, at["completed"] - at["one more"]),
        ("the completion itself", ENGINE, at["completed"]),
    ]
    found, before = [], 0.0
    for what, whose, end in cuts:
        # What was told later though it happened earlier takes no time of its own.
        found.append(Part(what, whose, max(0.0, end - before)))
        before = max(before, end)
    if not first.known:
        own = min(first.resolver_s, found[1].seconds)
        found[1:2] = [
            Part(found[1].what, THEIRS, found[1].seconds - own),
            Part("the resolver's program", OURS, own),
        ]
    return tuple(found)


def ours(first: First) -> float:
    """Seconds of the way to the first completion that are ours."""
    return sum(part.seconds for part in parts(first) if part.whose == OURS)


def percentile(seconds: Sequence[float], percent: int) -> float:
    """A percentile, of at least one value."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def rest_table(crowd: Crowd) -> str:
    """What an operator uses and writes at rest."""
    windows = crowd.windows
    header = ["at rest", "core", "memory (RSS)", "shared pages divided (PSS)", "most so far", "objects written"]
    header += ["changes that watches told", "events", "renewals of the Lease", "load before"]
    rows = [
        [
            f"window {number}, {each.seconds:.0f} s",
            f"{each.core:.2%}",
            f"{each.resident / MB:.1f} MB",
            f"{each.proportional / MB:.1f} MB",
            f"{each.most / MB:.1f} MB",
            str(each.writes),
            str(each.changes),
            str(each.events),
            str(each.renewals),
            f"{each.busy:.1f}",
        ]
        for number, each in enumerate(windows, 1)
    ]
    return table(header, rows)


def edit_table(crowd: Crowd) -> str:
    """How soon an edit is reconciled."""
    header = ["one edit after the other", "p50", "p95", "p99", "longest"]
    rows = []
    for what, edits in (("a pool's fallback", crowd.pool_edits), ("a model's `deprecated`", crowd.model_edits)):
        for way, seconds in (
            ("from the API server's answer to the status that is about it", [each.since_answer for each in edits]),
            ("from sending to all that it leads to, as watches tell", [each.since_sent for each in edits]),
        ):
            cuts = [percentile(seconds, percent) for percent in (50, 95, 99)]
            rows.append([f"{len(edits)} of {what}: {way}", *(f"{each * 1e3:.0f} ms" for each in (*cuts, max(seconds)))])
    return table(header, rows)


def restart_table(crowd: Crowd) -> str:
    """How soon an operator that starts again is at rest."""
    header = ["a restart", "leads after", "at rest after", "passes", "passes a second, at least", "objects written"]
    rows = []
    for what, killed in (("killed; its Lease runs out", True), ("told to end; it gives its Lease back", False)):
        of_this = [each for each in crowd.restarts if each.killed is killed]
        rows.append([
            f"{what}, {len(of_this)} times",
            spread([each.leads_s for each in of_this], 1, "s"),
            spread([each.rests_s for each in of_this], 1, "s"),
            f"{statistics.median(each.passes for each in of_this):.0f}",
            f"{statistics.median(each.rate for each in of_this):.0f}",
            f"{statistics.median(each.writes for each in of_this):.0f}",
        ])  # fmt: skip
    return table(header, rows)


def first_tables(firsts: Sequence[First]) -> str:
    """The way to the first completion, part by part, of both kinds of pools."""
    return "\n\n".join(_first_table([each for each in firsts if each.known is known]) for known in (False, True))


def _first_table(firsts: Sequence[First]) -> str:
    what = "a pool whose model is known" if firsts[0].known else "a pool and its model, applied together"
    header = [f"{what}; {len(firsts)} times", "whose", "seconds"]
    cut = [parts(each) for each in firsts]
    rows = [[part.what, part.whose, spread([each[n].seconds for each in cut], 1, "s")] for n, part in enumerate(cut[0])]
    rows += [
        [
            "**applied to first completion**",
            "",
            f"**{spread([each.moments['completed'] for each in firsts], 1, 's')}**",
        ],
        ["**of which ours**", "", f"**{spread([ours(each) for each in firsts], 1, 's')}**"],
        ["applied to Ready", "", spread([each.moments["ready"] for each in firsts], 1, "s")],
        [
            "beside: routers, from their Deployment to a container that runs",
            "",
            _between(firsts, "router made", "router runs"),
        ],
        ["beside: routers, from there to a listed endpoint", "", _between(firsts, "router runs", "router listed")],
    ]
    return table(header, rows)


def _between(firsts: Sequence[First], first: str, second: str) -> str:
    return spread([each.moments[second] - each.moments[first] for each in firsts], 1, "s")


def writes_per_hour(crowd: Crowd) -> float:
    """Objects written in an hour of rest, as the operator counts or watches told, whichever is more."""
    seconds = sum(each.seconds for each in crowd.windows)
    return sum(max(each.writes, each.changes) + each.events for each in crowd.windows) * HOUR_S / seconds


def goals_table(crowd: Crowd | None, firsts: Sequence[First]) -> str:
    """What was to be reached, and what was."""
    rows: list[tuple[str, str, bool]] = []
    if crowd is not None:
        core, memory, edit = _core(crowd), _memory(crowd), _edit(crowd)
        restart = max(each.rests_s for each in crowd.restarts)
        writes, seconds = writes_per_hour(crowd), sum(each.seconds for each in crowd.windows)
        renewals = sum(each.renewals for each in crowd.windows) * HOUR_S / seconds
        rows += [
            ("below 5 % of a core at rest", f"{core:.2%}", core < 0.05),
            ("below 200 MB", f"{memory / MB:.0f} MB", memory < 200 * MB),
            ("an edit reconciled within 250 ms, p95", f"{edit * 1e3:.0f} ms", edit < 0.25),
            ("at rest again within 20 s of a restart", f"{restart:.1f} s, the longest", restart < 20),
            (
                "hardly any write at rest",
                f"{writes:.0f} an hour, counted for {seconds:.0f} s; {renewals:.0f} renewals of the Lease besides",
                writes < 60,
            ),
        ]
    for known, what in ((False, "applied with its model"), (True, "applied, its model known")):
        if of_this := [each for each in firsts if each.known is known]:
            whole = statistics.median(each.moments["completed"] for each in of_this)
            own = statistics.median(ours(each) for each in of_this)
            rows.append((f"{what}: first completion within 8 s", f"{whole:.1f} s", whole < 8))
            rows.append((f"{what}: less than 1 s of that is ours", f"{own:.2f} s", own < 1))
    return table(["goal", "measured", ""], [[goal, came, "met" if met else "missed"] for goal, came, met in rows])


def last_line(crowd: Crowd) -> str:
    """The figures to hold."""
    core, memory, edit = _core(crowd), _memory(crowd), _edit(crowd)
    size = f"{crowd.models} models, {crowd.pools} pools"
    return f"{size}: {core * 100:.1f} % of a core, {memory / MB:.0f} MB, edit p95 {edit * 1e3:.0f} ms"


def _core(crowd: Crowd) -> float:
    return statistics.median(each.core for each in crowd.windows)


def _memory(crowd: Crowd) -> float:
    return max(each.resident for each in crowd.windows)


def _edit(crowd: Crowd) -> float:
    """The longer of both kinds of edits, from the API server's answer to the status."""
    return max(percentile([each.since_answer for each in edits], 95) for edits in (crowd.pool_edits, crowd.model_edits))
