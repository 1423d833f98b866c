"""A pool that belongs to a Helm release: `helm upgrade --wait` asks for a swap, and returns while the swap goes on.

Whoever waits for a release waits until its objects are as they were asked to be. A pool serves while its model is
swapped, for hours if it must; a release that waited for that would time out and be rolled back by Helm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from devcluster import build
from tests.e2e.running import run, said
from tests.e2e.serving.wishes import external, pool
from tests.e2e.swap.swaps import POLICY, Seen, active
from tests.e2e.swap.upstream import upstream
from tests.traffic.driver import Load, Traffic

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.serving.operators import Operators
    from tests.e2e.serving.place import Place

pytestmark = [pytest.mark.cluster, pytest.mark.devcluster]

WAITS = "60s"
"""For how long Helm waits before it gives up."""


def chart(folder: Path) -> Path:
    """Write a chart with the pool, as its owners would: which model serves is a value."""
    wished = pool("assistant", "MODEL", swapPolicy="seconds", router={"replicas": 2})
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text("apiVersion: v2\nname: assistant\nversion: 0.1.0\n")
    template = yaml.safe_dump(wished).replace("MODEL", "{{ .Values.model }}")
    (folder / "templates" / "pool.yaml").write_text(template)
    return folder


def test_an_upgrade_that_waits_returns_during_the_swap(place: Place, hosts: Operators, tmp_path: Path) -> None:
    """Once right after it has asked for the swap, and once more in the middle of it."""
    hosts.start()
    where = (f"--kubeconfig={place.cluster.kubeconfig}", f"--namespace={place.namespace}")
    files = chart(tmp_path / "chart")

    def helm(command: str, model: str) -> str:
        waiting = ("--wait", f"--timeout={WAITS}", f"--set=model={model}")
        return said(run(str(build.binaries()["helm"]), command, "assistant", str(files), *waiting, *where, timeout=120))

    with upstream() as models:
        place.apply(POLICY, *(external(name, f"{models.address}/{name}", name) for name in ("first", "second")))
        assert "STATUS: deployed" in helm("install", "first")
        assert place.condition("modelpool/assistant")["status"] == "True"
        load = Load(task="chat", clients=4, stream_tokens=16, plain_tokens=2, pause_s=0.05)
        with Traffic(place.url("assistant"), load) as traffic:
            traffic.more(20)
            assert "STATUS: deployed" in helm("upgrade", "second")
            swap = Seen(place, "assistant-chat-1")
            swap.obeyed()
            assert "STATUS: deployed" in helm("upgrade", "second")
            assert swap.status()["phase"] == "Shifting"
            assert active(place)["model"] == "first"
            swap.intend("Promote")
            swap.ended("Promoted", 60)
            assert active(place)["model"] == "second"
            traffic.more(20)
            assert not traffic.seen().failed, traffic.seen()
