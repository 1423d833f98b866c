"""Maintenance windows: open or closed, until when, and why, also when the clocks change."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arbiter.api.amounts import Duration
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.api.swappolicy import Window
from arbiter.core.windows import WindowState, _Timetable, window_at
from arbiter.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTE = timedelta(minutes=1)


def window(cron: str, duration: str, zone: str = "UTC", name: str | None = None) -> Window:
    """Build a window from words."""
    return Window(cron=cron, duration=Duration.parse(duration), time_zone=zone, name=name)


def at(text: str) -> datetime:
    """Read an instant such as `2026-11-21T18:48Z`."""
    return datetime.fromisoformat(text)


def test_no_windows_is_always_open() -> None:
    """Without windows, swaps may start at any time and there is nothing to wait for."""
    want_state = WindowState(
        is_open=True,
        window=None,
        changes_at=None,
        reason=Reason(ReasonCode.NoWindows, "the policy has no windows, so swaps may start at any time"),
    )
    assert window_at((), at("2026-11-21T12:00Z")) == want_state


def test_closed_names_the_next_opening() -> None:
    """Outside of all windows, the sentence says which opens next, when, and in how long."""
    nightly = window("0 22 * * *", "4h", "Europe/Berlin", "nightly")
    weekly = window("0 3 * * 0", "4h", "UTC", "weekly")
    state = window_at((weekly, nightly), at("2026-11-21T17:48Z"))
    want_message = "outside of all windows; 'nightly' opens at 2026-11-21 22:00 Europe/Berlin (in 3h 12m)"
    assert state == WindowState(
        is_open=False,
        window=nightly,
        changes_at=at("2026-11-21T21:00Z"),
        reason=Reason(ReasonCode.WindowClosed, want_message),
    )


def test_open_names_the_closing() -> None:
    """Inside a window, the sentence says which, until when, and for how long."""
    nightly = window("0 22 * * *", "4h", "Europe/Berlin", "nightly")
    state = window_at((nightly,), at("2026-11-21T22:30:15Z"))
    want_message = "inside window 'nightly'; open until 2026-11-22 02:00 Europe/Berlin (for 2h 29m)"
    assert state == WindowState(
        is_open=True,
        window=nightly,
        changes_at=at("2026-11-22T01:00Z"),
        reason=Reason(ReasonCode.WindowOpen, want_message),
    )


def test_a_window_without_name_is_called_by_its_cron() -> None:
    """Messages can name every window."""
    state = window_at((window("0 22 * * *", "1h"),), at("2026-11-21T21:59:15Z"))
    assert state.reason.message == "outside of all windows; '0 22 * * *' opens at 2026-11-21 22:00 UTC (in 45s)"


@pytest.mark.parametrize(
    ("now", "want_span"),
    [
        pytest.param("2026-11-21T22:00:00Z", "in 6d 2h", id="days and hours"),
        pytest.param("2026-11-27T00:00:00Z", "in 1d", id="whole days stand alone"),
        pytest.param("2026-11-27T23:00:00Z", "in 1h", id="a whole hour stands alone"),
        pytest.param("2026-11-27T22:59:00Z", "in 1h 1m", id="hours and minutes"),
        pytest.param("2026-11-27T23:18:30Z", "in 41m 30s", id="minutes and seconds"),
        pytest.param("2026-11-27T23:59:59.9Z", "in 1s", id="never nothing, even a tenth of a second before"),
    ],
)
def test_spans_are_told_in_two_units(now: str, want_span: str) -> None:
    """A length of time is told with its two largest units."""
    state = window_at((window("0 0 28 * *", "1h"),), at(now))
    assert not state.is_open
    assert state.reason.message.endswith(f"({want_span})")


@pytest.mark.parametrize(
    ("now", "want_open"),
    [
        pytest.param("2026-11-21T21:59:59.999999Z", False, id="just before the start it is closed"),
        pytest.param("2026-11-21T22:00:00Z", True, id="the start belongs to it"),
        pytest.param("2026-11-21T22:59:59.999999Z", True, id="just before the end it is open"),
        pytest.param("2026-11-21T23:00:00Z", False, id="the end does not belong to it"),
    ],
)
def test_boundaries(now: str, want_open: bool) -> None:
    """A window holds its first instant and not its last."""
    assert window_at((window("0 22 * * *", "1h"),), at(now)).is_open is want_open


@pytest.mark.parametrize(
    ("windows", "now", "want_open", "want_change"),
    [
        pytest.param(
            [window("0 23 * * *", "4h")], "2026-11-22T02:00Z", True, "2026-11-22T03:00Z", id="over midnight it is open"
        ),
        pytest.param(
            [window("0 23 30 * *", "6h")],
            "2026-12-01T01:00Z",
            True,
            "2026-12-01T05:00Z",
            id="over month end it is open",
        ),
        pytest.param(
            [window("0 0 1 1 *", "168h")], "2027-01-07T23:59Z", True, "2027-01-08T00:00Z", id="a week after new year"
        ),
        pytest.param(
            [window("0 12 29 2 *", "1h")],
            "2026-11-21T12:00Z",
            False,
            "2028-02-29T12:00Z",
            id="29 February waits for 2028",
        ),
        pytest.param(
            [window("0 12 29 2 *", "1h")],
            "2096-03-01T12:00Z",
            False,
            "2104-02-29T12:00Z",
            id="1900, 2100 are no leap years",
        ),
        pytest.param(
            [window("0 20 * * *", "2h"), window("30 21 * * *", "3h")],
            "2026-11-21T20:30Z",
            True,
            "2026-11-22T00:30Z",
            id="overlapping windows end with the last",
        ),
        pytest.param(
            [window("0 22 * * *", "2h"), window("0 20 * * *", "2h")],
            "2026-11-21T20:30Z",
            True,
            "2026-11-22T00:00Z",
            id="windows that touch are one",
        ),
        pytest.param(
            [window("1 22 * * *", "2h"), window("0 20 * * *", "2h")],
            "2026-11-21T20:30Z",
            True,
            "2026-11-21T22:00Z",
            id="windows a minute apart are two",
        ),
        pytest.param(
            [window("*/15 8-17 * * 1-5", "20m")],
            "2026-11-23T08:07Z",
            True,
            "2026-11-23T18:05Z",
            id="openings every quarter of an hour join into the working day",
        ),
        pytest.param(
            [window("*/15 8-17 * * 1-5", "10m")], "2026-11-23T08:12Z", False, "2026-11-23T08:15Z", id="gaps stay gaps"
        ),
        pytest.param(
            [window("* 8-18 * * *", "1m")], "2026-11-23T08:00Z", True, "2026-11-23T19:00Z", id="eleven hours of minutes"
        ),
        pytest.param(
            [window("0 0 1,15 * 1", "1h")],
            "2026-11-21T00:00Z",
            False,
            "2026-11-23T00:00Z",
            id="days and weekdays: either",
        ),
        pytest.param(
            [window("0 0 */15 * 1", "1h")], "2026-11-21T00:00Z", False, "2027-02-01T00:00Z", id="with a star: both"
        ),
        pytest.param([window("0 0 * * 7", "1h")], "2026-11-21T00:00Z", False, "2026-11-22T00:00Z", id="7 is Sunday"),
    ],
)
def test_openings(windows: list[Window], now: str, want_open: bool, want_change: str) -> None:
    """A window is open from its cron's instant for its duration, and joins what it meets."""
    state = window_at(windows, at(now))
    assert (state.is_open, state.changes_at) == (want_open, at(want_change))


