"""Counts for Prometheus: the values of every metric, and the text that is scraped.

Rule: counting touches one dictionary or one list and makes no text; text is made when somebody asks, in pieces, so
that the loop which relays streams is never held up by a scrape. Label sets are bounded by the table: a task or
model that left it is forgotten an hour later. What the metrics mean is said in `metric_families`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from arbiter.core.histogram import Histogram
from arbiter.errors import CorruptStateError
from arbiter.router.metric_families import (
    DURATION,
    FAMILIES,
    FIRST_TOKEN,
    IN_FLIGHT,
    PER_TOKEN,
    TOKENS,
    Family,
    Kind,
    Scope,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text form, which every version of it reads."""

FORGET_S: Final = 3600.0
"""Seconds for which the values of a task or model that left the table are still shown: the longest request."""

Labels = tuple[str, ...]
"""The values of a metric's labels, in its order."""

_BY_NAME: Final = {family.name: family for family in FAMILIES}


class TokenCounts:
    """How many attempts used up to 1, 4, 16, … tokens, and how many tokens that were."""

    __slots__ = ("buckets", "sum")

    def __init__(self, buckets: Iterable[int] = (), total: int = 0) -> None:
        self.buckets = list(buckets) or [0] * (len(TOKENS.bounds) + 1)
        self.sum = total

    def add(self, tokens: int) -> None:
        """Count one attempt."""
        # The bounds are powers of four, so the index is half the number of binary digits, rounded up.
        self.buckets[min((max(tokens - 1, 0).bit_length() + 1) >> 1, len(self.buckets) - 1)] += 1
        self.sum += tokens

    def cumulative(self) -> list[int]:
        """How many were at most each bound."""
        counts, total = [], 0
        for n in self.buckets[:-1]:
            total += n
            counts.append(total)
        return counts

    @property
    def count(self) -> int:
        """How many were added."""
        return sum(self.buckets)

    def merge(self, other: TokenCounts) -> TokenCounts:
        """Both together."""
        return TokenCounts(map(sum, zip(self.buckets, other.buckets, strict=True)), self.sum + other.sum)


Value = int | Histogram | TokenCounts
"""What is kept for one set of labels."""

Change = list[object]
"""One value as a worker tells it: name, labels and value in a JSON form; it replaces what was told before."""


class Series:
    """Where the attempts of one operation at one target are counted; looked up once and kept."""

    __slots__ = ("_durations", "_in_flight", "_labels", "_meter", "first_token", "input", "output", "per_token")

    def __init__(self, meter: Meter, labels: Labels) -> None:
        """Labels: task, model, side, provider and operation, as `DURATION` has them."""
        self._meter = meter
        self._labels = labels
        self._in_flight = (labels[0], labels[2])
        self._durations: dict[str, Histogram] = {}
        self.first_token = meter.histogram(FIRST_TOKEN, labels)
        self.per_token = meter.histogram(PER_TOKEN, labels)
        self.input = meter.tokens((*labels, "input"))
        self.output = meter.tokens((*labels, "output"))

    def begin(self) -> None:
        """An attempt was sent."""
        self._meter.count(IN_FLIGHT, self._in_flight)

    def end(self, error_type: str, seconds: float) -> None:
        """It ended."""
        self._meter.count(IN_FLIGHT, self._in_flight, -1)
        duration = self._durations.get(error_type)
        if duration is None:
            duration = self._durations[error_type] = self._meter.histogram(DURATION, (*self._labels, error_type))
        duration.add(seconds)


