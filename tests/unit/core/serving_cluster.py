"""A small cluster of values: it carries plans out and lets pods start, models load and routers obey, a step at a time.

Nothing here decides anything about Arbiter; what a real cluster would do in seconds it does at each `step`.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import yaml

from arbiter.api.localmodel import LocalModel
from arbiter.api.modelpool import ModelPool
from arbiter.api.modelswap import ModelSwap
from arbiter.api.swappolicy import DEFAULT_POLICY
from arbiter.core.actions import Apply, Create, Emit, ObjectKey, Remove, StartJob, StopJob, WriteStatus
from arbiter.core.facts import NodeFacts
from arbiter.core.feed import Feed
from arbiter.core.manifests import names
from arbiter.core.routes import RouteTable
from arbiter.core.snapshot import (
    EngineView,
    JobResult,
    LoadedModel,
    ModelSnapshot,
    OperatorSettings,
    PodPhase,
    PodView,
    PoolSnapshot,
    RouterView,
    Standing,
)
from arbiter.core.traffic import Cause, Slice, Tally
from arbiter.engines.runnable import EngineSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from arbiter.api.swappolicy import SwapPolicySpec
    from arbiter.core.actions import Action, Plan
    from arbiter.core.routes import Target

START = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
GIB = 1024**3
DIGEST = "sha256:" + "1" * 64
RESOLVED = {"version": 1, "ok": True, "digest": DIGEST, "size": 100_000_000, "contextWindow": 8192}
TOKEN = {"choices": [{"message": {"content": "Hi"}}], "usage": {"completion_tokens": 1}}

SETTINGS = OperatorSettings(
    image="arbiter.local/arbiter:0.1.0",
    engines=EngineSettings.of("arbiter.local", "0.1.0"),
    namespace="arbiter-system",
    epoch=3,
)


@dataclass
class Kept:
    """An object in the store."""

    uid: str
    owner: str
    body: dict[str, Any]
    made: datetime = START


_WORKLOADS = frozenset({"Deployment", "Job"})


@dataclass
class Cluster:
    """One namespace with one pool and its models."""

    pool: ModelPool
    models: dict[str, LocalModel]
    settings: OperatorSettings = SETTINGS
    now: datetime = START
    nodes: tuple[NodeFacts, ...] = (NodeFacts("node-1", allocatable={"memory": 8 * GIB}),)
    objects: dict[ObjectKey, Kept] = field(default_factory=dict)
    jobs: dict[str, JobResult] = field(default_factory=dict)
    troubles: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What is wrong with the pods of a Deployment, by the end of its name, as fields of a PodView."""
    asked: dict[str, StartJob] = field(default_factory=dict)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What a job ends with instead of well, by the beginning of its key, as fields of a JobResult."""
    resolutions: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What a resolver finds, by model."""
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What each resolver has found, by the uid of its Job."""
    started: dict[str, int] = field(default_factory=dict)
    """How many steps ago a Deployment's pods were made."""
    carries: dict[str, str] = field(default_factory=dict)
    """The last words of the Jobs that carry a model and fail, by model."""
    fetched: dict[str, tuple[int, int]] = field(default_factory=dict)
    """How far those Jobs are that take longer, by model; while it stands here they do not end."""
    ends: dict[str, str | None] = field(default_factory=dict)
    """What each of those Jobs that has ended left as its last words; None for one that ended well."""
    same_claim: tuple[str, ...] = ()
    made_of: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Of which file and with which parameters the shared engine has models, by LocalModel; else each of its own."""
    stored: dict[str, str] = field(default_factory=dict)
    loaded: dict[str, int] = field(default_factory=dict)
    obeyed: str = ""
    in_flight: dict[str, int] = field(default_factory=dict)
    counter: int = 0
    computing: set[str] = field(default_factory=set)
    """Engines that say that they compute, by their Deployment."""
    deaf: bool = False
    """Routers do not obey new tables."""
    last_heard: tuple[RouterView, ...] | None = None
    """What routers said before the operator was cut off from them; None while it is not."""
    swaps: dict[str, ModelSwap] = field(default_factory=dict)
    policy: SwapPolicySpec | None = DEFAULT_POLICY
    rate: float = 0.0
    """Requests a second of each task."""
    failing: dict[str, float] = field(default_factory=dict)
    """The share of requests that fails, by model."""
    slices: list[Slice] = field(default_factory=list)
    checks: dict[str, str | None] = field(default_factory=dict)
    """What ConfigMaps with checks hold."""
    says: dict[str, str] = field(default_factory=dict)
    """What models answer, by name."""

    # What a pass sees.

    def snapshot(self) -> PoolSnapshot:
        """Give the pool as it is now."""
        text = self._routes_text()
        return PoolSnapshot(
            pool=self.pool,
            models=dict(self.models),
            standing=self._standing(),
            engines=self._engines(),
            routers=self._routers(),
            nodes=self.nodes,
            settings=self.settings,
            jobs=dict(self.jobs),
            table=RouteTable.from_text(text) if text else None,
            carriers={key.name: self._carrier(key) for key in self._carriers()},
            same_claim=self.same_claim,
            swaps=tuple(self.swaps.values()),
            policy=self.policy,
            checks=dict(self.checks),
        )

    def model_snapshot(self, name: str) -> ModelSnapshot:
        """Give a model as it is now."""
        key = ObjectKey("Job", names.resolver_name(name))
        pods = []
        if key in self.objects and self.started.get(key.name, 0) > 0:
            result = self.results.setdefault(self.objects[key].uid, self.resolutions.get(name, RESOLVED))
            pods = [self._pod(key.name, phase=PodPhase.SUCCEEDED, last_exit=0, last_message=json.dumps(result))]
        return ModelSnapshot(self.models[name], self._standing(), tuple(pods), self._used_by(name), self.settings)

    def _used_by(self, name: str) -> dict[str, tuple[str, ...]]:
        tasks = tuple(task.name for task in self.pool.spec.tasks if name in {task.model, *task.fallback})
        return {self.pool.metadata.name: tasks} if tasks else {}

    def _standing(self) -> dict[ObjectKey, Standing]:
        return {
            key: Standing(key, kept.uid, kept.owner, copy.deepcopy(kept.body)) for key, kept in self.objects.items()
        }

    def _deployments(self, component: str) -> Iterable[str]:
        for key, kept in sorted(self.objects.items()):
            if key.kind == "Deployment" and kept.body["metadata"]["labels"].get(names.COMPONENT) == component:
                yield key.name

    def _pod(self, name: str, **more: Any) -> PodView:  # noqa: ANN401 - fields of a PodView
        fields: dict[str, Any] = {"phase": PodPhase.RUNNING, "ready": False, "deleting": False, **more}
        made = next(kept.made for key, kept in self.objects.items() if key.name == name and key.kind in _WORKLOADS)
        return PodView(name=f"{name}-0", address="10.0.0.1", node="node-1", created_at=made, uid=f"{name}-0", **fields)

    def _trouble(self, deployment: str) -> dict[str, Any] | None:
        return next((fields for end, fields in self.troubles.items() if re.search(end, deployment)), None)

    def _is_up(self, deployment: str) -> bool:
        wanted = self.objects[ObjectKey("Deployment", deployment)].body["spec"]["replicas"]
        return wanted > 0 and self.started.get(deployment, 0) > 1 and self._trouble(deployment) is None

    def _engines(self) -> dict[str, EngineView]:
        found = {}
        for name in self._deployments(names.ENGINES):
            pods: tuple[PodView, ...] = ()
            if self.started.get(name, 0) > 0:
                trouble = self._trouble(name) or {}
                pods = (self._pod(name, **{"ready": self._is_up(name), **trouble}),)
            shared = name.endswith("-ollama") and self._is_up(name)
            replicas = self.objects[ObjectKey("Deployment", name)].body["spec"]["replicas"]
            found[name] = EngineView(
                name=name,
                pods=pods,
                ready_endpoints=replicas if self._is_up(name) else 0,
                loaded=tuple(LoadedModel(n, "", m) for n, m in self.loaded.items()) if shared else None,
                stored=dict(self.stored) if shared else None,
                idle=None if name.endswith("-ollama") else name not in self.computing,
            )
        return found

    def _carriers(self) -> Iterable[ObjectKey]:
        return [
            key
            for key, kept in sorted(self.objects.items())
            if key.kind == "Job" and kept.body["metadata"]["labels"].get(names.COMPONENT) == names.CARRIER
        ]

    def _carrier(self, key: ObjectKey) -> tuple[PodView, ...]:
        """The pod of a Job that carries a model."""
        kept = self.objects[key]
        model = kept.body["spec"]["template"]["metadata"]["labels"][names.MODEL]
        if not self.started.get(key.name, 0):
            return ()
        if "status" not in kept.body:
            fetched, fetching = self.fetched.get(model, (None, None))
            return (self._pod(key.name, fetched=fetched, fetching=fetching),)
        if (words := self.ends[key.name]) is not None:
            return (self._pod(key.name, phase=PodPhase.FAILED, last_exit=1, last_message=words),)
        return (self._pod(key.name, phase=PodPhase.SUCCEEDED, last_exit=0),)

    def _end_carrier(self, key: ObjectKey) -> None:
        """Let a Job that carries a model end, and the model be in the store if it ended well."""
        body = self.objects[key].body
        pod = body["spec"]["template"]
        model = pod["metadata"]["labels"][names.MODEL]
        if self.started[key.name] < 2 or "status" in body or model in self.fetched:
            return
        wrong = model in self.carries
        end = {"type": "Failed" if wrong else "Complete", "status": "True", "lastTransitionTime": self.now.isoformat()}
        body["status"] = {"conditions": [end]}
        self.ends[key.name] = self.carries.get(model)
        if not wrong:
            words = dict(word.split("=", 1) for word in pod["spec"]["containers"][0]["args"] if "=" in word)
            self.stored[words["--model"]] = words["--digest"]

    def _routers(self) -> tuple[RouterView, ...]:
        name = next(iter(self._deployments(names.ROUTER)), None)
        if name is None or not self.started.get(name, 0):
            return ()
        if self.last_heard is not None:
            return self.last_heard
        pod = self._pod(name, ready=self._is_up(name) and bool(self.obeyed), **(self._trouble(name) or {}))
        if not self.obeyed:
            return (RouterView(pod, in_flight={}, read_at=self.now),)
        table = RouteTable.from_text(self.obeyed)
        return (
            RouterView(
                pod,
                epoch=table.epoch,
                generation=table.generation,
                hash=table.hash,
                fence=table.epoch,
                read_at=self.now,
                in_flight=dict(self.in_flight),
                feed=Feed("router-0", round(self.now.timestamp() * 1000), tuple(self.slices[-400:])),
            ),
        )

    def cut_off(self) -> None:
        """Let the operator hear nothing more from routers, which go on serving."""
        self.last_heard = tuple(replace(router, silent=True) for router in self._routers())

    def _routes_text(self) -> str:
        kept = self.objects.get(ObjectKey("ConfigMap", names.routes_name(self.pool.metadata.name)))
        return "" if kept is None else kept.body["data"]["routes.json"]

    # What a plan does.

    def carry_out(self, action: Action) -> None:
        """Do one thing."""
        match action:
            case Create() if action.key.kind == "ModelSwap":
                self.ask(dict(action.manifest))
            case Apply() | Create():
                self._write(action)
            case Remove():
                self._remove(action)
            case StartJob():
                if not ((job := self.jobs.get(action.key)) is not None and job.running):
                    attempts = 0 if job is None or job.ok else job.attempts
                    self.jobs[action.key] = JobResult(
                        action.key, running=True, ok=False, at=self.now, attempts=attempts
                    )
                    self.asked[action.key] = action
            case StopJob():
                self.jobs.pop(action.key, None)
            case WriteStatus():
                self._write_status(action)
            case Emit():
                pass

    def _remove(self, action: Remove) -> None:
        match action.key.kind:
            case "ModelSwap":
                del self.swaps[action.key.name]
            case "Pod":
                # Another one starts in its place, and listens.
                self.deaf = False
            case _:
                assert self.objects[action.key].uid == action.uid
                del self.objects[action.key]
                self.started.pop(action.key.name, None)

    def _write(self, action: Apply | Create) -> None:
        key = action.key
        before = self.objects.get(key)
        body = copy.deepcopy(dict(action.manifest))
        owner = body["metadata"]["ownerReferences"][0]["uid"]
        assert before is None or (isinstance(action, Apply) and before.owner == owner), f"{key} is not ours to write"
        self.counter += 1
        same = before is not None and before.body.get("spec") == body.get("spec")
        generation = 1 if before is None else before.body["metadata"]["generation"] + (0 if same else 1)
        body["metadata"]["generation"] = generation
        body["metadata"]["creationTimestamp"] = self.now.isoformat()
        if key.kind == "Deployment":
            replicas = body["spec"]["replicas"]
            counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), replicas)
            body["status"] = {"observedGeneration": generation, **counts}
        if key.kind == "Secret":
            assert body.pop("stringData") == {"key": ""}
        made = before.made if before else self.now
        self.objects[key] = Kept(before.uid if before else f"uid-{self.counter}", owner, body, made)

    def _write_status(self, action: WriteStatus) -> None:
        self.counter += 1
        if action.kind == "ModelPool":
            assert action.version == self.pool.metadata.resource_version
            fields = {**self.pool.to_dict(), "status": dict(action.status)}
            fields["metadata"] = {**fields["metadata"], "resourceVersion": str(self.counter)}
            self.pool = ModelPool.model_validate(fields)
        elif action.kind == "ModelSwap":
            swap = self.swaps[action.name]
            assert action.version == swap.metadata.resource_version
            fields = {**swap.to_dict(), "status": dict(action.status)}
            fields["metadata"] = {**fields["metadata"], "resourceVersion": str(self.counter)}
            self.swaps[action.name] = ModelSwap.model_validate(fields)
        else:
            model = self.models[action.name]
            self.models[action.name] = LocalModel.model_validate({**model.to_dict(), "status": dict(action.status)})

    # What the cluster does by itself.

    def step(self, seconds: int = 5) -> None:
        """Let time pass: pods come one step further, jobs end, routers obey."""
        self.now += timedelta(seconds=seconds)
        for key in self.objects:
            if key.kind in _WORKLOADS:
                self.started[key.name] = self.started.get(key.name, 0) + 1
        for key in self._carriers():
            self._end_carrier(key)
        for name, job in list(self.jobs.items()):
            if job.running:
                self.jobs[name] = self._ended(name, job)
        if not self.deaf and any(self.started.get(name) for name in self._deployments(names.ROUTER)):
            self.obeyed = self._routes_text() or self.obeyed
        self._count(seconds)

    def _count(self, seconds: int) -> None:
        """Let routers count the requests of the time that has passed, in whole slices."""
        if not self.rate or not self.obeyed:
            return
        table = RouteTable.from_text(self.obeyed)
        length, end = table.slice_ms, round(self.now.timestamp() * 1000)
        first = (end - seconds * 1000) // length * length
        for start in range(first, end - length + 1, length):
            if any(each.start_ms == start for each in self.slices):
                continue
            for task in table.tasks.values():
                sides = {target.side: self._tally(target, length) for target in task.targets}
                self.slices.append(Slice("router-0", table.generation, task.name, start, length, sides))

    def _tally(self, target: Target, length_ms: int) -> Tally:
        routed = round(self.rate * length_ms / 1000 * target.weight / 100)
        share = next((share for name, share in self.failing.items() if target.backend.model.startswith(name)), 0.0)
        failed = round(routed * share)
        return Tally(routed, routed - failed, {Cause.SERVER_ERROR: failed} if failed else {})

    def _ended(self, key: str, job: JobResult) -> JobResult:
        wrong = next((fields for begin, fields in self.answers.items() if key.startswith(begin)), None)
        if wrong is not None:
            return replace(job, running=False, ok=False, at=self.now, attempts=job.attempts + 1, **wrong)
        what, model = key.partition("/")[0], str((self.asked[key].call.body or {}).get("model"))
        match what:
            case "pull" | "create":
                found = (told for name, told in self.resolutions.items() if name in model)
                self.stored[model] = str(next(found, RESOLVED)["digest"])
            case "load":
                self._load(model)
            case "unload":
                self.loaded.pop(model, None)
            case "delete":
                assert model not in self.loaded
                del self.stored[model]
            case _:
                pass
        return replace(job, running=False, ok=True, at=self.now, status=200, reply=self._said(what, model), attempts=0)

    def _said(self, what: str, model: str) -> dict[str, Any]:
        """What a server answers."""
        if what == "show":
            return self._shown(model)
        if what not in {"prove", "warm", "check"}:
            return {}
        text = next((text for name, text in self.says.items() if model.startswith(name)), "Hi")
        return {**TOKEN, "choices": [{"message": {"content": text}}]}

    def _load(self, model: str) -> None:
        """Load a model: a file that is in memory is loaded no second time, unless its options are others."""
        shown = self._shown(model)
        for name in list(self.loaded):
            if self._shown(name)["modelfile"] == shown["modelfile"]:
                if self._shown(name) == shown:
                    return
                del self.loaded[name]
        self.loaded[model] = GIB

    def _shown(self, model: str) -> dict[str, Any]:
        """What the engine tells of a model: of which file it is made, and with which options it is loaded."""
        weights, parameters = self.made_of.get(model.rsplit("/", maxsplit=1)[-1].split(":", maxsplit=1)[0], ("", ""))
        file = weights or sha256(model.encode()).hexdigest()
        return {"modelfile": f"# told\nFROM /models/blobs/sha256-{file}\n", "parameters": parameters}

    # What people do.

    def ask(self, manifest: dict[str, Any]) -> None:
        """Make a ModelSwap."""
        self.counter += 1
        name = manifest["metadata"]["name"]
        assert name not in self.swaps, f"{name} is there already"
        about = {"namespace": "demo", "uid": f"swap-{self.counter}", "generation": 1, **manifest["metadata"]}
        about |= {"creationTimestamp": self.now.isoformat(), "resourceVersion": str(self.counter)}
        self.swaps[name] = ModelSwap.model_validate({**manifest, "metadata": about})

    def intend(self, name: str, intent: str) -> None:
        """Tell a swap what to do."""
        self.counter += 1
        fields = self.swaps[name].to_dict()
        fields["spec"] = {**fields["spec"], "intent": intent}
        fields["metadata"] = {**fields["metadata"], "resourceVersion": str(self.counter), "generation": 2}
        self.swaps[name] = ModelSwap.model_validate(fields)

    def edit(self, **spec: Any) -> None:  # noqa: ANN401 - fields of a spec
        """Change the pool's spec."""
        fields = self.pool.to_dict()
        fields["spec"] = {**fields["spec"], **spec}
        fields["metadata"] = {**fields["metadata"], "generation": self.pool.metadata.generation + 1}
        self.pool = ModelPool.model_validate(fields)