@pytest.mark.parametrize(
    ("one", "now", "want_open", "want_change"),
    [
        pytest.param(
            window("30 2 * * *", "1h", "Europe/Berlin"),
            "2026-03-29T01:00Z",
            True,
            "2026-03-29T02:00Z",
            id="Berlin, skipped 02:30 opens at 03:00 for a whole hour",
        ),
        pytest.param(
            window("30 2 * * *", "1h", "Europe/Berlin"),
            "2026-03-29T00:59:59Z",
            False,
            "2026-03-29T01:00Z",
            id="Berlin, and not before",
        ),
        pytest.param(
            window("0 1 * * *", "2h", "Europe/Berlin"),
            "2026-03-29T01:30Z",
            True,
            "2026-03-29T02:00Z",
            id="Berlin, two hours over the skipped hour end at 04:00",
        ),
        pytest.param(
            window("*/30 2 * * *", "10m", "Europe/Berlin"),
            "2026-03-28T12:00Z",
            False,
            "2026-03-30T00:00Z",
            id="Berlin, a starred minute in the skipped hour waits a day",
        ),
        pytest.param(
            window("30 2 * * *", "30m", "Europe/Berlin"),
            "2026-10-25T00:45Z",
            True,
            "2026-10-25T01:00Z",
            id="Berlin, repeated 02:30 opens the first time",
        ),
        pytest.param(
            window("30 2 * * *", "30m", "Europe/Berlin"),
            "2026-10-25T01:45Z",
            False,
            "2026-10-26T01:30Z",
            id="Berlin, repeated 02:30 does not open twice",
        ),
        pytest.param(
            window("45 2 * * *", "1h", "Europe/Berlin"),
            "2026-10-25T01:30Z",
            True,
            "2026-10-25T01:45Z",
            id="Berlin, opened in the first 02:45 it is open in the second 02:30",
        ),
        pytest.param(
            window("*/30 2 * * *", "10m", "Europe/Berlin"),
            "2026-10-25T00:45Z",
            False,
            "2026-10-25T01:00Z",
            id="Berlin, a starred minute opens in both",
        ),
        pytest.param(
            window("30 2 * * *", "1h", "America/New_York"),
            "2026-03-08T07:00Z",
            True,
            "2026-03-08T08:00Z",
            id="New York, skipped 02:30 opens at 03:00",
        ),
        pytest.param(
            window("30 1 * * *", "2h", "America/New_York"),
            "2026-11-01T07:29Z",
            True,
            "2026-11-01T07:30Z",
            id="New York, two hours from the first 01:30 end at 02:30",
        ),
        pytest.param(
            window("30 1 * * *", "10m", "America/New_York"),
            "2026-11-01T06:30Z",
            False,
            "2026-11-02T06:30Z",
            id="New York, the second 01:30 does not open",
        ),
        pytest.param(
            window("15 2 * * *", "1h", "Australia/Lord_Howe"),
            "2026-10-03T15:30Z",
            True,
            "2026-10-03T16:30Z",
            id="Lord Howe, skipped 02:15 opens at 02:30",
        ),
        pytest.param(
            window("45 1 * * *", "10m", "Australia/Lord_Howe"),
            "2026-04-04T15:15Z",
            False,
            "2026-04-05T15:15Z",
            id="Lord Howe, repeated 01:45 does not open twice",
        ),
        pytest.param(
            window("*/10 5 * * *", "5m", "Australia/Lord_Howe"),
            "2026-10-03T15:00Z",
            False,
            "2026-10-03T18:00Z",
            id="Lord Howe, after the half hour 05:00 is still 05:00",
        ),
        pytest.param(
            window("0 0 * * *", "1h", "Africa/Cairo"),
            "2026-04-23T22:00Z",
            True,
            "2026-04-23T23:00Z",
            id="Cairo, skipped midnight opens at 01:00",
        ),
        pytest.param(
            window("0 12 30 12 *", "1h", "Pacific/Apia"),
            "2011-12-30T10:00Z",
            True,
            "2011-12-30T11:00Z",
            id="Apia, a skipped day opens at its end",
        ),
    ],
)
def test_clock_changes(one: Window, now: str, want_open: bool, want_change: str) -> None:
    """Skipped fixed times run after the gap, repeated ones once; a duration is elapsed time."""
    state = window_at((one,), at(now))
    assert (state.is_open, state.changes_at) == (want_open, at(want_change))