class Meter:
    """All values of one process."""

    def __init__(self) -> None:
        self._values: dict[Family, dict[Labels, Value]] = {family: {} for family in FAMILIES}
        # Counters are what every request touches, so they are found without asking for their type.
        self._counts = cast("dict[Family, dict[Labels, int]]", self._values)
        self._departed: dict[tuple[Family, Labels], float] = {}
        self._told: dict[tuple[Family, Labels], object] = {}

    def count(self, family: Family, labels: Labels = (), n: int = 1) -> None:
        """Add to a counter or a gauge."""
        counts = self._counts[family]
        counts[labels] = counts.get(labels, 0) + n

    def set(self, family: Family, labels: Labels, n: int) -> None:
        """Set a gauge."""
        self._counts[family][labels] = n

    def value(self, family: Family, labels: Labels = ()) -> int:
        """A counter or gauge; 0 when it was never touched."""
        return self._counts[family].get(labels, 0)

    def histogram(self, family: Family, labels: Labels) -> Histogram:
        """The durations of one set of labels; whoever asked adds to it."""
        return cast("Histogram", self._values[family].setdefault(labels, Histogram()))

    def tokens(self, labels: Labels) -> TokenCounts:
        """The same for tokens."""
        return cast("TokenCounts", self._values[TOKENS].setdefault(labels, TokenCounts()))

    def items(self) -> Iterator[tuple[Family, Mapping[Labels, Value]]]:
        """Every family with its values."""
        yield from self._values.items()

    def retain(self, models: Mapping[str, Collection[str]], now: float) -> None:
        """Forget what left the table more than `FORGET_S` ago; called when a table comes.

        Args:
            models: the models of each task of the table.
            now: seconds of a steady clock.
        """
        for family, values in self._values.items():
            gone = [labels for labels in values if _has_left(family, labels, models)]
            for labels in gone:
                if now - self._departed.setdefault((family, labels), now) > FORGET_S:
                    del values[labels], self._departed[family, labels]
                    self._told.pop((family, labels), None)
        self._departed = {key: at for key, at in self._departed.items() if _has_left(*key, models)}

    def changes(self) -> Iterator[Change]:
        """What is different from the last call, as JSON can say it, one by one, so that a caller can pause between."""
        for family, values in self._values.items():
            for labels, value in tuple(values.items()):
                mark = _mark(value)
                if self._told.get((family, labels)) != mark:
                    self._told[family, labels] = mark
                    yield [family.name, list(labels), _to_json(value)]

    def apply(self, changes: Iterable[object]) -> None:
        """Take over what another process told by `changes`.

        Raises:
            CorruptStateError: for anything else.
        """
        for change in changes:
            match change:
                case [str(name), [*labels], told] if name in _BY_NAME and all(isinstance(each, str) for each in labels):
                    family = _BY_NAME[name]
                    self._values[family][tuple(cast("list[str]", labels))] = _from_json(family, told)
                case _:
                    raise CorruptStateError(f"a worker told a metric of another form: {str(change)[:80]}")

    def absorb(self, other: Meter, *, alive: bool = True) -> None:
        """Add another process's values to these; of a dead one only what it had counted, not how it stood."""
        for family, values in other.items():
            if not alive and family.type == "gauge":
                continue
            mine = self._values[family]
            for labels, value in values.items():
                before = mine.get(labels)
                mine[labels] = _copied(value) if before is None else _joined(family.kind, before, value)


def _has_left(family: Family, labels: Labels, models: Mapping[str, Collection[str]]) -> bool:
    match family.scope:
        case Scope.ROUTER:
            return False
        case Scope.TASK:
            return bool(labels[0]) and labels[0] not in models
        case Scope.MODEL:
            return labels[1] not in models.get(labels[0], ())


def _mark(value: Value) -> object:
    """Something that differs when the value does, without making text of it."""
    if isinstance(value, Histogram):
        return (value.sum_ns, value.zero, len(value.buckets))
    return (value.sum, value.buckets[0]) if isinstance(value, TokenCounts) else value


def _to_json(value: Value) -> object:
    if isinstance(value, Histogram):
        return value.to_text()
    return [value.sum, *value.buckets] if isinstance(value, TokenCounts) else value


def _from_json(family: Family, told: object) -> Value:
    match family.kind, told:
        case Kind.SECONDS, str(text):
            return Histogram.from_text(text)
        case Kind.TOKENS, [int(total), *buckets] if len(buckets) == len(TOKENS.bounds) + 1:
            return TokenCounts(cast("list[int]", buckets), total)
        case Kind.COUNTER | Kind.GAUGE | Kind.LOWEST | Kind.HIGHEST, int(n):
            return n
        case _:
            raise CorruptStateError(f"a worker told {family.name} as {str(told)[:80]}")


def _copied(value: Value) -> Value:
    if isinstance(value, Histogram):
        return value.copy()
    return TokenCounts(value.buckets, value.sum) if isinstance(value, TokenCounts) else value


def _joined(kind: Kind, a: Value, b: Value) -> Value:
    if isinstance(a, Histogram):
        return a.merge(cast("Histogram", b))
    if isinstance(a, TokenCounts):
        return a.merge(cast("TokenCounts", b))
    join: Callable[[int, int], int] = {Kind.LOWEST: min, Kind.HIGHEST: max}.get(kind, int.__add__)
    return join(a, cast("int", b))


def exposition(meter: Meter) -> Iterator[str]:
    """The text form, one piece for each family's head and each set of labels, so that a caller can pause between."""
    for family, values in meter.items():
        yield f"# HELP {family.name} {family.meaning}\n# TYPE {family.name} {family.type}\n"
        for labels, value in tuple(values.items()):
            named = ",".join(f'{name}="{_escaped(label)}"' for name, label in zip(family.labels, labels, strict=True))
            yield _sample(family, named, value)


def _sample(family: Family, named: str, value: Value) -> str:
    if isinstance(value, int):
        return f"{family.name}{{{named}}} {value}\n" if named else f"{family.name} {value}\n"
    counts = value.cumulative(family.bounds) if isinstance(value, Histogram) else value.cumulative()
    count = value.count
    rows = [
        f'{family.name}_bucket{{{named},le="{bound}"}} {n}\n' for bound, n in zip(family.bounds, counts, strict=True)
    ]
    total = f"{family.name}_sum{{{named}}} {value.sum}\n{family.name}_count{{{named}}} {count}\n"
    return f'{"".join(rows)}{family.name}_bucket{{{named},le="+Inf"}} {count}\n{total}'


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
