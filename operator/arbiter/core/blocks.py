"""Joins the slices of all routers of a pool into blocks: the observations that evidence is made of.

A block closes at the first slice boundary at which it is long enough and both sides have enough requests. That is
a rule on counts, never on outcomes, so closing cannot favour a side. A slice is taken only when all its requests
have ended or their deadline has passed. What is missing, from a table not judged yet or from another life of a router
is skipped and counted as a gap: a block never contains a guess. Time under an earlier table is over rather than
lost, so it is skipped without a gap; else every new step would look like a source that fell silent.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from arbiter.core.stored import Stored, to_json
from arbiter.core.traffic import Side, Tally

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arbiter.core.feed import Feed
    from arbiter.core.traffic import Slice

CURSOR_VERSION = 1
"""Version of the stored form of a cursor."""


@dataclass(frozen=True, slots=True)
class BlockRules:
    """When a block closes. Test policies may shorten the times, never the counts.

    Attributes:
        min_length_ms: shortest block, 60 s.
        min_requests: fewest requests routed to each side, 5: an arm without requests proves nothing.
        deadline_ms: 300 s after its end a slice is taken as it is, and open requests have failed by timeout. It
            must be shorter than what a feed keeps (40 slices of 15 s).
    """

    min_length_ms: int = 60_000
    min_requests: int = 5
    deadline_ms: int = 300_000


@dataclass(frozen=True, slots=True)
class Block:
    """Both sides during the same time, under the same routing table."""

    start_ms: int
    end_ms: int
    generation: int
    old: Tally
    new: Tally

    def joined(self, slices: tuple[Slice, ...]) -> Block:
        """This block and the slices of all routers for the next slice time; what is still open has expired."""
        return replace(
            self,
            end_ms=slices[0].end_ms,
            old=Tally.merged((self.old, *(each.side(Side.OLD).expired() for each in slices))),
            new=Tally.merged((self.new, *(each.side(Side.NEW).expired() for each in slices))),
        )

    def is_closed(self, rules: BlockRules) -> bool:
        """Whether it is long enough and has enough requests on both sides."""
        fewest = min(self.old.routed, self.new.routed)
        return self.end_ms - self.start_ms >= rules.min_length_ms and fewest >= rules.min_requests


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far the slices of a task are consumed; written together with the evidence, in one write.

    Attributes:
        task: whose slices are consumed.
        consumed_to_ms: slices that start before are consumed or skipped.
        epochs: by router name, the life that the open block counts.
        open_block: what was consumed and is not closed yet. Routers keep slices for minutes only, and a quiet
            pool needs longer for a block, so the part in hand must be kept.
        gaps: how many blocks' worth of time was skipped so far.
        hole_ms: where the hole that is being skipped began, if one is.
    """

    task: str
    consumed_to_ms: int
    epochs: Mapping[str, str] = field(default_factory=dict)
    open_block: Block | None = None
    gaps: int = 0
    hole_ms: int | None = None

    def to_text(self) -> str:
        """The stored form."""
        block = self.open_block
        fields: dict[str, object] = {
            "version": CURSOR_VERSION,
            "task": self.task,
            "consumedToMs": self.consumed_to_ms,
            "epochs": dict(sorted(self.epochs.items())),
            "gaps": self.gaps,
            "holeMs": [] if self.hole_ms is None else [self.hole_ms],
            "block": [],
        }
        if block:
            times = [block.start_ms, block.end_ms, block.generation]
            fields["block"] = [{"times": times, "old": block.old.to_fields(), "new": block.new.to_fields()}]
        return to_json(fields)

    @staticmethod
    def from_text(text: str) -> Cursor:
        """Read back what `to_text` wrote.

        Raises:
            CorruptStateError: for anything else; it names the field.
        """
        stored = Stored.parse(text, "cursor", CURSOR_VERSION)
        named = stored.child("epochs")
        epochs = {router: named.text(router) for router in named.names()}
        hole = stored.items("holeMs")
        block = stored.items("block")
        cursor = Cursor(
            task=stored.text("task"),
            consumed_to_ms=stored.integer("consumedToMs"),
            epochs=epochs,
            open_block=_read_block(Stored(block[0], "cursor.block")) if block else None,
            gaps=stored.integer("gaps"),
            hole_ms=Stored({"holeMs": hole[0]}, "cursor").integer("holeMs") if hole else None,
        )
        stored.done()
        return cursor


@dataclass(frozen=True, slots=True)
class Progress:
    """What one look at the feeds gave.

    Attributes:
        cursor: to be stored, and to look from next time.
        block: the next closed block; look again at once, there may be another.
        missing: without a block, what is waited for, as part of a sentence.
    """

    cursor: Cursor
    block: Block | None
    missing: str = ""