def test_a_repeated_hour_is_told_with_its_offset() -> None:
    """Where the wall clock shows an hour twice, the sentence says which of the two is meant."""
    state = window_at((window("30 1 * * *", "75m", "Europe/Berlin", "early"),), at("2026-10-25T00:00Z"))
    assert state.reason.message == "inside window 'early'; open until 2026-10-25 02:45+0200 Europe/Berlin (for 45m)"


def test_of_several_open_windows_the_longest_is_named() -> None:
    """The window that stays open longest explains best why it is open; the first of equals is named."""
    short, long, same = window("0 20 * * *", "2h"), window("0 19 * * *", "6h"), window("0 21 * * *", "4h")
    state = window_at((short, long, same), at("2026-11-21T21:30Z"))
    assert state.window == long


def test_of_windows_that_open_together_the_first_is_named() -> None:
    """Two windows that open at one instant are told in the order of the policy."""
    first, second = window("0 20 * * *", "2h", name="first"), window("0 20 * * *", "6h", name="second")
    assert window_at((first, second), at("2026-11-21T19:00Z")).window == first


def test_any_zone_of_now_gives_the_same_answer() -> None:
    """An instant is an instant, whatever zone it is written in."""
    windows = (window("0 22 * * *", "4h", "Europe/Berlin"),)
    now = at("2026-11-21T21:30Z")
    assert window_at(windows, now.astimezone(ZoneInfo("Asia/Tokyo"))) == window_at(windows, now)