def cluster(text: str, settings: OperatorSettings = SETTINGS) -> Cluster:
    """Make one of manifests; the pool is the last of them."""
    documents = [document for document in yaml.safe_load_all(text) if document]
    for number, document in enumerate(documents):
        document["metadata"] |= {"namespace": "demo", "uid": f"{document['kind']}-{number}", "generation": 1}
    models = [LocalModel.model_validate(each) for each in documents if each["kind"] == "LocalModel"]
    pools = [ModelPool.model_validate(each) for each in documents if each["kind"] == "ModelPool"]
    (pool,) = pools
    return Cluster(pool, {model.metadata.name: model for model in models}, settings)


def told(plan: Plan) -> list[str]:
    """Write a plan as people read it."""
    lines = [line for action in plan.actions for line in _lines(action)]
    lines += [f"note {note}" for note in plan.notes]
    return lines


def _lines(action: Action) -> list[str]:
    match action:
        case Apply() if action.key.kind == "ConfigMap":
            lines = [f"apply {action.key}", *(f"  {line}" for line in _routes(action.manifest["data"]["routes.json"]))]
        case Apply():
            lines = [f"apply {action.key}"]
        case Create():
            lines = [f"create {action.key}"]
        case Remove():
            lines = [f"remove {action.key}"]
        case StartJob():
            lines = [f"ask {action.url}: {action.key}: {action.call.asked}"]
        case StopJob():
            lines = [f"stop asking {action.key}"]
        case Emit():
            lines = [f"event {'warning' if action.warning else 'normal'} {action.reason.code}"]
        case WriteStatus() if action.kind == "ModelSwap":
            lines = [f"status of {action.kind} {action.name}", *(f"  {line}" for line in _swap(action.status))]
        case WriteStatus():
            lines = [f"status of {action.kind} {action.name}", *(f"  {line}" for line in _status(action.status))]
    return lines


