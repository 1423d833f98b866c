"""Where a Service's pods answer."""

from __future__ import annotations

from typing import Any

import pytest

from arbiter.router.endpoint_slices import ready_urls


def endpoint(address: str, **conditions: bool | None) -> dict[str, Any]:
    """One endpoint of a slice."""
    return {"addresses": [address], "conditions": conditions}


def piece(*endpoints: dict[str, Any], family: str = "IPv4", ports: object = None) -> dict[str, Any]:
    """One EndpointSlice."""
    return {"addressType": family, "ports": ports or [{"port": 8080}], "endpoints": list(endpoints)}


@pytest.mark.parametrize(
    ("conditions", "taken"),
    [
        pytest.param({"ready": True, "serving": True, "terminating": False}, True, id="ready"),
        pytest.param({}, True, id="says nothing, which means ready"),
        pytest.param({"ready": None, "terminating": None}, True, id="says it does not know, which means ready"),
        pytest.param({"ready": False, "serving": False, "terminating": False}, False, id="loading"),
        pytest.param({"ready": False, "serving": True, "terminating": True}, False, id="ending, still serving"),
        pytest.param({"ready": True, "serving": True, "terminating": True}, False, id="ending, unready ones published"),
    ],
)
def test_only_ready_pods_that_stay_get_requests(conditions: dict[str, bool | None], *, taken: bool) -> None:
    """A pod that ends would cut the streams that it is sent."""
    assert ready_urls([piece(endpoint("10.0.0.1", **conditions))]) == (("http://10.0.0.1:8080",) if taken else ())


def test_slices_are_taken_together_and_each_address_once() -> None:
    """While an endpoint moves between slices it stands in both."""
    slices = [
        piece(endpoint("10.0.0.2"), endpoint("10.0.0.1")),
        piece(endpoint("10.0.0.3"), endpoint("10.0.0.2"), endpoint("10.0.0.1", ready=False)),
    ]
    assert ready_urls(slices) == tuple(f"http://10.0.0.{i}:8080" for i in (1, 2, 3))


def test_a_pod_of_two_families_counts_once() -> None:
    """Its requests in flight would be counted apart, and its breaker too."""
    v4, v6 = piece(endpoint("10.0.0.1")), piece(endpoint("fd00::1"), family="IPv6")
    assert ready_urls([v6, v4]) == ("http://10.0.0.1:8080",)
    assert ready_urls([v6]) == ("http://[fd00::1]:8080",)
    assert ready_urls([v6, piece(endpoint("10.0.0.1", ready=False))]) == ("http://[fd00::1]:8080",)
    assert ready_urls([piece(endpoint("engine.example"), family="FQDN")]) == ()


@pytest.mark.parametrize(
    ("ports", "port"),
    [
        pytest.param([{"name": "", "port": 9000, "protocol": "TCP"}], 9000, id="the only one"),
        pytest.param(
            [{"name": "metrics", "port": 9090}, {"name": "http", "port": 8080}], 8080, id="the one for requests"
        ),
        pytest.param([{"name": "a", "port": 1}, {"name": "b", "port": 2}], 1, id="else the first"),
        pytest.param([{"name": "http", "port": 1, "protocol": "UDP"}, {"name": "b", "port": 2}], 2, id="TCP only"),
        pytest.param([{"name": "http", "port": None}], None, id="no number"),
    ],
)
def test_which_port(ports: list[dict[str, Any]], port: int | None) -> None:
    """A Service has one as a rule; with several, one is meant for requests."""
    assert ready_urls([piece(endpoint("10.0.0.1"), ports=ports)]) == ((f"http://10.0.0.1:{port}",) if port else ())


def test_empty_slices_say_nothing() -> None:
    """The cluster makes them for a Service without pods, with null for both lists."""
    assert ready_urls([{"addressType": "IPv4", "endpoints": None, "ports": None}]) == ()
    assert ready_urls([]) == ()
