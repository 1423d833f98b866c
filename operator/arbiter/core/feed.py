"""What a router tells the operator: its latest slices, in one strict and versioned JSON form.

Rule: the newest answer replaces the one before. Slices are cumulative, so nothing is lost with an answer that did
not arrive, and nothing is counted twice with one that arrived twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from arbiter.core.stored import Stored, to_json
from arbiter.core.traffic import Slice

FEED_VERSION = 1
"""Version of the JSON form of a feed; one that is not known is refused, not half understood."""


@dataclass(frozen=True, slots=True)
class Feed:
    """What one router answers at `/internal/slices`.

    Attributes:
        epoch: of the router that answered; every slice carries it too.
        read_ms: the router's own clock when it answered: a slice that ends by then is over.
        slices: the latest ones, oldest first; the one still running included.
    """

    epoch: str
    read_ms: int
    slices: tuple[Slice, ...]

    def to_text(self) -> str:
        """The JSON form."""
        slices = [each.to_fields() for each in self.slices]
        head = {"version": FEED_VERSION, "epoch": self.epoch, "readMs": self.read_ms}
        return to_json({**head, "slices": slices})

    @staticmethod
    def from_text(text: str) -> Feed:
        """Read back what `to_text` wrote.

        Raises:
            CorruptStateError: for anything else; it names the field.
        """
        stored = Stored.parse(text, "feed", FEED_VERSION)
        epoch, read_ms = stored.text("epoch"), stored.integer("readMs")
        parts = enumerate(stored.items("slices"))
        slices = tuple(Slice.read(Stored(part, f"feed.slices[{i}]"), epoch) for i, part in parts)
        stored.done()
        return Feed(epoch, read_ms, slices)
