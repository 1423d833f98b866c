"""Whole plans as stories: what is seen, what is done about it and why, until nothing is left to do.

The stories lie in `goldens/serving`, one a file; revisions stand in them as `rev-1`, `rev-2`, in the order in which
they appear, because the digits of a hash tell a reader nothing. `ARBITER_GOLDENS=write` writes them anew.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from arbiter.api.localmodel import EngineType
from arbiter.core.actions import ObjectKey
from arbiter.core.facts import NodeFacts
from arbiter.core.plan import plan_model, plan_pool
from arbiter.core.snapshot import PodPhase
from tests.unit.core.serving_cluster import GIB, RESOLVED, SETTINGS, Cluster, Kept, cluster, told

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDENS = Path(__file__).parent / "goldens" / "serving"

SIX_LINES = """
apiVersion: arbiter.dev/v1alpha1
kind: LocalModel
metadata: {name: smollm2}
spec: {source: "oci://registry.example/smollm2:q4", capabilities: [chat]}
---
apiVersion: arbiter.dev/v1alpha1
kind: ModelPool
metadata: {name: assistant}
spec:
  tasks: [{name: chat, model: smollm2}]
"""

TWO_MODELS = """
apiVersion: arbiter.dev/v1alpha1
kind: LocalModel
metadata: {name: qwen3}
spec: {source: "oci://registry.example/qwen3:q4", capabilities: [chat, tools]}
---
""" + SIX_LINES.lstrip()

OLLAMA = SIX_LINES.replace("oci://registry.example/smollm2:q4", "ollama://smollm2:135m")

CARRIED = SIX_LINES.replace("capabilities: [chat]", "engine: {type: Ollama}, capabilities: [chat]")

EXTERNAL = SIX_LINES.replace(
    'source: "oci://registry.example/smollm2:q4"', "external: {url: 'http://mac.example:11434', keySecret: mac-key}"
)


@dataclass
class Story:
    """What is told."""

    cluster: Cluster
    lines: list[str] = field(default_factory=list)

    def say(self, sentence: str) -> None:
        """Tell what happens beside."""
        self.lines.append(f"# {sentence}")

    def one_pass(self) -> bool:
        """Pass over all once, and tell what is done; says whether anything was."""
        plans = [
            plan_model(self.cluster.model_snapshot(name), self.cluster.now) for name in sorted(self.cluster.models)
        ]
        for plan in plans:
            for action in plan.actions:
                self.cluster.carry_out(action)
        plans.append(plan_pool(self.cluster.snapshot(), self.cluster.now))
        for action in plans[-1].actions:
            self.cluster.carry_out(action)
        found = [line for plan in plans for line in told(plan)]
        if found:
            self.lines += [f"{self.cluster.now:%H:%M:%S}", *(f"  {line}" for line in found)]
        return any(plan.actions for plan in plans)

    def until_rest(self, *, seconds: int = 5) -> None:
        """Pass until two passes in a row have nothing to do."""
        quiet = 0
        for _ in range(60):
            busy = self.one_pass() or any(job.running for job in self.cluster.jobs.values())
            quiet = 0 if busy else quiet + 1
            if quiet == 2:
                self.lines.append("at rest")
                return
            self.cluster.step(seconds)
        raise AssertionError("it does not come to rest:\n" + "\n".join(self.lines[-80:]))

    def text(self) -> str:
        """Give the story with readable revisions."""
        named: dict[str, str] = {}
        text = "\n".join(self.lines) + "\n"
        return re.sub(r"\b[0-9a-f]{10}\b", lambda match: named.setdefault(match[0], f"rev-{len(named) + 1}"), text)


def six_lines(story: Story) -> None:
    """A pool from nothing to Ready."""
    story.say("The six-line pool and its LocalModel are applied.")
    story.until_rest()


def ollama(story: Story) -> None:
    """The same with a model of an Ollama library."""
    story.say(
        "The model is an Ollama library's: it is fetched, made and loaded by the engine that all such models share."
    )
    story.until_rest()


def carried(story: Story) -> None:
    """A model in a file, which Ollama cannot pull itself."""
    story.say("The model is a file in an image: a Job carries it into the engine that all such models share.")
    story.cluster.carries["smollm2"] = "SumMismatch: the file has the sum 1, not 2"
    for _ in range(9):
        story.one_pass()
        story.cluster.step()
    story.say("The file is the right one by now; the next attempt is due, and tells how far it is.")
    del story.cluster.carries["smollm2"]
    story.cluster.fetched["smollm2"] = (GIB // 2, GIB)
    for _ in range(4):
        story.one_pass()
        story.cluster.step()
    del story.cluster.fetched["smollm2"]
    story.cluster.step()
    story.until_rest()
    story.say("The engine's pod is lost, and its store with it.")
    story.cluster.stored.clear()
    story.cluster.loaded.clear()
    story.until_rest()


def cleaned(story: Story) -> None:
    """A model that nothing names any more leaves the shared engine's memory and its disk."""
    story.cluster.resolutions["qwen3"] = {**RESOLVED, "digest": "sha256:" + "5" * 64}
    story.cluster.edit(preload=["qwen3"])
    story.until_rest()
    story.lines.clear()
    story.say("Nothing names qwen3 any more.")
    story.cluster.edit(preload=[])
    story.until_rest()


