"""Whole swaps in a pool, as stories: what is asked for, what is done pass by pass, and what the routers are told.

The stories lie in `goldens/swapping`, one a file, told as those of serving. `ARBITER_GOLDENS=write` writes them anew.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from arbiter.api.localmodel import EngineType
from arbiter.api.modelswap import Outcome, Phase
from arbiter.api.swappolicy import SwapPolicySpec
from arbiter.core.analysis_settings import MetricName
from arbiter.core.facts import NodeFacts
from arbiter.core.snapshot import PodPhase
from tests.unit.core.serving_cluster import GIB, SETTINGS, cluster
from tests.unit.core.test_serving_stories import TWO_MODELS, Story

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDENS = Path(__file__).parent / "goldens" / "swapping"

SHORT = SwapPolicySpec.model_validate(
    {
        "rollout": {"steps": [{"weight": 20, "hold": "60s"}, {"weight": 50, "hold": "60s"}], "watch": "60s"},
        "analysis": {"slice": "1s", "blockLength": "1s", "maxExtensions": 2},
        "warmUp": {"skipRequests": 0},
    }
)
"""Two steps of a minute, the second behind a gate."""

CHECKED = {"name": "chat", "model": "qwen3", "checks": {"configMap": "capitals"}}
"""The task with checks, as it asks for another model."""

CAPITALS = json.dumps(
    {
        "version": 1,
        "checks": [
            {
                "name": f"capital-{number}",
                "messages": [{"role": "user", "content": f"{number}: what is the capital of France?"}],
                "expect": {"contains": "Paris"},
            }
            for number in range(20)
        ],
    }
)
"""Twenty checks, all of the same kind."""


@dataclass
class Tale(Story):
    """A story of swaps: time passes whether anything is done or not.

    Attributes:
        places: what was told last of each swap.
    """

    places: dict[str, tuple[object, ...]] = field(default_factory=dict)

    def serve(self) -> None:
        """Let the pool serve, and tell nothing of that."""
        self.cluster.policy = SHORT
        self.cluster.nodes = (NodeFacts("node-1", allocatable={"memory": 64 * GIB}),)
        self.until_rest()
        self.lines.clear()

    def edit(self, model: str) -> None:
        """Ask for another model."""
        self.say(f"`model` is edited to {model}.")
        self.cluster.edit(tasks=[{"name": "chat", "model": model}])

    def one_pass(self) -> bool:
        """Pass over all once, and tell of swaps only what is more than figures."""
        before, known = len(self.lines), dict(self.places)
        busy = super().one_pass()
        for name, swap in self.cluster.swaps.items():
            status = swap.status
            self.places[name] = (status.phase, status.outcome, status.progress, status.reason)
        same = {name for name, place in self.places.items() if known.get(name) == place}
        self.lines[before:] = _without_figures(self.lines[before:], same)
        return busy

    def run(self, seconds: int, step: int = 5) -> None:
        """Pass over all in short steps, for so long."""
        for _ in range(0, seconds, step):
            self.one_pass()
            self.cluster.step(step)

    def outcome(self, name: str = "assistant-chat-1") -> Outcome | None:
        """How a swap ended."""
        return self.cluster.swaps[name].status.outcome


def _without_figures(lines: list[str], same: set[str]) -> list[str]:
    """Leave out the statuses of swaps that say the same with other figures, and passes with nothing else."""
    kept, skipping = [], False
    for line in lines:
        if not line.startswith("    "):
            skipping = line.startswith("  status of ModelSwap ") and line.rpartition(" ")[2] in same
        if not skipping:
            kept.append(line)
    return kept if len(kept) > 1 else []


def promoted(tale: Tale) -> None:
    """An equal model is promoted step by step; what served before stays loaded for a while."""
    tale.cluster.rate = 40.0
    tale.edit("qwen3")
    tale.run(400)
    tale.say("Another edit to the same model, as GitOps does it, changes nothing.")
    tale.cluster.edit(tasks=[{"name": "chat", "model": "qwen3"}])
    tale.until_rest()
    assert tale.outcome() is Outcome.Promoted


def rolled_back(tale: Tale) -> None:
    """A model that fails a fifth of its requests is rolled back, and is not tried again by the same edit."""
    tale.cluster.rate = 40.0
    tale.cluster.failing = {"qwen3": 0.2}
    tale.edit("qwen3")
    tale.run(200)
    tale.say("The same is applied again.")
    tale.cluster.edit(tasks=[{"name": "chat", "model": "qwen3"}])
    tale.until_rest()
    assert tale.outcome() is Outcome.RolledBack


def broken(tale: Tale) -> None:
    """A model whose engine crashes is rejected before any request reaches it."""
    tale.cluster.rate = 40.0
    crash = {
        "phase": PodPhase.RUNNING,
        "waiting": "CrashLoopBackOff",
        "waiting_message": "back-off 5m0s restarting failed container",
        "restarts": 5,
        "last_exit": 1,
        "last_message": "error: unknown argument",
    }
    names = {key.name for key in tale.cluster.objects}
    tale.edit("qwen3")
    tale.run(20)
    fresh = next(key.name for key in tale.cluster.objects if key.kind == "Deployment" and key.name not in names)
    tale.cluster.troubles = {fresh: crash}
    tale.run(60)
    assert tale.outcome() is Outcome.Rejected


def undone(tale: Tale) -> None:
    """A promoted swap is undone by a ModelSwap to what served before: a change of route, without analysis."""
    tale.cluster.rate = 40.0
    tale.edit("qwen3")
    tale.run(400)
    tale.lines.clear()
    previous = tale.cluster.pool.status.tasks[0].previous
    assert previous is not None
    tale.say("A person undoes it.")
    tale.cluster.ask(
        {
            "apiVersion": "arbiter.dev/v1alpha1",
            "kind": "ModelSwap",
            "metadata": {"name": "undo"},
            "spec": {
                "pool": "assistant",
                "task": "chat",
                "to": previous.model,
                "revision": previous.revision,
                "reason": "qwen3 answers too long",
            },
        }
    )
    tale.run(60)
    assert tale.outcome("undo") is Outcome.Promoted
    active = tale.cluster.pool.status.tasks[0].active
    assert active is not None
    assert active.revision == previous.revision


def edited_back(tale: Tale) -> None:
    """An edit back to what serves aborts the swap that is in flight."""
    tale.cluster.rate = 40.0
    tale.edit("qwen3")
    tale.run(60)
    tale.edit("smollm2")
    tale.run(60)
    assert tale.outcome() is Outcome.Aborted


def two_tasks(tale: Tale) -> None:
    """Two tasks of one model swap to the same other one at the same time, with one new engine."""
    tale.cluster.edit(tasks=[{"name": "chat", "model": "smollm2"}, {"name": "code", "model": "smollm2"}])
    tale.until_rest()
    tale.lines.clear()
    tale.cluster.rate = 40.0
    tale.say("Both tasks are edited to qwen3.")
    tale.cluster.edit(tasks=[{"name": "chat", "model": "qwen3"}, {"name": "code", "model": "qwen3"}])
    tale.run(600)
    assert tale.outcome("assistant-chat-1") is Outcome.Promoted
    assert tale.outcome("assistant-code-1") is Outcome.Promoted


def one_gpu(tale: Tale) -> None:
    """With one GPU the models change places, and requests are held meanwhile."""
    gpu = {"memory": 8 * GIB, "nvidia.com/gpu": 1}
    tale.cluster.nodes = (NodeFacts("node-1", allocatable=gpu, requested={"nvidia.com/gpu": 1}),)
    engines = replace(SETTINGS.engines, gpu_images={EngineType.LlamaCpp: "llama-cuda:1"})
    tale.cluster.settings = replace(SETTINGS, engines=engines)
    tale.cluster.edit(placement={"gpus": {"count": 1}}, tasks=[{"name": "talk", "model": "smollm2"}])
    tale.until_rest()
    tale.lines.clear()
    tale.say("`model` is edited to qwen3. The old engine goes on computing, although no router waits for it.")
    old = next(key.name for key in tale.cluster.objects if key.kind == "Deployment" and "router" not in key.name)
    tale.cluster.computing = {old}
    tale.cluster.edit(tasks=[{"name": "talk", "model": "qwen3"}])
    tale.run(60)
    tale.say("It has come to its end.")
    tale.cluster.computing = set()
    tale.run(200)
    assert tale.outcome("assistant-talk-1") is Outcome.Promoted


def rejected(tale: Tale) -> None:
    """A model that fails the task's checks is rejected in Preparing; both sides are asked, one prompt at a time."""
    tale.cluster.says = {"smollm2": "It is Paris.", "qwen3": "mostly harmless"}
    tale.cluster.checks["capitals"] = CAPITALS
    tale.say("The task has twenty checks, and `model` is edited to qwen3.")
    tale.cluster.edit(tasks=[CHECKED])
    tale.run(150)
    assert tale.outcome() is Outcome.Rejected


