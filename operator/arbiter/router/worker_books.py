"""The books of several worker processes as those of one router: added up, and honest about a worker that died.

A worker tells the slices and metrics that changed, each replacing what it told before, so any message may come late
and none is counted twice. A slice is over for the router when it is over for the slowest worker.

When a worker dies, its counts do not vanish silently, and none are invented. Slices in which everything it had routed
was over and told stay in the feed, merged. Those that were running, or in which it had open requests, are withheld
for the whole router from then on: the operator finds a hole, skips it, drops the open block and counts a gap, as it
does for a router that restarted. Keeping them would show the open requests as timeouts of an engine five minutes
later, and the requests of the last second as if nobody had sent them. In Prometheus all that it told stays, and the
requests that were running are counted in `arbiter_router_lost_requests_total`.
"""

from __future__ import annotations

from arbiter.core.feed import Feed
from arbiter.core.stored import Stored
from arbiter.core.traffic import Slice
from arbiter.errors import CorruptStateError
from arbiter.router.accounting import KEPT
from arbiter.router.admin import Acknowledgement, Standing
from arbiter.router.metric_families import LOST, WORKER_EXITS, WORKERS
from arbiter.router.metrics import Meter

Key = tuple[int, int, int, str]
"""Which slice: start and length in milliseconds, generation, task."""


class Share:
    """What one worker told in one life."""

    __slots__ = ("asked", "meter", "read_ms", "slices", "standing")

    def __init__(self, since_ms: int) -> None:
        """Nothing told yet; `since_ms` is when it was started."""
        self.slices: dict[Key, Slice] = {}
        self.meter = Meter()
        self.standing: Standing | None = None
        self.read_ms = since_ms
        self.asked = 0


class Merged:
    """The books of all workers, as one router's. Times are milliseconds of the wall clock."""

    def __init__(self, epoch: str) -> None:
        """Nobody there; the workers must be given the same epoch."""
        self.epoch = epoch
        self.meter = Meter()
        self._shares: dict[int, Share] = {}
        self._past: dict[Key, Slice] = {}
        self._past_meter = Meter()
        self._withheld: set[Key] = set()
        self._holes: list[tuple[int, int]] = []
        self._joined: dict[Key, Slice] = {}

    def join(self, worker: int, now_ms: int) -> None:
        """A worker is being started. Until it tells something, no slice is over."""
        self._shares[worker] = Share(now_ms)

    def take(self, worker: int, message: Stored) -> None:
        """Take over one message of a worker.

        Raises:
            CorruptStateError: it has another form.
        """
        share = self._shares[worker]
        match message.text("kind"):
            case "slices":
                for fields in message.items("slices"):
                    told = Slice.read(Stored(fields, "worker.slice"), self.epoch)
                    share.slices[_key(told)] = told
                    self._joined.pop(_key(told), None)
            case "metrics":
                share.meter.apply(message.items("changes"))
            case "told":
                share.read_ms, share.asked = message.integer("readMs"), message.integer("ask")
                share.standing = Standing.read(message.child("standing"), share.meter)
                self._forget(share.slices)
            case other:
                raise CorruptStateError(f"a worker told something unknown: {other[:40]!r}")
        message.done()

    def leave(self, worker: int, now_ms: int, *, told_all: bool) -> int:
        """A worker ended. Returns how many of its attempts were running, as far as it had told.

        Args:
            worker: which.
            now_ms: when it was noticed.
            told_all: whether it ended in order: all its requests over, and told.
        """
        share = self._shares.pop(worker)
        lost = 0
        for key, each in share.slices.items():
            for side, tally in each.sides.items():
                if tally.open:
                    lost += tally.open
                    self._past_meter.count(LOST, (each.task, side.value), tally.open)
            if each.finished and (told_all or each.end_ms <= share.read_ms):
                self._past[key] = self._past[key].merge(each) if key in self._past else each
            else:
                self._withheld.add(key)
        if not told_all:
            self._holes.append((share.read_ms, now_ms))
            self._past_meter.count(WORKER_EXITS)
        self._past_meter.absorb(share.meter, alive=False)
        self._joined.clear()
        return lost

    def answered(self, ask: int) -> bool:
        """Whether every worker told what was asked for with that number."""
        return all(share.asked >= ask for share in self._shares.values())

    def feed(self, now_ms: int) -> Feed:
        """The operator's feed: up to where the slowest worker has told."""
        parts = [self._past, *(share.slices for share in self._shares.values())]
        keys = {key for part in parts for key in part}
        kept = set(sorted({key[:2] for key in keys})[-KEPT:])
        self._forget(self._past)
        read_ms = min((share.read_ms for share in self._shares.values()), default=now_ms)
        shown = sorted(key for key in keys if key[:2] in kept and not self._is_withheld(key))
        return Feed(self.epoch, read_ms, tuple(self._join(key, parts) for key in shown))

    def metrics(self) -> Meter:
        """All metrics added up, those of the parent and of workers long dead included."""
        total = Meter()
        total.absorb(self.meter)
        total.absorb(self._past_meter)
        for share in self._shares.values():
            total.absorb(share.meter)
        total.set(WORKERS, (), len(self._shares))
        total.count(WORKER_EXITS, (), 0)
        return total

    def retain(self, models: dict[str, set[str]], now: float) -> None:
        """Forget the metrics of what left the table, in the parent's own books."""
        self.meter.retain(models, now)
        self._past_meter.retain(models, now)

    def acknowledgement(self) -> Acknowledgement:
        """Which table all workers obey."""
        return Acknowledgement.of(self.epoch, [share.standing for share in self._shares.values()])

    def missing(self) -> str:
        """Why the router should get no requests: empty as soon as one worker can serve."""
        standings = [share.standing for share in self._shares.values()]
        reasons = [standing.missing if standing else "its workers are starting" for standing in standings]
        return min(reasons, default="it has no workers", key=bool)

    def _join(self, key: Key, parts: list[dict[Key, Slice]]) -> Slice:
        joined = self._joined.get(key)
        if joined is None:
            first, *rest = (part[key] for part in parts if key in part)
            for each in rest:
                first = first.merge(each)
            joined = self._joined[key] = first
        return joined

    def _is_withheld(self, key: Key) -> bool:
        start, end = key[0], key[0] + key[1]
        return key in self._withheld or any(end > since and start <= until for since, until in self._holes)

    def _forget(self, slices: dict[Key, Slice]) -> None:
        """Drop slice times that no feed shows any more, and what was noted about them."""
        times = sorted({key[:2] for key in slices})
        if len(times) <= KEPT:
            return
        oldest = times[-KEPT][0]
        for key in [key for key in slices if key[0] < oldest]:
            del slices[key]
            self._joined.pop(key, None)
        self._withheld = {key for key in self._withheld if key[0] >= oldest}
        self._holes = [hole for hole in self._holes if hole[1] >= oldest]


def _key(each: Slice) -> Key:
    return (each.start_ms, each.length_ms, each.generation, each.task)
