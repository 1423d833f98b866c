"""The router's books: every attempt counted once, in the slice in which it was sent, for the operator's feed.

Rule: `Ledger.route` opens an entry and the first `Entry.finish` closes it; a second one changes nothing, because a
client that leaves and a server that breaks may be noticed in the same moment. A retry on another side is another
entry: the failure stays with the side that failed.

What is timed: the first token of streams; the mean of the further tokens; the whole, for what was answered or left
by its client. A client that leaves counts as at least that long, and where no first token had come, its wait counts
as one. Failures and rejections are counted and not timed: an engine that refuses at once is not fast.

Times come in as seconds of the loop's clock. Slices are on the wall clock, which `tick` compares now and then.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from arbiter.core.feed import FEED_VERSION, Feed
from arbiter.core.stored import to_json
from arbiter.core.tally_recorder import TallyRecorder
from arbiter.core.traffic import Cause, Side, Slice, Stratum
from arbiter.router.metric_families import FALLBACKS
from arbiter.router.metrics import Series

if TYPE_CHECKING:
    from collections.abc import Iterator

    from arbiter.core.routes import Backend, RouteTable
    from arbiter.router.metrics import Meter

KEPT: Final = 40
"""Slice times that the feed holds: ten minutes of 15 s, more than the operator's deadline for open requests."""

_STRATA: Final = tuple(Stratum)


class Outcome(StrEnum):
    """How an attempt ended without failing; failures end with their `Cause`."""

    OK = "ok"
    REJECTED = "4xx"
    LEFT = "client-left"


Ending = Outcome | Cause
"""How an attempt ended."""

_OK, _LEFT, _REJECTED = Outcome.OK, Outcome.LEFT, Outcome.REJECTED
_ERROR_TYPES: Final[dict[Ending, str]] = {_OK: "", **{each: each.value for each in (_LEFT, _REJECTED, *Cause)}}


class Page:
    """The open book of one task in one slice; a slice of it is frozen only when something changed."""

    __slots__ = ("_frozen", "_text", "books", "epoch", "generation", "length_ms", "start_ms", "task", "told")

    def __init__(self, epoch: str, generation: int, task: str, start_ms: int, length_ms: int) -> None:
        self.epoch = epoch
        self.generation = generation
        self.task = task
        self.start_ms = start_ms
        self.length_ms = length_ms
        self.books: dict[Side, TallyRecorder] = {}
        self._frozen: Slice | None = None
        self._text: tuple[Slice, str] | None = None
        self.told: Slice | None = None

    def book(self, side: Side) -> TallyRecorder:
        """The book of a side; an empty one at first."""
        if side not in self.books:
            self.books[side] = TallyRecorder()
            self._frozen = None
        return self.books[side]

    def touch(self) -> None:
        """Something was booked."""
        self._frozen = None

    def freeze(self) -> Slice:
        """The counts so far; the same object as long as nothing was booked."""
        if self._frozen is None:
            sides = {side: book.freeze() for side, book in self.books.items()}
            self._frozen = Slice(self.epoch, self.generation, self.task, self.start_ms, self.length_ms, sides)
        return self._frozen

    def text_of(self, frozen: Slice) -> str:
        """The JSON form of what `freeze` gave; kept, because most slices of a feed are long over."""
        if self._text is None or self._text[0] is not frozen:
            self._text = (frozen, to_json(frozen.to_fields()))
        return self._text[1]


