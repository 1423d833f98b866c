"""Which endpoint takes a request, and what is kept of those that come and go."""

from __future__ import annotations

import asyncio

from arbiter.router.endpoints import Endpoints
from arbiter.router.metric_families import BREAKER_OPENED, BREAKERS_OPEN
from arbiter.router.metrics import Meter
from arbiter.router.wire.client import Pool
from arbiter.router.wire.limits import PoolLimits
from tests.unit.router.routing import backend_of, table_of, task_of
from tests.unit.router.test_serve_hold import SERVICE
from tests.unit.router.wire.loopback import on_both_loops

URLS = ("http://a:1", "http://b:1", "http://c:1")
MODEL = backend_of(service="model")


async def placed() -> Endpoints:
    """Three endpoints of a service."""
    await asyncio.sleep(0)
    endpoints = Endpoints(Pool)
    endpoints.obey(table_of(task_of(SERVICE)), PoolLimits(idle_s=1.5), 0.0)
    endpoints.place("model", URLS, 0.0)
    return endpoints


@on_both_loops
async def test_fewest_in_flight_wins_and_equal_ones_take_turns() -> None:
    """Load is spread, however long requests take."""
    endpoints = await placed()
    taken = []
    for _ in range(6):
        endpoint = endpoints.choose(MODEL, [], 0.0)
        assert endpoint is not None
        endpoint.occupancy.enter(0.0)
        taken.append(endpoint.url)
    assert sorted(taken[:3]) == sorted(taken[3:]) == sorted(URLS)
    idle = endpoints.ready(MODEL)[1]
    idle.occupancy.leave(1.0)
    assert endpoints.choose(MODEL, [], 1.0) is idle


@on_both_loops
async def test_those_tried_and_those_with_an_open_breaker_are_passed_over() -> None:
    """A retry at the same place would be no other try."""
    endpoints = await placed()
    a, b, c = endpoints.ready(MODEL)
    for _ in range(5):
        b.breaker.fail(0.0, 0.0)
    assert {endpoints.choose(MODEL, [a], 0.0) for _ in range(5)} == {c}
    assert endpoints.choose(MODEL, [a, c], 0.0) is None
    assert endpoints.choose(MODEL, [a, c], 1.0) is b


@on_both_loops
async def test_open_breakers_are_told_and_each_opening_once() -> None:
    """A gauge for now, and a counter that misses none in between."""
    endpoints, meter = await placed(), Meter()
    table, labels = table_of(task_of(SERVICE)), ("chat", MODEL.model)
    endpoints.tell_breakers(table, meter)
    assert (meter.value(BREAKERS_OPEN, labels), meter.value(BREAKER_OPENED, labels)) == (0, 0)

    for endpoint in endpoints.ready(MODEL)[:2]:
        for _ in range(5):
            endpoint.breaker.fail(0.0, 0.0)
    for _ in range(2):
        endpoints.tell_breakers(table, meter)
    assert (meter.value(BREAKERS_OPEN, labels), meter.value(BREAKER_OPENED, labels)) == (2, 2)

    assert endpoints.ready(MODEL)[0].breaker.enter(1.0)
    endpoints.ready(MODEL)[0].breaker.succeed(1.0)
    endpoints.tell_breakers(table, meter)
    assert (meter.value(BREAKERS_OPEN, labels), meter.value(BREAKER_OPENED, labels)) == (1, 2)

    endpoints.place("model", (), 2.0)
    endpoints.tell_breakers(table, meter)
    assert meter.value(BREAKERS_OPEN, labels) == 0


@on_both_loops
async def test_endpoint_that_comes_after_the_table_keeps_the_tables_limits() -> None:
    """Pods come and go while the table stays."""
    endpoints = await placed()
    assert {each.pool.limits.idle_s for each in endpoints.ready(MODEL)} == {1.5}


@on_both_loops
async def test_endpoint_that_stays_keeps_what_is_known_of_it() -> None:
    """Its load and its breaker are not forgotten because a neighbour went."""
    endpoints = await placed()
    a, b, _ = endpoints.ready(MODEL)
    endpoints.place("model", [URLS[1], URLS[0]], 1.0)
    assert endpoints.ready(MODEL) == (b, a)
    endpoints.obey(table_of(task_of(SERVICE), generation=2), PoolLimits(idle_s=2.5), 2.0)
    assert endpoints.ready(MODEL) == (b, a)
    assert a.pool.limits.idle_s == 2.5


@on_both_loops
async def test_service_that_the_table_no_longer_names_is_forgotten() -> None:
    """Or each swap would leave its pools behind."""
    endpoints = await placed()
    endpoints.obey(table_of(task_of()), PoolLimits(), 1.0)
    assert endpoints.ready(MODEL) == ()