def next_block(
    feeds: Mapping[str, Feed | None], generation: int, cursor: Cursor, now_ms: int, rules: BlockRules
) -> Progress:
    """Consume slices until a block closes or something is missing.

    Args:
        feeds: the latest feed of every live router by name; None for one that could not be read.
        generation: of the table whose weights are being judged.
        cursor: where the last look ended.
        now_ms: the operator's clock.
        rules: when a block closes.
    """
    cursor = _with_table(_with_routers(cursor, feeds), generation)
    while (span := _next_span(feeds, cursor)) is not None:
        start_ms, end_ms = span
        if start_ms - cursor.consumed_to_ms >= end_ms - start_ms:
            cursor = _skipped(cursor, cursor.consumed_to_ms, start_ms, rules)
        overdue = now_ms >= end_ms + rules.deadline_ms
        if (missing := _missing(feeds, end_ms)) and not overdue:
            return Progress(cursor, None, missing)
        slices = _matching(feeds, (cursor.task, generation, *span))
        if len(slices) < len(feeds):
            is_over = _is_of_earlier_table(feeds, generation, cursor.task, start_ms)
            cursor = _passed(cursor, end_ms) if is_over else _skipped(cursor, start_ms, end_ms, rules)
            continue
        if not overdue and not all(each.finished for each in slices):
            return Progress(cursor, None, "requests routed in the next slice are still running")
        block = _continued(cursor.open_block, slices, generation)
        cursor = replace(cursor, consumed_to_ms=end_ms, open_block=block, hole_ms=None)
        if block.is_closed(rules):
            return Progress(replace(cursor, open_block=None), block)
    return Progress(cursor, None, "every slice that was read is consumed")


def _with_routers(cursor: Cursor, feeds: Mapping[str, Feed | None]) -> Cursor:
    """Drop the open block when a router came, went or was restarted: its counts do not simply go on."""
    epochs = {name: feed.epoch if feed else cursor.epochs.get(name, "") for name, feed in feeds.items()}
    if epochs == cursor.epochs:
        return cursor
    gap = 1 if cursor.open_block else 0
    return replace(cursor, epochs=epochs, open_block=None, gaps=cursor.gaps + gap)


def _with_table(cursor: Cursor, generation: int) -> Cursor:
    """Drop the open block when the table changed: it was collected under other weights."""
    if cursor.open_block is None or cursor.open_block.generation == generation:
        return cursor
    gap = 1 if cursor.open_block.generation > generation else 0
    return replace(cursor, open_block=None, gaps=cursor.gaps + gap)


def _next_span(feeds: Mapping[str, Feed | None], cursor: Cursor) -> tuple[int, int] | None:
    """Start and end of the earliest slice that any router has and that is not consumed."""
    slices = (each for feed in feeds.values() if feed for each in feed.slices)
    spans = ((each.start_ms, each.end_ms) for each in slices if each.task == cursor.task)
    return min((span for span in spans if span[0] >= cursor.consumed_to_ms), default=None)


def _missing(feeds: Mapping[str, Feed | None], end_ms: int) -> str:
    """Which routers have not told of a slice time up to its end."""
    late = sorted(name for name, feed in feeds.items() if feed is None or feed.read_ms < end_ms)
    return f"no counts yet from {', '.join(late)}" if late else ""


def _matching(feeds: Mapping[str, Feed | None], wanted: tuple[str, int, int, int]) -> tuple[Slice, ...]:
    """The slices of that task, generation, start and end, of the routers whose slice is over."""
    told = (feed for feed in feeds.values() if feed and feed.read_ms >= wanted[3])
    slices = (each for feed in told for each in feed.slices)
    return tuple(each for each in slices if (each.task, each.generation, each.start_ms, each.end_ms) == wanted)


def _is_of_earlier_table(feeds: Mapping[str, Feed | None], generation: int, task: str, start_ms: int) -> bool:
    """Whether a router still obeyed an earlier table during that slice time."""
    slices = (each for feed in feeds.values() if feed for each in feed.slices)
    return any(each.generation < generation for each in slices if (each.task, each.start_ms) == (task, start_ms))


def _passed(cursor: Cursor, end_ms: int) -> Cursor:
    """Pass over a slice time that nobody judges any more."""
    return replace(cursor, consumed_to_ms=end_ms, open_block=None, hole_ms=None)


def _skipped(cursor: Cursor, start_ms: int, end_ms: int, rules: BlockRules) -> Cursor:
    """Pass over a slice time, and lose the open block with it.

    One hole counts as one gap for each shortest block that it spans, so that "silent for five blocks" means the
    same whether slices are long or short.
    """
    open_from = cursor.open_block.start_ms if cursor.open_block else start_ms
    hole_ms = open_from if cursor.hole_ms is None else cursor.hole_ms
    before = 0 if cursor.hole_ms is None else _blocks_begun(start_ms - hole_ms, rules)
    gaps = cursor.gaps + _blocks_begun(end_ms - hole_ms, rules) - before
    return replace(cursor, consumed_to_ms=end_ms, open_block=None, gaps=gaps, hole_ms=hole_ms)


def _blocks_begun(span_ms: int, rules: BlockRules) -> int:
    return -(-span_ms // rules.min_length_ms)


def _continued(block: Block | None, slices: tuple[Slice, ...], generation: int) -> Block:
    """The open block, or a new one, with one more slice time."""
    if block is None:
        start_ms = slices[0].start_ms
        block = Block(start_ms, start_ms, generation, Tally(), Tally())
    return block.joined(slices)


def _read_block(stored: Stored) -> Block:
    start_ms, end_ms, generation = stored.integers("times", 3)
    old, new = Tally.read(stored.child("old")), Tally.read(stored.child("new"))
    stored.done()
    return Block(start_ms, end_ms, generation, old, new)