def test_now_needs_a_zone() -> None:
    """A time without a zone could mean any instant."""
    with pytest.raises(ValueError, match=r"^now must have a time zone$"):
        window_at((), datetime(2026, 11, 21))  # noqa: DTZ001 - what is refused here


@pytest.mark.parametrize(
    ("one", "want_field", "want_problem"),
    [
        pytest.param(
            window("0 22 * * *", "1h", "Europe/Berlni"),
            "spec.windows[1].timeZone",
            "'Europe/Berlni' is not a time zone of the IANA database; did you mean Europe/Berlin?",
            id="a misspelt zone is answered with the near one",
        ),
        pytest.param(
            window("0 22 * * *", "1h", "europe/berlin"),
            "spec.windows[1].timeZone",
            "'europe/berlin' is not a time zone of the IANA database; did you mean Europe/Berlin?",
            id="capitals matter",
        ),
        pytest.param(
            window("0 22 * * *", "1h", "Qqqqq"),
            "spec.windows[1].timeZone",
            "'Qqqqq' is not a time zone of the IANA database, such as UTC or Europe/Berlin",
            id="nothing is near",
        ),
        pytest.param(
            window("0 0 31 2 *", "1h"),
            "spec.windows[1].cron",
            "'0 0 31 2 *' can never fire: none of its months has that day; name a day that exists, such as 28 for the "
            "last of February in every year",
            id="31 February",
        ),
        pytest.param(
            window("0 22-6 * * *", "1h"),
            "spec.windows[1].cron",
            "the range 22-6 in '0 22-6 * * *' runs backwards; write 22-23,0-6",
            id="a range over midnight",
        ),
        pytest.param(
            window("0 0 28-2 * *", "1h"),
            "spec.windows[1].cron",
            "the range 28-2 in '0 0 28-2 * *' runs backwards; write 28-31,1-2",
            id="a range over month end",
        ),
        pytest.param(
            window("50-10 0 * * *", "1h"),
            "spec.windows[1].cron",
            "the range 50-10 in '50-10 0 * * *' runs backwards; write 50-59,0-10",
            id="a range over the hour",
        ),
        pytest.param(
            window("0 0 * 11-2 *", "1h"),
            "spec.windows[1].cron",
            "the range 11-2 in '0 0 * 11-2 *' runs backwards; write 11-12,1-2",
            id="a range over new year",
        ),
        pytest.param(
            window("0 0 * * 5-1", "1h"),
            "spec.windows[1].cron",
            "the range 5-1 in '0 0 * * 5-1' runs backwards; write 5-7,0-1",
            id="a range over Sunday",
        ),
        pytest.param(
            window("60 0 * * *", "1h"),
            "spec.windows[1].cron",
            "'60 0 * * *' must be five cron fields: minute 0-59, hour 0-23, day of month 1-31, month 1-12, "
            "day of week 0-7, such as '0 22 * * 1-5' for 22:00 on weekdays",
            id="minute 60",
        ),
    ],
)
def test_what_cannot_be_read_is_named(one: Window, want_field: str, want_problem: str) -> None:
    """A wrong window is an error that says where it stands and what would be right, even if another is open."""
    with pytest.raises(InvalidInputError) as caught:
        window_at((window("0 0 * * *", "24h"), one), at("2026-11-21T12:00Z"))
    assert (caught.value.field, caught.value.problem) == (want_field, want_problem)


@pytest.mark.parametrize("cron", ["0 0 22 * * *", "0 0 L * *", "0 0 * * MON", "0 0 * * 1#2", "0 24 * * *", "0 0 0 * *"])
def test_forms_that_are_not_ours_are_refused(cron: str) -> None:
    """Seconds, names and `L`, which the library would take, are refused as the schema refuses them."""
    with pytest.raises(InvalidInputError, match="must be five cron fields"):
        window_at((window(cron, "1h"),), at("2026-11-21T12:00Z"))