class Entry:
    """One attempt at one side, from sending it until it ended."""

    __slots__ = ("_book", "_first_at", "_page", "_series", "_stream", "ended", "routed_at")

    def __init__(self, page: Page, book: TallyRecorder, series: Series, now: float, *, stream: bool) -> None:
        """Made by `Ledger.route`, which counts it as routed."""
        self._page = page
        self._book = book
        self._series = series
        self._stream = stream
        self._first_at = -1.0
        self.routed_at = now
        self.ended = False

    def first_token(self, now: float, others: int) -> None:
        """The first token of a stream passed; only the first call counts.

        Args:
            now: seconds of the loop's clock.
            others: what `Occupancy.others` says for the time since routing.
        """
        if self._first_at >= 0.0 or self.ended:
            return
        self._first_at = now
        seconds = now - self.routed_at
        self._book.first_token[_STRATA[min(others.bit_length(), 4)]].add(seconds)
        self._series.first_token.add(seconds)
        self._page.touch()

    def finish(self, ending: Ending, now: float, others: int, tokens_in: int = 0, tokens_out: int = 0) -> bool:
        """The attempt ended. Returns whether this was the first ending, which is the one that counts.

        Args:
            ending: how.
            now: seconds of the loop's clock.
            others: what `Occupancy.others` says for the time since routing.
            tokens_in: tokens read, as far as known.
            tokens_out: tokens written, as far as known.
        """
        if self.ended:
            return False
        self.ended = True
        self._page.touch()
        book, series = self._book, self._series
        seconds = now - self.routed_at
        if ending is _OK:
            book.ok += 1
            self._time(seconds, now, others, tokens_out)
        elif ending is _LEFT:
            book.left += 1
            self._time(seconds, now, others, tokens_out)
            if self._stream and self._first_at < 0.0:
                book.first_token[_STRATA[min(others.bit_length(), 4)]].add(seconds)
        elif ending is _REJECTED:
            book.rejected += 1
        else:
            book.failed[ending] += 1  # type: ignore[index]  # every other ending is a Cause
        if tokens_in or tokens_out:
            book.input_tokens += tokens_in
            book.output_tokens += tokens_out
            series.input.add(tokens_in)
            series.output.add(tokens_out)
        series.end(_ERROR_TYPES[ending], seconds)
        return True

    def _time(self, seconds: float, now: float, others: int, tokens_out: int) -> None:
        stratum = _STRATA[min(others.bit_length(), 4)]
        self._book.total[stratum].add(seconds)
        if self._first_at >= 0.0 and tokens_out > 1:
            pace = (now - self._first_at) / (tokens_out - 1)
            self._book.per_token[stratum].add(pace)
            self._series.per_token.add(pace)


class Reading(NamedTuple):
    """The pages to read, oldest first, and the moment of the wall clock up to which they are complete.

    Each page may be frozen a little later: nothing is routed to a slice that was over by then, and counts only grow.
    """

    read_ms: int
    pages: tuple[Page, ...]


