"""Knows how many requests an endpoint held, on average, while one of them was being timed.

Rule: one multiplication when a request enters or leaves, whatever the number of requests. The router books each
timing to the `Stratum` of this mean. How many others there were at routing is not enough: on a busy side more of
them arrive during a long answer, and identical engines would differ by more than the margin.
"""

from __future__ import annotations


class Occupancy:
    """The requests in flight at one endpoint, and the area under their number over time.

    Attributes:
        in_flight: requests there now.
    """

    __slots__ = ("_area", "_changed", "in_flight")

    def __init__(self, now: float) -> None:
        """Nobody there; `now` in seconds of any steady clock."""
        self.in_flight = 0
        self._area = 0.0
        self._changed = now

    def enter(self, now: float) -> float:
        """A request arrives. Returns the mark that `others` needs later."""
        mark = self.area(now)
        self._area, self._changed = mark, now
        self.in_flight += 1
        return mark

    def leave(self, now: float) -> None:
        """A request ends."""
        self._area, self._changed = self.area(now), now
        self.in_flight -= 1

    def area(self, now: float) -> float:
        """Request-seconds since the beginning."""
        return self._area + self.in_flight * (now - self._changed)

    def others(self, mark: float, entered: float, now: float) -> int:
        """How many other requests there were while one that entered then was there, as a rounded mean."""
        if now <= entered:
            return max(0, self.in_flight - 1)
        return max(0, round((self.area(now) - mark) / (now - entered)) - 1)