@pytest.mark.parametrize("zone", ["Europe", "../etc", "/UTC"])
def test_paths_are_not_zones(zone: str) -> None:
    """A folder of the database or a path out of it is an unknown zone, not a crash."""
    with pytest.raises(InvalidInputError, match="is not a time zone of the IANA database"):
        window_at((window("0 0 * * *", "1h", zone),), at("2026-11-21T12:00Z"))


def test_an_hour_that_is_always_skipped_never_fires() -> None:
    """31 March on a Sunday is when Berlin skips 02:00: a starred minute in it has no instant in fifty years."""
    with pytest.raises(InvalidInputError) as caught:
        window_at((window("*/15 2 31 3 */7", "1h", "Europe/Berlin"),), at("2026-11-21T12:00Z"))
    assert caught.value.field == "spec.windows[0].cron"
    assert caught.value.problem == (
        "'*/15 2 31 3 */7' never fires in the next 50 years in Europe/Berlin, because the clocks skip its hour "
        "whenever its day comes; name another hour"
    )


@pytest.mark.parametrize(
    ("windows", "want_open"),
    [
        pytest.param([window("* * * * *", "168h", "Europe/Berlin")], True, id="every minute for a week"),
        pytest.param([window("* * * * *", "1m", "Europe/Berlin")] * 16, True, id="sixteen times every minute"),
        pytest.param([window("0-59 0-23 * * *", "1m", "Europe/Berlin")] * 16, True, id="the same at fixed times"),
        pytest.param([window("0 12 29 2 */6", "1h", "Europe/Berlin")], False, id="29 February at a weekend"),
    ],
)
def test_work_is_bounded(windows: list[Window], want_open: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """No policy that a user can write makes a decision long: what is looked up is counted, not timed."""
    asked: list[date] = []
    look_up = _Timetable.openings_on

    def counted(table: _Timetable, day: date) -> list[datetime]:
        asked.append(day)
        return look_up(table, day)

    monkeypatch.setattr(_Timetable, "openings_on", counted)

    state = window_at(windows, at("2026-10-25T00:30Z"))

    assert state.is_open is want_open
    assert 0 < len(asked) < 10_000


def test_an_end_too_far_away_is_a_lower_bound() -> None:
    """A window that never closes says until when it was looked at, and is looked at again then."""
    now = at("2026-11-21T12:00Z")
    state = window_at((window("* * * * *", "1m", name="always"),), now)
    assert state.changes_at == now + 4097 * MINUTE
    assert state.reason.message == "inside window 'always'; open at least until 2026-11-24 08:17 UTC (for 2d 20h)"


def test_an_end_is_looked_for_two_weeks_ahead() -> None:
    """A week-long window that opens every minute is not followed to the end of time."""
    now = at("2026-11-21T12:00Z")
    state = window_at((window("* * * * *", "168h", name="always"),), now)
    assert state.changes_at == now + timedelta(days=21)
    assert state.reason.message == "inside window 'always'; open at least until 2026-12-12 12:00 UTC (for 21d)"


def test_an_end_of_just_two_weeks_is_true() -> None:
    """Two weeks that join are told with their true end."""
    windows = (window("0 0 1 11 *", "168h", name="one"), window("0 0 8 11 *", "168h"))
    state = window_at(windows, at("2026-11-01T00:00Z"))
    assert state.reason.message == "inside window 'one'; open until 2026-11-15 00:00 UTC (for 14d)"


# --- The same by brute force: every minute of some days around a change of the clocks -------------------------------

CHANGES = {
    "Europe/Berlin": ("2026-03-29T01:00Z", "2026-10-25T01:00Z"),
    "America/New_York": ("2026-03-08T07:00Z", "2026-11-01T06:00Z"),
    "Australia/Lord_Howe": ("2026-04-04T15:00Z", "2026-10-03T15:30Z"),
    "Africa/Cairo": ("2026-04-23T22:00Z", "2026-10-29T21:00Z"),
    "Antarctica/Troll": ("2026-03-29T01:00Z", "2026-10-25T01:00Z"),
    "UTC": ("2028-02-29T00:00Z", "2026-12-31T23:00Z"),
}
BACK, AHEAD = 3 * 1440, 5 * 1440
RANGES = (range(60), range(24), range(1, 32), range(1, 13), range(8))


@cache
def clock(zone: str, change: str) -> tuple[list[datetime], list[datetime]]:
    """Every minute around a change of the clocks, and what the clock on the wall shows then."""
    instants = [at(change) + minutes * MINUTE for minutes in range(-BACK, AHEAD)]
    return instants, [instant.astimezone(ZoneInfo(zone)) for instant in instants]


def numbers(part: str, span: range) -> set[int]:
    """The numbers of one cron field."""
    found: set[int] = set()
    for item in part.split(","):
        base, _, step = item.partition("/")
        low, _, high = ("0", "", "") if base == "*" else base.partition("-")
        whole = list(span) if base == "*" else list(range(int(low), int(high or low) + 1))
        found |= set(whole[:: int(step or 1)])
    return found


def shows(cron: str) -> Callable[[datetime], bool]:
    """Tell whether the expression names what a clock shows."""
    parts = cron.split()
    minute, hour, day, month, weekday = (numbers(part, span) for part, span in zip(parts, RANGES, strict=True))
    both = "*" in (parts[2][0], parts[4][0])

    def named(wall: datetime) -> bool:
        if not (wall.minute in minute and wall.hour in hour and wall.month in month):
            return False
        by_day, by_weekday = wall.day in day, wall.isoweekday() in weekday or wall.isoweekday() % 7 in weekday
        return (by_day and by_weekday) if both else (by_day or by_weekday)

    return named


@cache
def openings(cron: str, zone: str, change: str) -> list[bool]:
    """Tell whether the window opens in each minute, by Debian's rules."""
    _, walls = clock(zone, change)
    named, starred = shows(cron), any(part.startswith("*") for part in cron.split()[:2])
    before, opens = walls[0].replace(tzinfo=None) - MINUTE, []
    for wall in walls:
        shown = wall.replace(tzinfo=None, fold=0)
        skipped = [before + k * MINUTE for k in range(1, (shown - before) // MINUTE)]
        first_time = starred or wall.fold == 0
        opens.append((first_time and named(shown)) or (not starred and any(map(named, skipped))))
        before = shown
    return opens


CRONS = st.tuples(
    st.sampled_from(["0", "30", "*/15", "*", "5,50", "10-20", "59"]),
    st.sampled_from(["*", "2", "1-3", "*/6", "0", "23", "0,1,2,3"]),
    st.sampled_from(["*", "*", "1", "29", "*/2", "23-31"]),
    st.sampled_from(["*", "3,4,10,11", "12"]),
    st.sampled_from(["*", "0", "1-5", "6,7", "*/3"]),
).map(" ".join)
MINUTES = st.sampled_from([1, 10, 15, 29, 30, 45, 60, 61, 90, 180, 600, 1439, 1440])


@settings(deadline=None, max_examples=150)
@given(data=st.data(), place=st.sampled_from([(zone, day) for zone, days in CHANGES.items() for day in days]))
def test_every_answer_is_that_of_brute_force(data: st.DataObject, place: tuple[str, str]) -> None:
    """Open or closed, and the next change, are what counting every minute gives."""
    zone, change = place
    drawn = data.draw(st.lists(st.tuples(CRONS, MINUTES), min_size=1, max_size=3))
    offset = data.draw(st.integers(BACK - 300, BACK + 300))
    seconds = data.draw(st.sampled_from([0, 1, 59]))
    instants, _ = clock(zone, change)
    is_open = [False] * len(instants)
    opens = [False] * len(instants)
    for cron, minutes in drawn:
        for index, starts in enumerate(openings(cron, zone, change)):
            if starts:
                opens[index] = True
                is_open[index : index + minutes] = [True] * len(is_open[index : index + minutes])
    later = is_open[offset + 1 :].index(False) if is_open[offset] and False in is_open[offset + 1 :] else None
    if not is_open[offset]:
        later = opens[offset + 1 :].index(True) if True in opens[offset + 1 :] else None

    state = window_at([window(cron, f"{m}m", zone) for cron, m in drawn], instants[offset] + timedelta(seconds=seconds))

    assert state.is_open is is_open[offset]
    assert state.changes_at is not None
    if "at least until" in state.reason.message:
        # Windows that join for longer than is looked ahead: a lower bound, far away, and nothing closes before it.
        assert state.changes_at - instants[offset] > timedelta(hours=20)
        assert all(
            now_open
            for now_open, instant in zip(is_open[offset:], instants[offset:], strict=True)
            if instant < state.changes_at
        )
    elif later is None:
        assert state.changes_at >= instants[-1]
    else:
        assert state.changes_at == instants[offset + 1 + later]
