"""The breaker of an endpoint."""

from __future__ import annotations

from arbiter.router.breaker import Breaker, BreakerRules, State

RULES = BreakerRules(failures=3, pause_s=1.0, longest_pause_s=3.0)


def opened(now: float = 10.0) -> Breaker:
    """A breaker that opened just then."""
    breaker = Breaker(RULES)
    for _ in range(RULES.failures):
        breaker.fail(now - 1.0, now)
    return breaker


def test_only_failures_in_a_row_open_it() -> None:
    """An endpoint that fails now and then still serves most requests."""
    breaker = Breaker(RULES)
    for _ in range(5):
        breaker.fail(1.0, 2.0)
        breaker.fail(1.0, 2.0)
        breaker.succeed(1.0)
    assert breaker.enter(3.0)
    assert (breaker.state, breaker.opened) == (State.CLOSED, 0)
    for _ in range(3):
        breaker.fail(3.0, 4.0)
    assert (breaker.state, breaker.opened, breaker.enter(4.0)) == (State.OPEN, 1, False)


def test_after_the_pause_one_request_is_the_probe_and_the_others_wait_for_it() -> None:
    """A broken endpoint costs one request at a time, not a burst of them."""
    breaker = opened()
    assert not breaker.passes(10.9)
    assert breaker.retry_at() == 11.0
    assert breaker.passes(11.0)
    assert breaker.enter(11.0)
    assert breaker.state is State.HALF_OPEN
    assert (breaker.passes(20.0), breaker.enter(20.0), breaker.retry_at()) == (False, False, None)


def test_a_probe_that_succeeds_closes_it_and_the_next_pause_is_short_again() -> None:
    """What is well again is not suspected further."""
    breaker = opened()
    breaker.enter(11.0)
    breaker.fail(11.0, 11.5)
    breaker.enter(13.5)
    breaker.succeed(13.5)
    assert breaker.state is State.CLOSED
    for _ in range(RULES.failures):
        breaker.fail(14.0, 15.0)
    assert breaker.retry_at() == 16.0


def test_each_probe_that_fails_doubles_the_pause_up_to_the_longest() -> None:
    """An endpoint that is gone for good is asked ever less often."""
    breaker, now, pauses = opened(), 10.0, []
    for _ in range(4):
        at = breaker.retry_at()
        assert at is not None
        pauses.append(at - now)
        assert breaker.enter(at)
        now = at + 0.25
        breaker.fail(at, now)
    assert pauses == [1.0, 2.0, 3.0, 3.0]


def test_answers_that_began_before_the_last_change_say_nothing() -> None:
    """A long stream that ends well while its endpoint refuses new requests does not close the breaker."""
    breaker = opened()
    breaker.succeed(5.0)
    breaker.fail(5.0, 10.5)
    assert (breaker.state, breaker.retry_at()) == (State.OPEN, 11.0)
    breaker.enter(11.0)
    breaker.succeed(5.0)
    breaker.fail(5.0, 12.0)
    assert breaker.state is State.HALF_OPEN
    breaker.succeed(11.0)
    for _ in range(3):
        breaker.fail(5.0, 12.0)
    assert breaker.enter(13.0)


def test_a_probe_whose_client_left_makes_room_for_the_next() -> None:
    """Else the endpoint would be shut out for ever."""
    breaker = opened()
    breaker.enter(11.0)
    breaker.abandon(5.0)
    assert not breaker.enter(11.5)
    breaker.abandon(11.0)
    assert breaker.enter(11.5)
    assert not breaker.enter(11.6)
