"""What the driver's observations prove."""

from __future__ import annotations

import pytest

from tests.traffic.attempts import Attempt, Failure, Fault, Mark, Report, Split


def attempt(  # noqa: PLR0913  the columns of a table
    began: float,
    ended: float,
    *,
    first: float | None = None,
    last: float | None = None,
    revision: str = "old",
    failure: Failure | None = None,
) -> Attempt:
    """One request; a stream when events came."""
    return Attempt(1, 0, first is not None, False, began, ended, 200, revision, 0, first, last, failure)  # noqa: FBT003  a row


CUT = Failure(Fault.CUT, "the connection was closed after 5 bytes")
STREAM = attempt(9.0, 11.0, first=9.5, last=10.5)


@pytest.mark.parametrize(
    ("attempts", "want_around", "want_clean"),
    [
        pytest.param((STREAM,), 1, True, id="a stream across"),
        pytest.param((STREAM, attempt(7.9, 8.0)), 2, True, id="ended as the window begins"),
        pytest.param((STREAM, attempt(7.0, 7.9, failure=CUT)), 1, True, id="failed before the window"),
        pytest.param((STREAM, attempt(12.0, 12.5, failure=CUT)), 2, False, id="began as the window ends, and failed"),
        pytest.param((STREAM, attempt(1.0, 30.0, failure=CUT)), 2, False, id="spans the window, fails long after"),
        pytest.param((STREAM, attempt(12.1, 13.0, failure=CUT)), 1, True, id="began after the window"),
        pytest.param((attempt(9.0, 11.0),), 1, False, id="plain requests prove nothing about streams"),
        pytest.param((attempt(9.0, 11.0, first=10.1, last=10.5),), 1, False, id="the first event came after the mark"),
        pytest.param((attempt(9.0, 11.0, first=9.1, last=9.5),), 1, False, id="the last event came before the mark"),
        pytest.param((), 0, False, id="nothing was sent"),
    ],
)
def test_a_verdict_counts_what_touched_its_window(
    attempts: tuple[Attempt, ...], want_around: int, want_clean: bool
) -> None:
    """Clean means: streams ran through the mark, and of all that touched the window none failed."""
    verdict = Report(attempts, (Mark("swap", 10.0),)).verdict("swap", window_s=2.0)

    assert len(verdict.around) == want_around
    assert verdict.clean is want_clean


@pytest.mark.parametrize(
    ("counts", "weights", "want"),
    [
        pytest.param({"new": 100, "old": 900}, {"new": 10, "old": 90}, True, id="exact"),
        pytest.param({"new": 128, "old": 872}, {"new": 10, "old": 90}, True, id="within three sigma"),
        pytest.param({"new": 129, "old": 871}, {"new": 10, "old": 90}, False, id="just outside"),
        pytest.param({"new": 71, "old": 929}, {"new": 10, "old": 90}, False, id="just outside, below"),
        pytest.param({"old": 1000}, {"new": 0, "old": 100}, True, id="all on one"),
        pytest.param({"old": 999, "new": 1}, {"new": 0, "old": 100}, False, id="one stray at weight 0"),
        pytest.param({"old": 999, "x": 1}, {"old": 100}, False, id="one stray that has no weight"),
        pytest.param({"old": 999, "": 1}, {"old": 100}, False, id="one that does not say"),
        pytest.param({}, {"old": 100}, False, id="nothing seen"),
    ],
)
def test_a_split_is_within_three_sigma_of_its_weights_or_not(
    counts: dict[str, int], weights: dict[str, float], want: bool
) -> None:
    """Chance is allowed its part and no more; at 0 and 100 % there is no chance."""
    assert Split(counts).within(weights) is want


def test_a_split_counts_the_requests_that_began_between_two_marks() -> None:
    """A request is routed when it begins, whenever it ends."""
    attempts = tuple(attempt(began, began + 10.0, revision=name) for began, name in ((1, "a"), (5, "b"), (9, "c")))
    report = Report(attempts, (Mark("from", 5.0), Mark("to", 9.0)))

    assert report.split("from", "to").counts == {"b": 1}
    assert report.split().total == 3
    assert str(report.split("from", "to")) == "b: 1 (100.0%)"


def test_a_report_tells_what_failed_and_when() -> None:
    """Whoever reads a failed run needs the request, the reason and its time, measured from the mark."""
    broken = attempt(9.5, 10.013, first=9.6, last=10.0, failure=CUT)
    report = Report((STREAM, broken), (Mark("swap", 10.0),))

    told = str(report.verdict("swap"))
    assert "swap: 2 requests around it, 1 streams across it, 1 failed" in told
    assert "served by old) from -0.500 s to +0.013 s: cut: the connection was closed after 5 bytes" in told
    assert "2 requests, 2 of them streams, 1 failed" in str(report)
    with pytest.raises(KeyError):
        report.verdict("another")
