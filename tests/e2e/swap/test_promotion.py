"""A model that is as good as the one that serves is promoted on evidence, by an operator that dies of every move of it.

The models run elsewhere and are asked evenly: what is measured at one load is compared with what was measured at that
load before, so evidence comes soonest where the load stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.serving.wishes import external, pool
from tests.e2e.swap.swaps import POLICY, Seen, active
from tests.e2e.swap.upstream import upstream
from tests.traffic.driver import Load, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.e2e.serving.operators import Operators
    from tests.e2e.serving.place import Place

pytestmark = [pytest.mark.cluster, pytest.mark.devcluster]

LOAD = Load(task="chat", clients=6, stream_tokens=16, plain_tokens=2, pause_s=0.1)


def test_an_equal_model_is_promoted_on_evidence(
    place: Place, hosts: Operators, tmp_path: Path, count: Callable[..., None]
) -> None:
    """Every metric has shown that it is no worse, by margins of real policies, and the object says all of it."""
    operator = hosts.start(leading=False, program=("tests.e2e.serving.dying", "moves", str(tmp_path)))
    with upstream() as models:
        place.apply(POLICY, *(external(name, f"{models.address}/{name}", name) for name in ("first", "second")))
        place.apply(pool("assistant", "first", swapPolicy="seconds", router={"replicas": 2}))
        place.ready("modelpool/assistant", 240)
        with Traffic(place.url("assistant"), LOAD) as traffic:
            traffic.more(20)
            place.apply(pool("assistant", "second", swapPolicy="seconds", router={"replicas": 2}))
            status = Seen(place, "assistant-chat-1").ended("Promoted", 900)
            traffic.more(20)
    assert not traffic.report.failed, traffic.report
    count("completions served", len(traffic.report.attempts))

    assert [each["phase"] for each in status["history"]] == ["Preparing", "Shifting", "Watching", "Ended"]
    shown = {each["name"]: each for each in status["metrics"]}
    assert set(shown) == {"success", "errors", "first-token", "per-token"}
    assert all(shown[name]["verdict"] in {"NotWorse", "Better"} for name in ("success", "first-token", "per-token"))
    assert active(place)["model"] == "second"
    assert place.status("modelpool/assistant")["tasks"][0]["previous"]["model"] == "first"

    assert operator.end() == 0, operator.log.read_text()
    moves = {line for line in (tmp_path / "writes").read_text().splitlines() if " moves " in line}
    assert set((tmp_path / "deaths").read_text().splitlines()) == moves
    begun = {line.partition(" moves ")[2].split()[0] for line in moves if "/modelswaps/" in line}
    assert begun >= {"Preparing", "Shifting", "Watching", "Ended"}
