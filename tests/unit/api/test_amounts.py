"""Quantities and durations: read exactly, compared by value, written back as they were written."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.api.amounts import DURATION_HELP, QUANTITY_HELP, Duration, Quantity
from arbiter.api.meta import Part


class Room(Part):
    """Both amounts in one value."""

    memory: Quantity
    hold: Duration


@pytest.mark.parametrize(
    ("text", "want_value"),
    [
        pytest.param("0", Decimal(0), id="nothing"),
        pytest.param("2", Decimal(2), id="a plain number"),
        pytest.param("+2", Decimal(2), id="a plus sign"),
        pytest.param("1.5", Decimal("1.5"), id="a fraction"),
        pytest.param(".5", Decimal("0.5"), id="a fraction without its zero"),
        pytest.param("100n", Decimal("1e-7"), id="nano"),
        pytest.param("100u", Decimal("1e-4"), id="micro"),
        pytest.param("100m", Decimal("0.1"), id="milli"),
        pytest.param("1k", Decimal(10**3), id="decimal kilo"),
        pytest.param("1M", Decimal(10**6), id="decimal mega"),
        pytest.param("1G", Decimal(10**9), id="decimal giga"),
        pytest.param("1T", Decimal(10**12), id="decimal tera"),
        pytest.param("1P", Decimal(10**15), id="decimal peta"),
        pytest.param("1E", Decimal(10**18), id="decimal exa"),
        pytest.param("1Ki", Decimal(2**10), id="binary kilo"),
        pytest.param("16Gi", Decimal(16 * 2**30), id="binary giga"),
        pytest.param("1.5Gi", Decimal(3 * 2**29), id="a fraction of a binary giga"),
        pytest.param("1Ei", Decimal(2**60), id="binary exa"),
        pytest.param("12e6", Decimal(12 * 10**6), id="an exponent"),
        pytest.param("12E-3", Decimal("0.012"), id="a negative exponent"),
    ],
)
def test_quantity_has_exactly_the_value_that_kubernetes_gives_it(text: str, want_value: Decimal) -> None:
    """No float comes near an amount."""
    assert Quantity.parse(text).value == want_value


@pytest.mark.parametrize(
    "text", ["", "-1", "16GB", "1 Gi", "Gi", "1e", "1_000", "0x10", "1ki", "1K", "∞", "1Gi\n", "."]
)
def test_what_is_no_quantity_is_refused_with_what_would_be(text: str) -> None:
    """The sentence says how to write one."""
    with pytest.raises(ValueError, match="must be a positive quantity") as caught:
        Quantity.parse(text)
    assert str(caught.value) == QUANTITY_HELP


def test_quantities_are_equal_by_value_and_ordered() -> None:
    """`1Gi` is `1024Mi`, whichever way it was written."""
    one, same, more = Quantity.parse("1Gi"), Quantity.parse("1024Mi"), Quantity.parse("1.1Gi")

    assert one == same
    assert hash(one) == hash(same)
    assert one < more
    assert max(one, more) is more
    assert one != "1Gi"


@pytest.mark.parametrize(
    ("text", "want_units"), [("1.5", 2), ("1", 1), ("1500m", 2), ("1n", 1), ("2Ki", 2048), ("0", 0)]
)
def test_quantity_rounds_up_to_whole_units(text: str, want_units: int) -> None:
    """What is asked for is at least given, as Kubernetes rounds."""
    assert int(Quantity.parse(text)) == want_units


@given(st.integers(min_value=0, max_value=10**18))
def test_quantity_of_an_integer_is_that_integer(number: int) -> None:
    """A number without quotes in YAML is a quantity too."""
    assert int(Quantity.parse(number)) == number


@pytest.mark.parametrize(
    ("text", "want_seconds"),
    [
        pytest.param("0s", 0.0, id="nothing"),
        pytest.param("250ms", 0.25, id="milliseconds"),
        pytest.param("30s", 30.0, id="seconds"),
        pytest.param("5m", 300.0, id="minutes"),
        pytest.param("1h30m", 5400.0, id="two units"),
        pytest.param("1h1m1s1ms", 3661.001, id="all units"),
        pytest.param("168h", 7 * 86400.0, id="a week"),
    ],
)
def test_duration_has_exactly_the_length_that_it_says(text: str, want_seconds: float) -> None:
    """Units add up."""
    assert Duration.parse(text).seconds == want_seconds


@pytest.mark.parametrize(
    "text", ["", "5", "7d", "1w", "1.5h", "-5m", "5 m", "100000s", "1h1m1s1ms1s", "m", "5M", "1us", "5m\n"]
)
def test_what_is_no_duration_is_refused_with_what_would_be(text: str) -> None:
    """Days are the most likely mistake, so the sentence shows a week in hours."""
    with pytest.raises(ValueError, match="seven days") as caught:
        Duration.parse(text)
    assert str(caught.value) == DURATION_HELP


def test_durations_are_equal_by_length_and_ordered() -> None:
    """An hour is sixty minutes."""
    hour, minutes, longer = Duration.parse("1h"), Duration.parse("60m"), Duration.parse("61m")

    assert hour == minutes
    assert hash(hour) == hash(minutes)
    assert hour < longer
    assert hour != timedelta(hours=1)


def test_amounts_are_written_back_as_they_were_written() -> None:
    """A user's `1024Mi` does not come back as `1Gi`."""
    room = Room.model_validate({"memory": "1024Mi", "hold": "60m"})

    assert room.to_dict() == {"memory": "1024Mi", "hold": "60m"}
    assert str(room.memory) == "1024Mi"
    assert str(room.hold) == "60m"
    assert Room(memory=room.memory, hold=room.hold) == room


@pytest.mark.parametrize(
    ("memory", "hold", "want_help"),
    [
        pytest.param(True, "1h", QUANTITY_HELP, id="a truth value is no quantity"),
        pytest.param(1.5, "1h", QUANTITY_HELP, id="a float is no quantity"),
        pytest.param("1Gi", 60, DURATION_HELP, id="a number is no duration"),
    ],
)
def test_amounts_of_another_type_are_refused(memory: object, hold: object, want_help: str) -> None:
    """YAML's own types do not slip through."""
    with pytest.raises(ValueError, match="must be a") as caught:
        Room.model_validate({"memory": memory, "hold": hold})
    assert want_help in str(caught.value)
