"""Decides whether a maintenance window is open, until when, or when the next one opens.

A window opens at the instants of its cron expression and stays open for its duration in elapsed time; the opening
instant belongs to it, the closing one does not. Windows that overlap or touch count as one. Cron follows Debian's
rules when the clocks change: a job at fixed times that would fall into the skipped hour runs right after it, one in
the repeated hour runs once; a job whose minute or hour begins with `*` follows the wall clock as it really goes.

cronsim reads the expression and finds its days; the instants of a day are found here, because its iteration runs
backwards over a repeated hour and leaves the whole hour in zones whose clocks change by thirty minutes. All instants
are compared in UTC: Python compares two times of one zone by their wall clocks and so mistakes the repeated hour.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from itertools import takewhile
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from arbiter.api.reasons import Reason, ReasonCode
from arbiter.api.swappolicy import CRON_HELP, CRON_SHAPE, Window
from arbiter.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)

_FURTHEST_END = timedelta(days=14)
_MOST_LOOKUPS = 4096
"""How far ahead, and over how many openings, the true end of windows that join is looked for. The count covers two
days of a window that opens every minute for a minute; an end beyond either is told as "at least", and is looked for
again then."""

_MOST_YEARS = 50
"""How far ahead an opening is looked for: 29 February on a given weekday can take 40 years (around 2100)."""

_FIELD_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
"""The lowest and highest number of each cron field."""


@dataclass(frozen=True, slots=True)
class WindowState:
    """Whether swaps may start and weights may rise.

    Attributes:
        is_open: whether they may.
        window: the one that is open (of several, the one that stays open longest), or the next to open; None without
            windows.
        changes_at: when to look again, in UTC: when the last of the joined windows closes, or when the next opens;
            None without windows.
        reason: the same as a sentence.
    """

    is_open: bool
    window: Window | None
    changes_at: datetime | None
    reason: Reason


def window_at(windows: Sequence[Window], now: datetime) -> WindowState:
    """Tell whether one of `windows` is open at `now`; without windows it always is.

    Raises:
        InvalidInputError: a time zone that does not exist, or a cron expression that cannot be read or never fires.
        ValueError: `now` has no time zone.
    """
    if now.tzinfo is None:
        raise ValueError("now must have a time zone")
    if not windows:
        return WindowState(
            is_open=True,
            window=None,
            changes_at=None,
            reason=Reason(ReasonCode.NoWindows, "the policy has no windows, so swaps may start at any time"),
        )
    instant = now.astimezone(UTC)
    timetables = [_Timetable.read(index, window) for index, window in enumerate(windows)]
    closings = [(closing, table) for table in timetables if (closing := table.closing(instant)) is not None]
    if not closings:
        return _closed(timetables, instant)
    closing, table = max(closings, key=lambda pair: pair[0])
    return _open(timetables, table, closing, instant)


def _open(timetables: list[_Timetable], table: _Timetable, closing: datetime, now: datetime) -> WindowState:
    until, is_true_end = _joined_end(timetables, closing, now + _FURTHEST_END)
    words = "until" if is_true_end else "at least until"
    return WindowState(
        is_open=True,
        window=table.window,
        changes_at=until,
        reason=Reason(
            ReasonCode.WindowOpen,
            f"inside window '{table.name}'; open {words} {table.spell(until)} (for {_spell(until - now)})",
        ),
    )


def _closed(timetables: list[_Timetable], now: datetime) -> WindowState:
    opening, table = min(((table.opening(now), table) for table in timetables), key=lambda pair: pair[0])
    return WindowState(
        is_open=False,
        window=table.window,
        changes_at=opening,
        reason=Reason(
            ReasonCode.WindowClosed,
            f"outside of all windows; '{table.name}' opens at {table.spell(opening)} (in {_spell(opening - now)})",
        ),
    )


def _joined_end(timetables: list[_Timetable], closing: datetime, furthest: datetime) -> tuple[datetime, bool]:
    """Follow windows that overlap or touch to the end of the last; False if that is further than is looked."""
    for _ in range(_MOST_LOOKUPS // len(timetables)):
        ends = (table.closing(closing) for table in timetables)
        later = max((end for end in ends if end is not None), default=None)
        if later is None:
            return closing, True
        if later > furthest:
            return later, False
        closing = later
    return closing, False


@dataclass(frozen=True, slots=True)
class _Timetable:
    """A window that can be asked for its instants.

    Attributes:
        index: its place in `spec.windows`.
        window: as the user wrote it.
        zone: its time zone.
        cron: its expression, read; its time never moves.
        known: the openings of days that were asked for. It lives as long as one decision.
    """

    index: int
    window: Window
    zone: ZoneInfo
    cron: CronSim
    known: dict[date, list[datetime]] = field(default_factory=dict)

    @classmethod
    def read(cls, index: int, window: Window) -> _Timetable:
        """Read the expression and the zone, or say which of them is wrong and what would be right."""
        return cls(
            index,
            window,
            _read_zone(window.time_zone, f"spec.windows[{index}].timeZone"),
            _read_cron(window.cron, f"spec.windows[{index}].cron"),
        )

    @property
    def name(self) -> str:
        """What the window is called in messages."""
        return self.window.name or self.window.cron

    def spell(self, instant: datetime) -> str:
        """Write an instant as people in the window's zone do, with UTC's offset where the hour comes twice."""
        local = instant.astimezone(self.zone)
        twice = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
        return f"{local:%Y-%m-%d %H:%M}{f'{local:%z}' if twice else ''} {self.window.time_zone}"

    def closing(self, instant: datetime) -> datetime | None:
        """When the opening nearest before `instant` (or at it) closes; None if it has closed by then.

        All openings last equally long, so the nearest is the last to close, and only those within one duration count:
        the search never goes further back than that.
        """
        day = instant.astimezone(self.zone).date() + _DAY
        earliest = (instant - self.window.duration.value).astimezone(self.zone).date() - _DAY
        while day >= earliest:
            openings = self.openings_on(day)
            position = bisect_right(openings, instant)
            if position:
                closing = openings[position - 1] + self.window.duration.value
                return closing if closing > instant else None
            day -= _DAY
        return None

    def opening(self, after: datetime) -> datetime:
        """The first opening later than `after`."""
        today = after.astimezone(self.zone).date()
        for day in self._days(today - _DAY, today.year + _MOST_YEARS):
            openings = self.openings_on(day)
            position = bisect_right(openings, after)
            if position < len(openings):
                return openings[position]
        raise InvalidInputError(
            f"spec.windows[{self.index}].cron",
            f"'{self.window.cron}' never fires in the next {_MOST_YEARS} years in {self.window.time_zone}, because "
            "the clocks skip its hour whenever its day comes; name another hour",
        )

    def openings_on(self, day: date) -> list[datetime]:
        """The instants at which the window opens on one day of its zone, in order."""
        if day not in self.known:
            self.known[day] = self._find_openings(day) if self._names(day) else []
        return self.known[day]

    def _names(self, day: date) -> bool:
        """Whether month, day of month and day of week name this day."""
        return day.month in self.cron.months and self.cron.match_day(day)

    def _days(self, first: date, last_year: int) -> Iterator[date]:
        """The days that the expression names, from `first` on; cronsim skips the months that it does not name."""
        midnights = " ".join(("0 0", *self.window.cron.split()[2:]))
        moments = CronSim(midnights, datetime.combine(first - _DAY, time(23, 59)))
        return takewhile(lambda day: day.year <= last_year, (moment.date() for moment in moments))

    def _find_openings(self, day: date) -> list[datetime]:
        walls = [
            datetime.combine(day, time(hour, minute))
            for hour in sorted(self.cron.hours)
            for minute in sorted(self.cron.minutes)
        ]
        offset, later = (
            datetime.combine(midnight, time(), tzinfo=self.zone).utcoffset() for midnight in (day, day + _DAY)
        )
        if offset is not None and offset == later:  # the clocks do not change on this day
            return [wall.replace(tzinfo=UTC) - offset for wall in walls]
        if any(part.startswith("*") for part in self.window.cron.split()[:2]):
            return sorted({instant for wall in walls for instant in _instants(wall, self.zone)})
        return sorted({_first_instant(wall, self.zone) for wall in walls})


def _instants(wall: datetime, zone: ZoneInfo) -> list[datetime]:
    """The instants at which clocks in `zone` show `wall`: none if they skip it, two if they show it twice."""
    found = []
    for fold in (0, 1):
        instant = wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)
        if instant.astimezone(zone).replace(tzinfo=None, fold=0) == wall:
            found.append(instant)
    return found


def _first_instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first instant at which clocks in `zone` show `wall`, or the end of the gap if they skip it."""
    while not (instants := _instants(wall, zone)):
        wall += _MINUTE
    return instants[0]