def _routes(text: str) -> list[str]:
    table = RouteTable.from_text(text)
    lines = [f"epoch {table.epoch} generation {table.generation}"]
    for name, task in sorted(table.tasks.items()):
        targets = [f"{each.weight} % to {each.backend.model}@{each.backend.revision}" for each in task.targets]
        targets += [f"else {each.model}@{each.revision}" for each in task.fallback]
        hold = f"refused: {task.hold.hopeless}" if task.hold.hopeless else "held"
        lines.append(f"{name}: {', '.join(targets) or hold}")
    return lines


def _status(status: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{each['type']} {each['status']} {each['reason']}: {each['message']}" for each in status.get("conditions", ())
    ]
    for task in status.get("tasks", ()):
        serving = _serving(task.get("active"))
        coming = f", {_serving(task['candidate'])} comes" if "candidate" in task else ""
        wanted = f", acted on {task['requested']}" if "requested" in task else ""
        lines.append(f"task {task['name']}: {serving}{coming}{wanted}; {task['reason']}: {task['message']}")
    lines += [
        f"resident {each['model']} {each['revision']}: {each['state']} {each.get('memory', '')}".rstrip()
        for each in status.get("residents", ())
    ]
    named = ("digest", "size", "memory", "contextWindow", "capabilities", "endpoint", "replicas")
    return [*lines, *(f"{name} {status[name]}" for name in named if status.get(name) not in (None, []))]


def _swap(status: Mapping[str, Any]) -> list[str]:
    place = " ".join(str(status[name]) for name in ("phase", "outcome", "strategy", "progress") if name in status)
    lines = [f"{place}: {status['reason']}: {status['message']}"]
    if "next" in status:
        lines.append(f"next: {status['next']['action']} {str(status['next'].get('at', ''))[11:19]}".rstrip())
    for metric in status.get("metrics", ()):
        figures = f"old {metric['old']['value']} of {metric['old']['count']}, new {metric['new']['value']}"
        lines.append(
            f"{metric['name']}: {figures} of {metric['new']['count']}; rollback {metric['rollback']}, promotion "
            f"{metric.get('promotion', '-')}, {metric['blocks']} blocks, {metric['gaps']} gaps, {metric['verdict']}"
        )
    return lines


def _serving(serving: Mapping[str, str] | None) -> str:
    return "nothing" if serving is None else f"{serving['model']}@{serving['revision']}"
