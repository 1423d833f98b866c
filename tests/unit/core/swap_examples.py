"""A swap as a story: what is seen changes line by line, and each decision that follows is written down as a line.

A story's looks stand for passes: one look every `every` seconds, and after each line of the story as many as it takes
until nothing changes any more at that moment.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from arbiter.api.modelpool import Serving
from arbiter.api.modelswap import Verdict
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.api.swappolicy import Strategy, SwapPolicySpec
from arbiter.core.evidence import Evidence
from arbiter.core.judgement import Judgement
from arbiter.core.swap import advance
from arbiter.core.swap_flight import Flight, requested
from arbiter.core.swap_seen import Choice, Opening, SideSeen, SwapSeen

if TYPE_CHECKING:
    from typing import Any

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
OLD = Serving(model="smollm2", revision="0123456789")
NEW = Serving(model="gemma3", revision="9876543210")

SERVES = Reason(ReasonCode.Serving, "it serves")
STARTS = Reason(ReasonCode.EngineStarting, "the pods of gemma3 start")
CRASHES = Reason(ReasonCode.EngineCrashed, "gemma3 ended with exit code 1 right after its start")

UP = SideSeen(SERVES, ready=1, proved=True, idle=False)
DOWN = SideSeen(STARTS)
GONE = SideSeen(Reason(ReasonCode.EngineStarting, "the pods of smollm2 start"))

BOTH = Choice(Strategy.SideBySide, Reason(ReasonCode.RoomForBoth, "node-1 has room for both"))
ONE = Choice(Strategy.OneAtATime, Reason(ReasonCode.RoomForOne, "the only GPU is taken by smollm2"))
OPEN = Opening(open=True, reason=Reason(ReasonCode.NoWindows, "the policy has no windows"))
CLOSED = Opening(
    open=False, reason=Reason(ReasonCode.WindowClosed, "the window nights opens at 22:00"), changes_at=START
)

SEEN = SwapSeen(old=UP, new=DOWN, choice=BOTH, window=OPEN, obeyed=True)

SHORT = SwapPolicySpec.model_validate(
    {
        "rollout": {
            "steps": [{"weight": 20, "hold": "60s"}, {"weight": 60, "hold": "60s"}],
            "watch": "60s",
            "maxHold": "30s",
        },
        "rollback": {"drain": "30s"},
    }
)
"""Two steps, of which the second is behind a gate."""

SETTLES: int = 12
"""Looks after which a story that still moves without time passing is wrong."""


def swap(policy: SwapPolicySpec = SHORT, **changes: Any) -> Flight:  # noqa: ANN401  fields of a flight
    """Give a swap that was asked for."""
    asked = requested("assistant-chat-1", "chat", policy, (OLD, NEW), "spec.tasks[0].model was changed to gemma3")
    return replace(asked, **changes)


def judged(code: ReasonCode, *, enough: bool = True) -> Judgement:
    """Give what the evidence says."""
    verdicts = {
        ReasonCode.RegressionProven: (Verdict.Worse, "the new side is worse: first-token old 0.2, new 0.9"),
        ReasonCode.EqualOrBetterProven: (Verdict.NotWorse, "the new side is within every margin"),
        ReasonCode.EvidenceUndecided: (Verdict.Undecided, "more requests are needed: about 310"),
        ReasonCode.TooFewRequests: (Verdict.Undecided, "this step has 3 requests of at least 50"),
        ReasonCode.MetricsUnavailable: (Verdict.Undecided, "no data that compares both sides for 6 blocks"),
    }
    verdict, told = verdicts[code]
    return Judgement(verdict, Reason(code, told), Evidence(0, ()), (), enough)


@dataclass
class Story:
    """A swap, what is seen of it, and what was decided so far.

    Attributes:
        flight: the swap as it is.
        seen: what is seen.
        now: the time.
        told: the lines so far.
    """

    flight: Flight = field(default_factory=swap)
    seen: SwapSeen = SEEN
    now: datetime = START
    told: list[str] = field(default_factory=list)

    def see(self, what: str, **changes: Any) -> Story:  # noqa: ANN401  fields of what is seen
        """Change what is seen, and decide until nothing moves."""
        self.seen = replace(self.seen, **changes)
        self.told.append(f"\n{self._clock()} -- {what}")
        return self._settle()

    def wait(self, seconds: float) -> Story:
        """Let time pass, and decide until nothing moves."""
        self.now += timedelta(seconds=seconds)
        self.told.append(f"\n{self._clock()} -- {seconds:g} s later")
        return self._settle()

    def _settle(self) -> Story:
        for _ in range(SETTLES):
            before = self.flight
            self.flight = advance(before, self.seen, self.now)
            if _line(self.flight) != _line(before):
                self.told.append(f"         {_line(self.flight)}")
            if self.flight == before:
                return self
        raise AssertionError(f"it does not settle: {self.told[-SETTLES:]}")

    def _clock(self) -> str:
        return f"{(self.now - START).total_seconds():+7.0f} s"

    def text(self) -> str:
        """Give the story as it is kept."""
        return "\n".join(self.told).lstrip("\n") + "\n"


def _line(flight: Flight) -> str:
    place = flight.phase.value if flight.outcome is None else f"{flight.phase} ({flight.outcome})"
    how = f"step {flight.step} weight {flight.weight} pods {flight.pods} {flight.stage}"
    after = ""
    if flight.next is not None:
        at = f" at {(flight.next.at - START).total_seconds():+.0f} s" if flight.next.at is not None else ""
        after = f" | next: {flight.next.action}{at}"
    return f"{place} [{how}] {flight.reason}{after}"
