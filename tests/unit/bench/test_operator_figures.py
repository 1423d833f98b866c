"""The operator's bench must see what it claims to see: whose time a part of a way is, and what was missed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from bench.operator import crowd, figures, first, process
from bench.operator.__main__ import told
from bench.operator.figures import Crowd, Edit, First, Restart, Window
from bench.operator.ground import Told

if TYPE_CHECKING:
    from collections.abc import Mapping

EXPOSED = """# HELP arbiter_leader 1 while this process leads.
arbiter_leader 1.0
arbiter_passes_total{kind="ModelPool",outcome="ok"} 40.0
arbiter_passes_total{kind="ModelPool",outcome="conflict"} 2.0
arbiter_passes_total{kind="LocalModel",outcome="ok"} 100.0
arbiter_pass_seconds_count{kind="ModelPool"} 42.0
arbiter_api_writes_total{kind="ModelPool",verb="status"} 30.0
arbiter_api_writes_total{kind="ConfigMap",verb="apply"} 1e+01
arbiter_queue_depth 3.0
arbiter_jobs_running 1.0
"""

WAY = {
    "applied": 0.02,
    "resolver made": 0.03,
    "resolver runs": 0.7,
    "resolver ended": 2.0,
    "resolved": 2.02,
    "engine made": 2.05,
    "engine pod": 2.06,
    "engine scheduled": 2.06,
    "engine runs": 2.6,
    "engine ready": 3.99,
    "engine listed": 4.0,
    "engine reached": 4.5,
    "active": 4.7,
    "routed": 4.71,
    "router made": 0.1,
    "router pod": 0.1,
    "router scheduled": 0.11,
    "router runs": 0.9,
    "router ready": 1.9,
    "router listed": 1.9,
    "router reached": 2.0,
    "completed": 5.0,
    "ready": 5.5,
    "one more": 0.2,
}

KNOWN = First(
    known=True,
    moments={name: at if at < 2.04 else at - 2.0 for name, at in WAY.items() if not name.startswith("resol")},
    resolver_s=0.0,
    busy=0.1,
)

NEW = First(known=False, moments=WAY, resolver_s=0.4, busy=0.1)


def test_what_an_operator_counts_is_added_up() -> None:
    """Passes of both kinds, writes of all kinds; what did not end well is told apart."""
    assert process.counted(EXPOSED) == process.Counted(leads=True, passes=142, failed=2, writes=40, busy=4)
    assert not process.counted("").leads


def test_the_parts_of_a_way_lie_end_to_end() -> None:
    """Together they are the whole way, and the resolver's program is taken out of its pod's time."""
    parts = figures.parts(NEW)
    assert sum(part.seconds for part in parts) == pytest.approx(5.0)
    assert figures.ours(NEW) == pytest.approx(0.03 + 0.4 + 0.05 + 0.2 + 0.01 + 0.09)
    assert [part.seconds for part in parts if part.what == "the resolver's program"] == [0.4]
    assert sum(part.seconds for part in figures.parts(KNOWN)) == pytest.approx(3.0)
    assert figures.ours(KNOWN) == pytest.approx(0.05 + 0.2 + 0.01 + 0.09)


def test_a_router_that_comes_late_is_waited_for_and_not_ours() -> None:
    """It starts beside the engine, so only what it is later counts."""
    late = replace(NEW, moments={**WAY, "router reached": 4.75})
    waited = next(part for part in figures.parts(late) if part.what.startswith("a router is reached"))
    assert waited.seconds == pytest.approx(0.04)
    assert figures.ours(late) == pytest.approx(figures.ours(NEW) - 0.04)


@pytest.mark.parametrize(
    ("percent", "want"),
    [pytest.param(50, 51, id="the middle"), pytest.param(95, 96, id="95"), pytest.param(100, 100, id="all")],
)
def test_a_percentile_is_a_value_that_was_measured(percent: int, want: float) -> None:
    """Never one between two, and rather the greater one."""
    assert figures.percentile([float(each) for each in range(1, 101)], percent) == want
    assert figures.percentile([7.0], percent) == 7.0


def window(**fields: Any) -> Window:  # noqa: ANN401  fields of a Window
    """Give a minute of rest in which nothing was written."""
    usual: dict[str, Any] = {
        "seconds": 60.0,
        "core": 0.003,
        "resident": 100_000_000,
        "proportional": 80_000_000,
        "most": 110_000_000,
        "writes": 0,
        "changes": 0,
        "renewals": 30,
        "events": 0,
        "busy": 0.2,
    }
    return Window(**{**usual, **fields})


def measured(**fields: Any) -> Crowd:  # noqa: ANN401  fields of a Crowd
    """Give what a good operator shows."""
    usual: dict[str, Any] = {
        "windows": [window()],
        "pool_edits": [Edit(0.0, 0.01, 0.03, 0.05)],
        "model_edits": [Edit(0.0, 0.01, 0.02, 0.02)],
        "restarts": [Restart(True, 0.0, 11.0, 12.0, 1100, 100), Restart(False, 0.1, 0.8, 1.5, 1100, 100)],  # noqa: FBT003  as it is named there
    }
    return Crowd(1000, 100, **{**usual, **fields})


def test_the_last_line_names_the_figures_to_hold() -> None:
    """It is the last line of the whole report."""
    text = "\n\n".join(told(measured(), [NEW, KNOWN]))
    assert text.splitlines()[-1] == "1000 models, 100 pools: 0.3 % of a core, 100 MB, edit p95 20 ms"
    assert "missed" not in text


@pytest.mark.parametrize(
    ("crowded", "words"),
    [
        pytest.param({"windows": [window(core=0.06)]}, "below 5 % of a core", id="processor"),
        pytest.param({"windows": [window(), window(resident=210_000_000)]}, "below 200 MB", id="memory"),
        pytest.param({"model_edits": [Edit(0.0, 0.01, 0.27, 0.27)]}, "an edit reconciled", id="edits of models"),
        pytest.param({"windows": [window(changes=3)]}, "hardly any write", id="writes that only watches told"),
        pytest.param({"restarts": [Restart(True, 0.0, 11.0, 21.0, 1, 1)]}, "at rest again", id="restart"),  # noqa: FBT003  as it is named there
    ],
)
def test_a_goal_that_is_missed_is_called_so(crowded: Mapping[str, Any], words: str) -> None:
    """One that is not reached is never told as if it were."""
    rows = figures.goals_table(measured(**crowded), []).splitlines()
    assert [row for row in rows if words in row and "missed" in row]
    assert sum("missed" in row for row in rows) == 1


def test_passes_between_two_looks_are_no_endless_rate() -> None:
    """What happened within one look took up to that long."""
    at_once = Restart(killed=False, ended_s=0.1, leads_s=1.0, rests_s=1.0, passes=120, writes=10)
    assert at_once.rate == pytest.approx(1200)


def test_a_first_completion_that_takes_too_long_is_called_so() -> None:
    """The whole way and our part of it are two goals."""
    slow = replace(NEW, moments={name: at + (4.0 if at > 2.03 else 0.0) for name, at in WAY.items()})
    assert figures.goals_table(None, [slow]).count("missed") == 2


def test_a_crowd_is_as_large_as_it_says() -> None:
    """Each model is at a name of its own, or all would be one revision; each pool names its own models alone."""
    size = crowd.Size(models=20, pools=2, windows=1, window_s=1.0, edits=1, restarts=1)
    models = list(crowd.models(size, "http://127.0.0.1:1"))
    pools = list(crowd.pools(size))
    assert len({each["metadata"]["name"] for each in models}) == 20
    assert len({each["spec"]["external"]["model"] for each in models}) == 20
    assert [len(each["spec"]["models"]) for each in pools] == [10, 10]
    assert not set(pools[0]["spec"]["models"]) & set(pools[1]["spec"]["models"])


def test_a_moment_that_was_not_seen_is_an_error() -> None:
    """A part of which one end is missing must not become a part of nothing."""
    seen = [Told(1.0, "ModelPool", first.POOL, {"status": {"tasks": [{"name": "chat"}]}})]
    sent = first.Sent(0.5, 0.6, (2.0, 2.1), 3.0, 0.1)
    with pytest.raises(LookupError, match=r"engine made, .*active, routed"):
        first.moments(seen, sent, known=True)