class Ledger:
    """The running books of one process: slices of wall-clock time for every task and side of the table."""

    def __init__(self, epoch: str, meter: Meter, now: float, unix_ms: float) -> None:
        """Open the books.

        Args:
            epoch: which life of which router: pod uid and process start.
            meter: where the same attempts are counted for Prometheus.
            now: seconds of the loop's clock.
            unix_ms: the wall clock at that moment.
        """
        self.epoch = epoch
        self._meter = meter
        self._zero_ms = unix_ms - now * 1000.0
        self._table: RouteTable | None = None
        self._length_ms = 0
        self._start_ms = 0
        self._turns_at = float("inf")
        self._open: dict[tuple[str, Side], tuple[Page, TallyRecorder]] = {}
        self._series: dict[tuple[str, Side, str], Series] = {}
        self._times: deque[list[Page]] = deque(maxlen=KEPT)

    def obey(self, table: RouteTable, now: float) -> None:
        """Book under this table from now on. A slice that is running ends here and another of the same start begins."""
        self._turn(now)
        self._table = table
        self._series.clear()
        if table.slice_ms != self._length_ms:
            self._length_ms = table.slice_ms
            self._begin(self._slice_start(now))
        self._open_pages()
        models = {task.name: {backend.model for backend in task.backends} for task in table.tasks.values()}
        self._meter.retain(models, now)

    def tick(self, now: float, unix_ms: float) -> None:
        """Look at the wall clock, and open the slices that are due although no request came; call it every second.

        A clock that was set back leaves the running slice running until its time has come again: a slice that was
        over never opens anew.
        """
        self._zero_ms = unix_ms - now * 1000.0
        self._plan_turn()
        self._turn(now)

    def route(self, task: str, side: Side, now: float, operation: str = "chat", *, stream: bool = True) -> Entry:
        """An attempt is sent to a side.

        Args:
            task: a task of the table.
            side: a side of it.
            now: seconds of the loop's clock.
            operation: what OpenTelemetry calls it: `chat`, `text_completion` or `embeddings`.
            stream: whether the answer streams, so that its first token can be timed.
        """
        if now >= self._turns_at:
            self._turn(now)
        found = self._open.get((task, side))
        page, book = found or self._open_late(task, side)
        series = self._series.get((task, side, operation)) or self._find_series(task, side, operation)
        book.routed += 1
        page.touch()
        series.begin()
        return Entry(page, book, series, now, stream=stream)

    def route_fallback(
        self, task: str, backend: Backend, now: float, operation: str = "chat", *, stream: bool = True
    ) -> Entry:
        """An attempt is sent to a model of the fallback list: for Prometheus only, since it is evidence for no side."""
        self._meter.count(FALLBACKS, (task, backend.model))
        labels = (task, backend.model, "fallback", backend.engine.value.lower(), operation)
        series = Series(self._meter, labels)
        series.begin()
        page = Page(self.epoch, 0, task, 0, 1)
        return Entry(page, page.book(Side.OLD), series, now, stream=stream)

    def read(self, now: float) -> Reading:
        """All pages that are kept."""
        self._turn(now)
        read_ms = int(self._zero_ms + now * 1000.0)
        return Reading(read_ms, tuple(page for pages in self._times for page in pages))

    def feed(self, now: float) -> Feed:
        """The same as the operator reads it."""
        reading = self.read(now)
        return Feed(self.epoch, reading.read_ms, tuple(page.freeze() for page in reading.pages))

    def feed_text(self, now: float) -> Iterator[str]:
        """`feed(now).to_text()` in pieces, so that a caller can pause between."""
        reading = self.read(now)
        head = to_json({"version": FEED_VERSION, "epoch": self.epoch, "readMs": reading.read_ms})
        yield f'{head[:-1]},"slices":['
        comma = ""
        for page in reading.pages:
            yield comma + page.text_of(page.freeze())
            comma = ","
        yield "]}"

    def _slice_start(self, now: float) -> int:
        at_ms = int(self._zero_ms + now * 1000.0)
        return at_ms - at_ms % self._length_ms

    def _plan_turn(self) -> None:
        if self._length_ms:
            self._turns_at = (self._start_ms + self._length_ms - self._zero_ms) / 1000.0

    def _turn(self, now: float) -> None:
        """Open every slice time that began since: one without requests says so, which is not the same as silence."""
        if now < self._turns_at:
            return
        newest, length = self._slice_start(now), self._length_ms
        for start in range(max(self._start_ms + length, newest - KEPT * length), newest + 1, length):
            self._begin(start)
            self._open_pages()

    def _begin(self, start_ms: int) -> None:
        self._start_ms = start_ms
        self._times.append([])
        self._plan_turn()

    def _open_pages(self) -> None:
        """A page for every task of the table, with a book for every side, in the slice that is running."""
        self._open.clear()
        if self._table is not None:
            for task in self._table.tasks.values():
                for target in task.targets:
                    self._open_late(task.name, target.side)

    def _open_late(self, task: str, side: Side) -> tuple[Page, TallyRecorder]:
        generation = self._table.generation if self._table else 0
        pages = self._times[-1]
        page = next((each for each in pages if each.task == task and each.generation == generation), None)
        if page is None:
            page = Page(self.epoch, generation, task, self._start_ms, self._length_ms)
            pages.append(page)
        self._open[task, side] = found = (page, page.book(side))
        return found

    def _find_series(self, task: str, side: Side, operation: str) -> Series:
        targets = self._table.tasks[task].targets if self._table and task in self._table.tasks else ()
        backend = next((target.backend for target in targets if target.side is side), None)
        model, provider = (backend.model, backend.engine.value.lower()) if backend else ("", "")
        series = Series(self._meter, (task, model, side.value, provider, operation))
        self._series[task, side, operation] = series
        return series
