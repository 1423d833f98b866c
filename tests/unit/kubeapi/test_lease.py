"""Who leads, decided from a Lease and a clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from arbiter.kubeapi import leading, lease
from arbiter.kubeapi.lease import Record, Seen, Step, decide, held, released, see, to_lease

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
OTHERS = Record("b_2", 10, "2026-11-21T11:00:00.000000Z", "2026-11-21T11:59:00.000000Z", 3)
FREE = replace(OTHERS, holder="")


def as_lease(record: Record, version: int) -> dict[str, Any]:
    """A Lease as the API server has it."""
    return to_lease("arbiter", record, str(version))


@pytest.mark.parametrize(
    ("seen", "now", "step", "until"),
    [
        pytest.param(None, 50.0, Step.ACQUIRE, 50.0, id="there is none"),
        pytest.param(Seen(FREE, "7", 50.0), 50.0, Step.ACQUIRE, 50.0, id="given back"),
        pytest.param(Seen(replace(OTHERS, holder="a_1"), "7", 0.0), 500.0, Step.RENEW, 500.0, id="ours, however old"),
        pytest.param(Seen(OTHERS, "7", 50.0), 50.0, Step.WAIT, 51.0, id="another's"),
        pytest.param(Seen(OTHERS, "7", 50.0), 59.75, Step.WAIT, 60.0, id="another's, soon over"),
        pytest.param(Seen(OTHERS, "7", 50.0), 60.0, Step.ACQUIRE, 60.0, id="another's, and over"),
        pytest.param(
            Seen(replace(OTHERS, holds_s=15), "7", 50.0), 64.9, Step.WAIT, 65.0, id="as long as its holder says"
        ),
    ],
)
def test_what_to_do(seen: Seen | None, now: float, step: Step, until: float) -> None:
    """Whoever waits looks again when the Lease runs out, and not a second later."""
    decision = decide(seen, "a_1", now)

    assert (decision.step, decision.until) == (step, until)
    if step is Step.WAIT:
        assert decision.message == "b_2 leads"


def test_a_lease_counts_from_when_it_was_seen_to_change() -> None:
    """The clocks of the two machines do not matter: what stands in the Lease as a time is only compared."""
    first = see(None, as_lease(OTHERS, 7), 100.0)
    again = see(first, as_lease(OTHERS, 8), 105.0)
    renewed = see(again, as_lease(replace(OTHERS, renewed="1999-01-01T00:00:00.000000Z"), 9), 109.0)

    assert first == Seen(OTHERS, "7", 100.0)
    assert again == Seen(OTHERS, "8", 100.0), "somebody put a label on it, which is no sign of life"
    assert renewed is not None
    assert renewed.since == 109.0


def test_a_lease_that_was_removed_still_counts() -> None:
    """Its holder leads until it looks, so whoever waits does not begin before the Lease would have run out."""
    seen = see(see(None, as_lease(OTHERS, 7), 100.0), None, 101.0)

    assert seen == Seen(OTHERS, "", 100.0)
    assert decide(seen, "a_1", 109.0).step is Step.WAIT
    assert decide(seen, "a_1", 110.0).step is Step.ACQUIRE
    assert see(None, None, 1.0) is None


@pytest.mark.parametrize(
    ("seen", "want"),
    [
        pytest.param(
            None, Record("a_1", 10, "2026-11-21T12:00:00.000000Z", "2026-11-21T12:00:00.000000Z", 0), id="new"
        ),
        pytest.param(
            Seen(OTHERS, "7", 1.0),
            Record("a_1", 10, "2026-11-21T12:00:00.000000Z", "2026-11-21T12:00:00.000000Z", 4),
            id="another's",
        ),
        pytest.param(
            Seen(replace(OTHERS, holder="a_1"), "7", 1.0),
            Record("a_1", 10, "2026-11-21T11:00:00.000000Z", "2026-11-21T12:00:00.000000Z", 3),
            id="ours",
        ),
    ],
)
def test_what_is_written_to_hold_it(seen: Seen | None, want: Record) -> None:
    """A renewal changes nothing but its time; a change of the lead is counted."""
    assert held(seen, "a_1", NOON) == want


def test_a_lease_is_written_as_it_is_read() -> None:
    """And one that is given back names nobody."""
    assert Record.of(as_lease(OTHERS, 7)) == OTHERS
    assert Record.of({"metadata": {}}) == Record("", 10, "", "", 0)
    free = to_lease("arbiter", released(Seen(OTHERS, "7", 1.0), NOON), "7")
    assert free["spec"] == {
        "leaseDurationSeconds": 1,
        "leaseTransitions": 3,
        "renewTime": "2026-11-21T12:00:00.000000Z",
    }
    assert free["metadata"] == {"name": "arbiter-operator", "namespace": "arbiter", "resourceVersion": "7"}
    assert "resourceVersion" not in to_lease("arbiter", OTHERS, "")["metadata"]


def test_the_times_leave_room() -> None:
    """A holder has stopped before its Lease can run out, and one that died is missed in less than 15 seconds."""
    assert lease.RENEW_WITHIN_S + leading.STOP_S < lease.HOLDS_S
    assert lease.RENEW_S + leading.ANSWER_S < lease.RENEW_WITHIN_S
    assert lease.HOLDS_S + lease.LOOK_S + leading.ANSWER_S < 15
