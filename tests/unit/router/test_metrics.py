"""Values for Prometheus, their text, and how those of several processes are added up."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from arbiter.core.histogram import Histogram
from arbiter.errors import CorruptStateError
from arbiter.router.metric_families import (
    AUTH_REFUSALS,
    BREAKERS_OPEN,
    BUILD,
    CONNECTIONS,
    DURATION,
    FALLBACKS,
    FAMILIES,
    FIRST_TOKEN,
    IN_FLIGHT,
    KEYS_REFUSED,
    REQUESTS,
    TABLE_GENERATION,
    TOKENS,
    Answered,
    Kind,
)
from arbiter.router.metrics import FORGET_S, Meter, Series, TokenCounts, exposition

ROOT = Path(__file__).parents[3]
LABELS = ("chat", "model-old", "old", "llamacpp", "chat")


def busy(n: int = 1) -> Meter:
    """A process that counted something of each kind."""
    meter = Meter()
    series = Series(meter, LABELS)
    for i in range(n):
        series.begin()
        series.first_token.add(0.05 * (i + 1))
        series.input.add(3)
        series.output.add(100)
        series.end("" if i % 2 else "timeout", 0.5 * (i + 1))
    meter.count(REQUESTS, ("chat", "old", "ok"), n)
    meter.count(KEYS_REFUSED, (), n)
    meter.set(TABLE_GENERATION, (), n)
    meter.set(BREAKERS_OPEN, ("chat", "model-old"), n)
    meter.set(CONNECTIONS, (), n)
    meter.set(BUILD, ("1.2.3", "3.11", "uvloop"), 1)
    return meter


def text_of(meter: Meter) -> str:
    """What is scraped."""
    return "".join(exposition(meter))


def samples(meter: Meter) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The samples as Prometheus' own parser reads them."""
    families = text_string_to_metric_families(text_of(meter))
    return {(each.name, tuple(sorted(each.labels.items()))): each.value for one in families for each in one.samples}


def test_prometheus_reads_every_family_with_its_type() -> None:
    """Its own parser is the judge, for an idle and for a busy router."""
    for meter in (Meter(), busy(3)):
        read = {each.name: each.type for each in text_string_to_metric_families(text_of(meter))}
        assert read == {family.name.removesuffix("_total"): family.type for family in FAMILIES}


def test_a_histogram_is_cumulative_and_ends_with_all() -> None:
    """As Prometheus wants it: each bucket holds those before, `+Inf` and `_count` hold all."""
    found = samples(busy(5))
    labels = dict(zip(FIRST_TOKEN.labels, LABELS, strict=True))
    buckets = {float(dict(key)["le"]): n for (name, key), n in found.items() if name == f"{FIRST_TOKEN.name}_bucket"}
    assert tuple(sorted(buckets)) == (*FIRST_TOKEN.bounds, float("inf"))
    assert all(a <= b for a, b in pairwise(buckets[bound] for bound in sorted(buckets)))
    assert (buckets[0.04], buckets[0.06], buckets[0.1], buckets[0.5], buckets[float("inf")]) == (0, 1, 2, 5, 5)
    assert found[f"{FIRST_TOKEN.name}_count", tuple(sorted(labels.items()))] == 5
    assert found[f"{FIRST_TOKEN.name}_sum", tuple(sorted(labels.items()))] == 0.75


@given(st.lists(st.integers(0, 10**9), max_size=30))
def test_tokens_fall_into_powers_of_four(tokens: list[int]) -> None:
    """The bounds of the conventions, by counting binary digits."""
    counts = TokenCounts()
    for each in tokens:
        counts.add(each)
    assert counts.cumulative() == [sum(each <= bound for each in tokens) for bound in TOKENS.bounds]
    assert (counts.count, counts.sum) == (len(tokens), sum(tokens))


def test_labels_are_escaped() -> None:
    """A model's name may hold whatever a person wrote."""
    meter = Meter()
    name = 'a"b\\c\nd'
    meter.count(FALLBACKS, ("chat", name))
    assert samples(meter)[FALLBACKS.name, (("model", name), ("task", "chat"))] == 1


def test_a_worker_tells_changes_until_the_parent_knows_the_same() -> None:
    """Each change replaces what was told, so none is counted twice; what did not change is not told again."""
    worker, known = busy(2), Meter()
    known.apply(json.loads(json.dumps(list(worker.changes()))))
    assert text_of(known) == text_of(worker)
    assert list(worker.changes()) == []
    worker.count(REQUESTS, ("chat", "old", "ok"))
    worker.histogram(FIRST_TOKEN, LABELS).add(0.3)
    worker.tokens((*LABELS, "input")).add(0)
    changes = list(worker.changes())
    assert [change[0] for change in changes] == [FIRST_TOKEN.name, TOKENS.name, REQUESTS.name]
    known.apply(json.loads(json.dumps(changes)))
    assert text_of(known) == text_of(worker)


