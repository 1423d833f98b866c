"""Which models a shared engine loads and lets go: never one that is needed or used, the longest unused first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from arbiter.core.residents import Held, Residency, Wanted, settle

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
GIB = 1024**3


def ago(minutes: int) -> datetime:
    """So many minutes before now."""
    return NOW - timedelta(minutes=minutes)


def test_what_fits_is_loaded_in_its_order() -> None:
    """What matters most is loaded first, beside what is there already."""
    found = settle([Wanted("a", GIB), Wanted("b", GIB)], [Held("c", GIB)], 3 * GIB, None)
    assert found == Residency(load=("a", "b"))


def test_the_longest_unused_goes_first_and_no_more_than_needed() -> None:
    """One that nobody ever used goes before one that somebody did."""
    held = [Held("new", GIB, ago(1)), Held("old", GIB, ago(60)), Held("never", GIB)]
    assert settle([Wanted("a", GIB)], held, 3 * GIB, None) == Residency(unload=("never",))
    assert settle([Wanted("a", 2 * GIB)], held, 3 * GIB, None) == Residency(unload=("never", "old"))


def test_the_next_is_loaded_once_the_others_are_gone() -> None:
    """Nothing is loaded into room that is still taken."""
    held = [Held("old", GIB, ago(60))]
    assert settle([Wanted("a", GIB)], held, GIB, None).load == ()
    assert settle([Wanted("a", GIB)], [], GIB, None).load == ("a",)


def test_what_is_used_or_may_be_used_stays() -> None:
    """Requests in flight keep a model, and so does it when nobody can say."""
    for busy in (True, None):
        found = settle([Wanted("a", GIB)], [Held("old", GIB, busy=busy)], GIB, None)
        assert found.unload == ()
        assert "raise spec.capacity" in found.refused["a"]


def test_what_is_needed_is_never_taken_out_for_another() -> None:
    """The one that matters less is refused, with the figures."""
    found = settle([Wanted("a", GIB), Wanted("b", GIB)], [Held("a", GIB)], GIB, None)
    assert found.load == ()
    assert found.unload == ()
    assert "may hold 1Gi of memory, of which 1 loaded models hold 1Gi" in found.refused["b"]


def test_the_number_of_models_is_a_bound_too() -> None:
    """Though there is memory for more."""
    held = [Held("old", GIB, ago(60))]
    assert settle([Wanted("a", GIB)], held, None, 1) == Residency(unload=("old",))
    assert settle([Wanted("a", GIB)], held, None, 2) == Residency(load=("a",))


def test_what_needs_nobody_knows_how_much_is_tried() -> None:
    """An unknown need is none that could be refused."""
    assert settle([Wanted("a")], [], GIB, None) == Residency(load=("a",))


def test_without_bounds_what_is_idle_goes_and_what_is_used_stays() -> None:
    """Nothing would ever need its room."""
    held = [Held("a", GIB), Held("idle", GIB, ago(1)), Held("used", GIB, busy=True), Held("unknown", GIB, busy=None)]
    assert settle([Wanted("a", GIB), Wanted("b", GIB)], held, None, None) == Residency(("b",), ("idle",))


NAMES = st.sampled_from("abcdef")
WANTED = st.lists(st.builds(Wanted, NAMES, st.integers(1, 8)), unique_by=lambda each: each.name)
HELD = st.lists(
    st.builds(
        Held, NAMES, st.integers(1, 8), st.none() | st.integers(0, 99).map(ago), st.sampled_from([True, False, None])
    ),
    unique_by=lambda each: each.name,
)


@given(wanted=WANTED, held=HELD, memory=st.none() | st.integers(0, 20), models=st.none() | st.integers(1, 6))
def test_bounds_hold_and_nothing_needed_or_used_goes(
    wanted: list[Wanted], held: list[Held], memory: int | None, models: int | None
) -> None:
    """Whatever is loaded fits beside what stays, and each wanted model is there, comes, waits or is refused."""
    found = settle(wanted, held, memory, models)
    needed, by_name = {each.name: each.memory or 0 for each in wanted}, {each.name: each for each in held}
    for name in found.unload:
        assert name not in needed
        assert by_name[name].busy is False
    staying = sum(each.memory for each in held if each.name not in found.unload)
    coming = sum(needed[name] for name in found.load)
    if found.load and memory is not None:
        assert staying + coming <= memory
    if found.load and models is not None:
        assert len(held) - len(found.unload) + len(found.load) <= models
    assert not set(found.load) & set(by_name)
    if not found.unload:
        assert set(needed) == (set(needed) & set(by_name)) | set(found.load) | set(found.refused)