def external(story: Story) -> None:
    """A server elsewhere that wants a key."""
    story.say("The server runs elsewhere and wants a key, which routers have mounted before they hear of it.")
    story.cluster.answers["prove/"] = {"status": 401, "reply": {"error": {"message": "no key"}}, "problem": "401"}
    story.until_rest()


def gpu_waits(story: Story) -> None:
    """No node has a GPU free."""
    story.say("The pool asks for a GPU; the one node that has some has none free.")
    story.cluster.edit(placement={"gpus": {"count": 1}, "nodeSelector": {"gpu": "yes"}})
    story.cluster.nodes = (
        NodeFacts("cpu-1", allocatable={"memory": 8 * GIB}),
        NodeFacts(
            "gpu-1",
            labels={"gpu": "yes"},
            allocatable={"memory": 8 * GIB, "nvidia.com/gpu": 1},
            requested={"nvidia.com/gpu": 1},
        ),
    )
    engines = replace(SETTINGS.engines, gpu_images={EngineType.LlamaCpp: "llama-cuda:1"})
    story.cluster.settings = replace(SETTINGS, engines=engines)
    stuck = {"phase": PodPhase.PENDING, "unschedulable": "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."}
    story.cluster.troubles = {"assistant-[0-9a-f]{10}$": stuck}
    story.until_rest(seconds=30)
    story.say("The label of the node is taken away.")
    story.cluster.nodes = (story.cluster.nodes[0], replace(story.cluster.nodes[1], labels={}))
    story.until_rest(seconds=30)
    story.say("Label and GPU are there.")
    story.cluster.troubles = {}
    story.until_rest()


def no_memory(story: Story) -> None:
    """No node has enough memory free."""
    story.say("No node has enough memory free.")
    story.cluster.nodes = (NodeFacts("node-1", allocatable={"memory": GIB}, requested={"memory": GIB - 1024**2}),)
    stuck = {"phase": PodPhase.PENDING, "unschedulable": "0/1 nodes are available: 1 Insufficient memory."}
    story.cluster.troubles = {"assistant-[0-9a-f]{10}$": stuck}
    story.until_rest(seconds=30)


def shared(story: Story) -> None:
    """Two tasks of one model share an engine, until none of them needs it."""
    story.say("Two tasks name the same model.")
    story.cluster.edit(tasks=[{"name": "chat", "model": "smollm2"}, {"name": "code", "model": "smollm2"}])
    story.until_rest()
    story.say("The task chat goes: the engine stays, for code needs it.")
    story.cluster.edit(tasks=[{"name": "code", "model": "smollm2"}])
    story.until_rest()
    story.say("The task code goes as well, while a request is still in flight.")
    story.cluster.in_flight = dict.fromkeys(re.findall(r"[0-9a-f]{10}", str(sorted(story.cluster.objects))), 1)
    story.cluster.edit(tasks=[{"name": "other", "model": "qwen3"}])
    for _ in range(8):
        story.one_pass()
        story.cluster.step()
    story.say("The request has ended.")
    story.cluster.in_flight = {}
    story.until_rest()


def model_edited(story: Story) -> None:
    """Another model is asked for than serves."""
    story.until_rest()
    story.lines.clear()
    story.say("The pool serves; `model` is edited to qwen3.")
    story.cluster.edit(tasks=[{"name": "chat", "model": "qwen3"}])
    story.until_rest()
    story.say("It is edited to a model that does not exist.")
    story.cluster.edit(tasks=[{"name": "chat", "model": "gone"}])
    story.until_rest()
    story.say("It is edited back.")
    story.cluster.edit(tasks=[{"name": "chat", "model": "smollm2"}])
    story.until_rest()