@pytest.mark.parametrize(
    "change",
    [
        [],
        ["unknown_total", [], 1],
        [REQUESTS.name, [1], 1],
        [REQUESTS.name, ["chat", "old", "ok"], "1"],
        [FIRST_TOKEN.name, list(LABELS), 5],
        [FIRST_TOKEN.name, list(LABELS), "x"],
        [TOKENS.name, [*LABELS, "input"], [1, 2]],
        "x",
    ],
)
def test_what_no_worker_tells_is_refused(change: object) -> None:
    """Parent and workers are of one version, so anything else is a fault."""
    with pytest.raises(CorruptStateError):
        Meter().apply([change])


def test_processes_add_up_each_kind_in_its_own_way() -> None:
    """Counts and durations add; a table is obeyed when the last worker obeys it."""
    total = Meter()
    total.absorb(busy(2))
    total.absorb(busy(3))
    assert total.value(REQUESTS, ("chat", "old", "ok")) == 5
    assert total.value(CONNECTIONS) == 5
    assert total.value(TABLE_GENERATION) == 2
    assert total.value(BREAKERS_OPEN, ("chat", "model-old")) == 3
    assert total.value(BUILD, ("1.2.3", "3.11", "uvloop")) == 1
    assert total.histogram(FIRST_TOKEN, LABELS).count == 5
    assert total.tokens((*LABELS, "output")).sum == 500


def test_adding_up_leaves_the_parts_alone() -> None:
    """A scrape must not count anything again at the next one."""
    part, total = busy(2), Meter()
    before = text_of(part)
    total.absorb(part)
    total.absorb(part)
    assert text_of(part) == before


def test_of_a_dead_process_its_counts_stay_and_its_gauges_go() -> None:
    """Counters that fall would look like a restart; connections of the dead are closed."""
    total = Meter()
    total.absorb(busy(2), alive=False)
    assert total.value(REQUESTS, ("chat", "old", "ok")) == 2
    assert total.histogram(DURATION, (*LABELS, "timeout")).count == 1
    assert (total.value(CONNECTIONS), total.value(IN_FLIGHT, ("chat", "old"))) == (0, 0)


def test_what_left_the_table_is_forgotten_after_an_hour() -> None:
    """Models come and go for months, and label sets must not pile up."""
    meter = busy()
    meter.count(REQUESTS, ("", "", "rejected"))
    meter.count(AUTH_REFUSALS, ("unknown",))
    full = text_of(meter)
    meter.retain({"chat": {"model-new"}}, 0.0)
    meter.retain({"chat": {"model-new"}}, FORGET_S)
    assert text_of(meter) == full
    meter.retain({"chat": {"model-old"}}, FORGET_S + 1)
    meter.retain({"chat": {"model-new"}}, FORGET_S + 2)
    meter.retain({"chat": {"model-new"}}, 2 * FORGET_S + 1)
    assert text_of(meter) == full
    meter.retain({"chat": {"model-new"}}, 2 * FORGET_S + 3)
    assert "model-old" not in text_of(meter)
    assert meter.value(REQUESTS, ("chat", "old", "ok")) == 1
    meter.retain({}, 3 * FORGET_S)
    meter.retain({}, 4 * FORGET_S + 1)
    assert meter.value(REQUESTS, ("chat", "old", "ok")) == 0
    assert meter.value(REQUESTS, ("", "", "rejected")) == 1
    assert meter.value(AUTH_REFUSALS, ("unknown",)) == 1


def test_every_metric_is_documented_with_its_labels() -> None:
    """A metric that nobody can look up is noise."""
    page = (ROOT / "docs" / "reference" / "router.md").read_text()
    rows = {row.split("`")[1]: row for row in page.splitlines() if row.startswith(("| `gen_ai", "| `arbiter"))}
    assert set(rows) == {family.name for family in FAMILIES}
    for family in FAMILIES:
        assert family.type in rows[family.name]
        assert all(f"`{label}`" in rows[family.name] for label in family.labels), family.name
        assert family.meaning in rows[family.name]
    assert all(f"`{outcome}`" in page for outcome in Answered)


def test_buckets_of_the_conventions_are_told_at_most_a_bucket_too_late() -> None:
    """Our buckets are finer than theirs, and a bound between two edges takes the upper one: 1.1 % at most."""
    for family in FAMILIES:
        if family.kind is Kind.SECONDS:
            for bound in family.bounds:
                histogram = Histogram({}, 0, 0)
                histogram.add(bound)
                histogram.add(bound * 1.0111)
                assert histogram.cumulative((bound,)) == [1]