def unreadable_checks(tale: Tale) -> None:
    """A swap waits for checks that can be read, and says what is wrong with them."""
    tale.cluster.checks["capitals"] = "version: 1\nchecks:\n  - name: first\n    mesages: []\n"
    tale.say("The task's checks cannot be read.")
    tale.cluster.edit(tasks=[CHECKED])
    tale.run(30)
    tale.say("They are mended.")
    tale.cluster.checks["capitals"] = CAPITALS
    tale.run(30)
    assert tale.outcome() is None


def no_policy(tale: Tale) -> None:
    """A swap waits for the policy that its pool names."""
    tale.cluster.policy = None
    tale.edit("qwen3")
    tale.run(30)
    tale.say("The policy is there.")
    tale.cluster.policy = SHORT
    tale.run(30)


def deaf_router(tale: Tale) -> None:
    """A router that does not obey is replaced after its deadline; until then the step does not count."""
    tale.cluster.rate = 40.0
    tale.edit("qwen3")
    tale.run(30)
    tale.say("From now on the router obeys nothing new.")
    tale.cluster.deaf = True
    tale.run(120)
    assert not tale.cluster.deaf


def cut_off(tale: Tale) -> None:
    """The operator cannot ask routers any more: no router is replaced for that, and nothing rises until it can."""
    tale.cluster.rate = 40.0
    tale.edit("qwen3")
    tale.run(60)
    tale.say("From now on the operator cannot reach the router, which goes on serving.")
    tale.cluster.cut_off()
    tale.run(180)
    tale.say("It can again.")
    tale.cluster.last_heard = None
    tale.run(60)