def new_revision(story: Story) -> None:
    """The tag of the active model moves."""
    story.until_rest()
    story.lines.clear()
    story.say("An hour later the tag stands for other weights.")
    story.cluster.resolutions["smollm2"] = {
        "version": 1,
        "ok": True,
        "digest": "sha256:" + "2" * 64,
        "size": 90_000_000,
    }
    story.cluster.step(3601)
    story.until_rest()


def operator_upgraded(story: Story) -> None:
    """The operator comes back with another default image."""
    story.until_rest()
    story.lines.clear()
    story.say("The operator is replaced by another version, with a higher epoch; routers are rolled, engines are not.")
    engines = replace(SETTINGS.engines, llama_server_image="arbiter.local/arbiter-llama-server:0.2.0")
    upgraded = replace(SETTINGS, image="arbiter.local/arbiter:0.2.0", engines=engines, epoch=4)
    story.cluster.settings = upgraded
    story.cluster.jobs.clear()
    story.until_rest()


def model_deleted(story: Story) -> None:
    """The LocalModel of what serves is deleted."""
    story.until_rest()
    story.lines.clear()
    story.say("The LocalModel of what serves is deleted.")
    smollm2 = story.cluster.models.pop("smollm2")
    story.until_rest()
    story.say("It is created again.")
    story.cluster.models["smollm2"] = smollm2
    story.until_rest()


def name_taken(story: Story) -> None:
    """A Service of somebody else has the pool's name."""
    key = ObjectKey("Service", "assistant")
    story.say("A Service of somebody else has the pool's name.")
    story.cluster.objects[key] = Kept("theirs", "", {"kind": "Service", "metadata": {"name": "assistant"}})
    story.until_rest(seconds=20)
    story.say("They delete it.")
    del story.cluster.objects[key]
    story.until_rest()


def pull_fails(story: Story) -> None:
    """The engine's image cannot be pulled."""
    story.say("The engine's image cannot be pulled.")
    waiting = {
        "phase": PodPhase.PENDING,
        "waiting": "ImagePullBackOff",
        "waiting_container": "engine",
        "waiting_message": 'Back-off pulling image "arbiter.local/arbiter-llama-server:0.1.0": not found',
    }
    story.cluster.troubles = {"assistant-[0-9a-f]{10}$": waiting}
    story.until_rest(seconds=20)
    story.say("The image is there.")
    story.cluster.troubles = {}
    story.until_rest()


def crash_loop(story: Story) -> None:
    """The engine ends right after its start."""
    story.say("The engine ends right after its start.")
    crashed = {
        "waiting": "CrashLoopBackOff",
        "waiting_container": "engine",
        "restarts": 3,
        "last_exit": 1,
        "last_message": "error: unknown model architecture: 'nonsense'",
    }
    story.cluster.troubles = {"assistant-[0-9a-f]{10}$": crashed}
    story.until_rest(seconds=20)


def rubbish(story: Story) -> None:
    """The engine is up and answers nonsense."""
    story.say("The engine answers without a token.")
    story.cluster.answers["prove/"] = {"status": 200, "reply": {"hello": "world"}, "problem": "no choices"}
    for _ in range(8):
        story.one_pass()
        story.cluster.step()
    story.say("It answers as it should.")
    story.cluster.answers.clear()
    story.until_rest(seconds=30)


def suspended(story: Story) -> None:
    """A pool is suspended while its model is edited and an object is deleted."""
    story.until_rest()
    story.lines.clear()
    story.say("The pool is suspended, scaled and edited, and its operator upgraded: nothing changes but the status.")
    story.cluster.edit(suspend=True, replicas=3)
    story.cluster.settings = replace(SETTINGS, image="arbiter.local/arbiter:0.2.0")
    story.until_rest()
    story.say("It goes on.")
    story.cluster.edit(suspend=False)
    story.until_rest()


def status_lost(story: Story) -> None:
    """The status is lost in a restore, and adopted back from the table."""
    story.until_rest()
    story.lines.clear()
    story.say("The pool's status is lost; the LocalModel is gone too.")
    fields = story.cluster.pool.to_dict()
    story.cluster.pool = type(story.cluster.pool).model_validate({**fields, "status": {"observedGeneration": 0}})
    del story.cluster.models["smollm2"]
    story.cluster.jobs.clear()
    story.until_rest()