def _read_cron(cron: str, where: str) -> CronSim:
    """Read five fields; the seconds, names, `L` and `#` that cronsim would take are not ours."""
    if re.fullmatch(CRON_SHAPE, cron) is None:
        raise InvalidInputError(where, f"'{cron}' {CRON_HELP}")
    for part, (lowest, highest) in zip(cron.split(), _FIELD_RANGES, strict=True):
        for start, end in re.findall(r"(\d+)-(\d+)", part):
            if int(start) > int(end):
                raise InvalidInputError(
                    where,
                    f"the range {start}-{end} in '{cron}' runs backwards; write {start}-{highest},{lowest}-{end}",
                )
    try:
        return CronSim(cron, datetime(2000, 1, 1))  # noqa: DTZ001 - only asked for its fields, which have no zone
    except CronSimError:
        raise InvalidInputError(
            where,
            f"'{cron}' can never fire: none of its months has that day; name a day that exists, such as 28 for the "
            "last of February in every year",
        ) from None


def _read_zone(name: str, where: str) -> ZoneInfo:
    """Find a time zone.

    zoneinfo reads its data files, from the system or from the package `tzdata`, and keeps what it read: data that
    comes with the program, as its code does.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # OSError: a folder of the database, such as Europe
        known = {zone.casefold(): zone for zone in sorted(available_timezones())}
        near = get_close_matches(name.casefold(), known, n=1)
        hint = f"; did you mean {known[near[0]]}?" if near else ", such as UTC or Europe/Berlin"
        raise InvalidInputError(where, f"'{name}' is not a time zone of the IANA database{hint}") from None


def _spell(span: timedelta) -> str:
    """Write a length of time with its two largest units, rounded up to the second: `6d 4h`, `3h 12m`, `12m`, `45s`."""
    seconds = -(-span // timedelta(seconds=1))
    units = (("d", seconds // 86400), ("h", seconds // 3600 % 24), ("m", seconds // 60 % 60), ("s", seconds % 60))
    first = next(index for index, (_, count) in enumerate(units) if count)
    return " ".join(f"{count}{unit}" for unit, count in units[first : first + 2] if count)