def withdrawn(tale: Tale) -> None:
    """The task of a swap is taken out of the pool, and nothing else uses its old model: the swap ends at once."""
    tale.cluster.rate = 40.0
    tale.cluster.edit(tasks=[{"name": "chat", "model": "smollm2"}, {"name": "code", "model": "qwen3"}])
    tale.until_rest()
    tale.lines.clear()
    tale.say("`model` of chat is edited to qwen3.")
    tale.cluster.edit(tasks=[{"name": "chat", "model": "qwen3"}, {"name": "code", "model": "qwen3"}])
    tale.run(60)
    tale.say("The task chat is taken out of the pool.")
    tale.cluster.edit(tasks=[{"name": "code", "model": "qwen3"}])
    tale.run(60)
    assert tale.outcome() is Outcome.Aborted


def operator_back(tale: Tale) -> None:
    """An operator with another image asks for a swap; the one before it comes back, and that swap is not wanted."""
    engines = replace(SETTINGS.engines, llama_server_image="arbiter.local/arbiter-llama-server:0.2.0")
    tale.say("The operator is replaced by another version.")
    tale.cluster.settings = replace(SETTINGS, engines=engines, epoch=4)
    tale.run(60)
    tale.say("It is replaced by the one before.")
    tale.cluster.settings = replace(SETTINGS, epoch=5)
    tale.run(60)
    assert tale.outcome() is Outcome.Aborted


def no_room_for_a_new_revision(tale: Tale) -> None:
    """A new revision that could only take the place of what serves waits for a person: nobody has asked for it."""
    one = NodeFacts("node-1", allocatable={"memory": 600 * 1024**2}, requested={"memory": 400 * 1024**2})
    tale.cluster.nodes = (one,)
    engines = replace(SETTINGS.engines, llama_server_image="arbiter.local/arbiter-llama-server:0.2.0")
    tale.say("The operator is replaced by another version; the node has room for one engine.")
    tale.cluster.settings = replace(SETTINGS, engines=engines, epoch=4)
    tale.run(30)
    tale.say("A person lets it take the place.")
    tale.cluster.intend("assistant-chat-1", "Promote")
    tale.run(90)
    assert tale.outcome() is Outcome.Promoted


STORIES: dict[str, Callable[[Tale], None]] = {
    each.__name__.replace("_", "-"): each
    for each in (
        promoted,
        rolled_back,
        broken,
        undone,
        edited_back,
        two_tasks,
        one_gpu,
        rejected,
        unreadable_checks,
        no_policy,
        deaf_router,
        cut_off,
        withdrawn,
        operator_back,
        no_room_for_a_new_revision,
    )
}


@pytest.mark.parametrize("text", [None, "unreadable"])
def test_quality_guards_whenever_an_operator_starts_anew(text: str | None) -> None:
    """Right after its start it has not read the checks yet, and whoever edits them may spoil them just then."""
    tale = Tale(cluster(TWO_MODELS))
    tale.serve()
    tale.cluster.rate = 40.0
    tale.cluster.checks["capitals"] = CAPITALS
    tale.cluster.edit(tasks=[CHECKED])
    while (swap := tale.cluster.swaps.get("assistant-chat-1")) is None or swap.status.phase is not Phase.Shifting:
        tale.run(5)
    before = tale.cluster.checks.pop("capitals")
    if text is not None:
        tale.cluster.checks["capitals"] = text
    tale.run(10)
    tale.cluster.checks["capitals"] = before
    tale.run(30)
    shown = {metric.name for metric in tale.cluster.swaps["assistant-chat-1"].status.metrics}
    assert MetricName.QUALITY in shown


@pytest.mark.parametrize("name", STORIES)
def test_a_swap_goes_as_it_is_written(name: str) -> None:
    """What is done and said, pass by pass, is what the golden file tells."""
    tell = STORIES[name]
    tale = Tale(cluster(TWO_MODELS))
    tale.serve()
    tell(tale)
    golden = GOLDENS / f"{name}.txt"
    if os.environ.get("ARBITER_GOLDENS") == "write":
        golden.write_text(tale.text())
    assert tale.text() == golden.read_text()


def test_every_golden_has_its_story() -> None:
    """One that nobody tells any more would only mislead."""
    assert {path.stem for path in GOLDENS.glob("*.txt")} == set(STORIES)