def restored(story: Story) -> None:
    """The cluster is restored from a backup, so that routers are ahead of it."""
    story.until_rest()
    story.lines.clear()
    story.say("Routers have obeyed a later leader than the one that the restored cluster knows.")
    story.cluster.obeyed = story.cluster.obeyed.replace('"epoch":3', '"epoch":7')
    story.cluster.deaf = True
    story.one_pass()
    story.say("The leader has made sure that it leads, and has risen above them.")
    story.cluster.settings = replace(SETTINGS, epoch=8)
    story.cluster.deaf = False
    story.until_rest()


def fallback(story: Story) -> None:
    """The fallback answers while the active model's engine is away."""
    story.cluster.edit(tasks=[{"name": "chat", "model": "smollm2", "fallback": ["qwen3"]}])
    story.until_rest()
    story.say("The engine of smollm2 loses its pods.")
    active = story.cluster.pool.status.tasks[0].active
    assert active is not None
    evicted = {"phase": PodPhase.FAILED, "evicted": "The node was low on resource: memory."}
    story.cluster.troubles = {active.revision: evicted}
    story.until_rest()


def not_found(story: Story) -> None:
    """The LocalModel is not there; it comes later, and its source is not found."""
    story.say("The pool is applied without its LocalModel.")
    smollm2 = story.cluster.models.pop("smollm2")
    story.until_rest(seconds=40)
    story.say("The LocalModel comes, and its source is not there.")
    missing = {
        "version": 1,
        "ok": False,
        "reason": "SourceNotFound",
        "message": "registry.example knows no q4 of smollm2",
    }
    story.cluster.resolutions["smollm2"] = missing
    story.cluster.models["smollm2"] = smollm2
    for _ in range(4):
        story.one_pass()
        story.cluster.step(40)
    story.say("The source is there.")
    del story.cluster.resolutions["smollm2"]
    story.until_rest(seconds=60)


def chosen(story: Story) -> None:
    """A task leaves the model to Arbiter."""
    story.say("The task names no model, the pool allows two.")
    story.cluster.edit(tasks=[{"name": "chat"}], models=["smollm2", "qwen3"])
    story.until_rest()


def managed(story: Story) -> None:
    """A pool without routers."""
    story.say("The pool has no routers: it is only managed.")
    story.cluster.edit(router={"replicas": 0})
    story.until_rest()


STORIES: dict[str, tuple[str, Callable[[Story], None]]] = {
    "six-lines": (SIX_LINES, six_lines),
    "ollama": (OLLAMA, ollama),
    "carried": (CARRIED, carried),
    "cleaned": (TWO_MODELS.replace("oci://registry.example/", "ollama://"), cleaned),
    "external": (EXTERNAL, external),
    "gpu-waits": (SIX_LINES, gpu_waits),
    "no-memory": (SIX_LINES, no_memory),
    "shared": (TWO_MODELS, shared),
    "model-edited": (TWO_MODELS, model_edited),
    "new-revision": (SIX_LINES, new_revision),
    "operator-upgraded": (SIX_LINES, operator_upgraded),
    "model-deleted": (SIX_LINES, model_deleted),
    "name-taken": (SIX_LINES, name_taken),
    "pull-fails": (SIX_LINES, pull_fails),
    "crash-loop": (SIX_LINES, crash_loop),
    "rubbish": (SIX_LINES, rubbish),
    "suspended": (SIX_LINES, suspended),
    "status-lost": (SIX_LINES, status_lost),
    "restored": (SIX_LINES, restored),
    "fallback": (TWO_MODELS, fallback),
    "not-found": (SIX_LINES, not_found),
    "chosen": (TWO_MODELS, chosen),
    "managed": (SIX_LINES, managed),
}


@pytest.mark.parametrize("name", STORIES)
def test_a_story_goes_as_it_is_written(name: str) -> None:
    """What is done and said, step by step, is what the golden file tells."""
    manifests, tell = STORIES[name]
    story = Story(cluster(manifests))
    tell(story)
    golden = GOLDENS / f"{name}.txt"
    if os.environ.get("ARBITER_GOLDENS") == "write":
        golden.write_text(story.text())
    assert story.text() == golden.read_text()
