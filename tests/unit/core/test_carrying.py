"""Models that a shared engine cannot pull itself: what their Jobs are told, when they are made, how they end."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from arbiter.api.localmodel import LocalModel
from arbiter.api.reasons import ConditionType, ReasonCode
from arbiter.core.actions import Create, ObjectKey, Remove, StartJob, WriteStatus
from arbiter.core.manifests import names
from arbiter.core.plan import plan_pool
from arbiter.core.revisions import FrozenRevision
from tests.unit.core.serving_cluster import DIGEST, GIB, SETTINGS, Cluster, Kept, cluster
from tests.unit.core.test_pool_plan import actions, is_ready, said, settle_once
from tests.unit.core.test_serving_repeats import settle, whole
from tests.unit.core.test_serving_stories import CARRIED, OLLAMA

SUM = "7" * 64


def carried(settings: Any = SETTINGS, pool: dict[str, Any] | None = None, **spec: Any) -> Cluster:  # noqa: ANN401 - fields of specs
    """Give a cluster whose one model has this spec and runs on the shared engine."""
    story = cluster(CARRIED, settings)
    fields = story.models["smollm2"].to_dict()
    story.models["smollm2"] = LocalModel.model_validate(
        {**fields, "spec": {"engine": {"type": "Ollama"}, "contextWindow": 2048, **spec}}
    )
    if pool:
        story.edit(**pool)
    return story


def jobs(story: Cluster) -> list[ObjectKey]:
    """Give the Jobs that carry models."""
    labels = {key: kept.body["metadata"]["labels"] for key, kept in story.objects.items() if key.kind == "Job"}
    return sorted(key for key, each in labels.items() if each.get(names.COMPONENT) == names.CARRIER)


def until_job(story: Cluster) -> dict[str, Any]:
    """Pass until a Job stands that carries the model, and give its pod's spec."""
    while not jobs(story):
        settle_once(story)
    (key,) = jobs(story)
    body: dict[str, Any] = story.objects[key].body["spec"]["template"]["spec"]
    return body


@pytest.mark.parametrize(
    ("spec", "arguments", "volumes"),
    [
        pytest.param(
            {"source": "oci://registry.example/m:1", "pullSecret": "login"},
            ["--mounted=/model/model.gguf"],
            {"model": {"image": {"reference": f"registry.example/m@{DIGEST}", "pullPolicy": "IfNotPresent"}}},
            id="an image is mounted",
        ),
        pytest.param(
            {"source": "pvc://models/folder/m.gguf"},
            ["--mounted=/model/m.gguf"],
            {"model": {"persistentVolumeClaim": {"claimName": "models", "readOnly": True}}},
            id="a claim is mounted",
        ),
        pytest.param(
            {"source": "https://files.example/m.gguf", "sha256": SUM, "pullSecret": "login"},
            [f"--sha256={SUM}", "--token-file=/credentials/token"],
            {
                "store": {"emptyDir": {}},
                "credentials": {
                    "secret": {"secretName": "login", "items": [{"key": "token", "path": "token"}], "optional": True}
                },
            },
            id="a file is downloaded with a token",
        ),
        pytest.param(
            {"source": "hf://org/repo/m.gguf"}, ["--source=hf://org/repo/m.gguf"], {"store": {"emptyDir": {}}}, id="hub"
        ),
        pytest.param(
            {"source": "ollama://registry.example:5000/team/m:1", "pullSecret": "login"},
            ["--docker-config=/credentials/config.json"],
            {
                "store": {"emptyDir": {}},
                "credentials": {
                    "secret": {
                        "secretName": "login",
                        "items": [{"key": ".dockerconfigjson", "path": "config.json"}],
                        "optional": True,
                    }
                },
            },
            id="a library that wants a password",
        ),
    ],
)
def test_a_job_gets_what_its_source_asks_for(
    spec: dict[str, Any], arguments: list[str], volumes: dict[str, Any]
) -> None:
    """Images and claims are mounted as an engine of its own would have them; everything else is downloaded."""
    story = carried(**spec)
    pod = until_job(story)
    (container,) = pod["containers"]
    for argument in (*arguments, f"--digest={DIGEST}", '--options={"num_ctx": 2048}'):
        assert argument in container["args"]
    assert "--engine=http://assistant-ollama.demo.svc.cluster.local" in container["args"]
    found = {volume["name"]: {k: v for k, v in volume.items() if k != "name"} for volume in pod["volumes"]}
    assert found == {"scratch": {"emptyDir": {}}, **volumes}
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == set(found)
    images = [{"name": "login"}] if spec["source"].startswith("oci") else None
    assert pod.get("imagePullSecrets") == images
    (key,) = jobs(story)
    labels = story.objects[key].body["spec"]["template"]["metadata"]["labels"]
    policy = story.objects[ObjectKey("NetworkPolicy", "assistant-engines")].body["spec"]["ingress"][0]["from"]
    allowed = [each["podSelector"]["matchLabels"] for each in policy if "podSelector" in each]
    assert any(selector.items() <= labels.items() for selector in allowed)
    settle(story, whole())
    assert is_ready(story)
    assert jobs(story) == []


def test_a_download_goes_beside_the_store_where_that_is_in_a_claim() -> None:
    """On the engine's node, because a claim may let only one in; else the pool's placement counts."""
    placement = {"nodeSelector": {"disk": "fast"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]}
    story = carried(source="hf://org/repo/m.gguf", pool={"cache": {"claim": "kept"}, "placement": placement})
    pod = until_job(story)
    assert {"name": "store", "persistentVolumeClaim": {"claimName": "kept"}} in pod["volumes"]
    (term,) = pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["labelSelector"]["matchLabels"] == names.shared_engine_selector("assistant")
    assert pod["nodeSelector"] == placement["nodeSelector"]
    assert [each["key"] for each in pod["tolerations"]] == ["gpu"]
    without = until_job(carried(source="hf://org/repo/m.gguf", pool={"placement": placement}))
    assert "affinity" not in without


def test_what_sources_are_trusted_by_and_asked_without_is_handed_on() -> None:
    """As resolvers and downloads have it."""
    engines = replace(SETTINGS.engines, trusted="authorities")
    settings = replace(SETTINGS, engines=engines, plain_http=("registry.example:5000",))
    (container,) = until_job(carried(settings, source="hf://org/repo/m.gguf"))["containers"]
    assert "--plain-http=registry.example:5000" in container["args"]
    assert "SSL_CERT_FILE" in {variable["name"] for variable in container["env"]}


@pytest.mark.parametrize(
    ("words", "code", "want"),
    [
        ("SumMismatch: it has the sum 1", ReasonCode.FetchFailed, "it has the sum 1; put the right file there, or"),
        ("AccessDenied: no entry", ReasonCode.FetchFailed, "no entry; look after the Secret that spec.pullSecret"),
        ("NoSpace: full", ReasonCode.FetchFailed, "full; give the pool a larger claim (spec.cache)"),
        ("EngineRefused: no GGUF", ReasonCode.LoadFailed, "no GGUF; check that the file is a GGUF model"),
        ("EngineUnreachable: no answer", ReasonCode.LoadFailed, "the shared engine: no answer"),
        ("Killed", ReasonCode.FetchFailed, "the shared engine: Killed"),
        ("", ReasonCode.FetchFailed, "it ended with exit code 1"),
    ],
)
def test_the_last_words_of_a_job_say_what_to_do(words: str, code: ReasonCode, want: str) -> None:
    """As a sentence, and it is told from a failure of the engine."""
    story = carried(source="oci://registry.example/m:1")
    story.carries["smollm2"] = words
    until_job(story)
    for _ in range(2):
        settle_once(story)
    task = story.pool.status.tasks[0]
    assert task.reason == code
    assert want in (task.message or "")
    assert (task.message or "").startswith("smollm2 could not be carried into the shared engine: ")


def test_attempts_come_after_growing_pauses_whichever_operator_looks() -> None:
    """The name of the Job that stands tells how often it was tried; each attempt is no write of the status."""
    story = carried(source="oci://registry.example/m:1")
    story.carries["smollm2"] = "SourceUnreachable: nobody answers"
    until_job(story)
    made: list[float] = []
    writes = 0
    for _ in range(500):
        story.jobs.clear()
        for action in actions(story):
            if isinstance(action, Create):
                made.append(story.now.timestamp())
                assert action.key.name.endswith(f"-carry-{len(made) + 1}")
            writes += isinstance(action, WriteStatus) and len(made) > 0
            story.carry_out(action)
        assert 1 <= len(jobs(story)) <= 2
        story.step(5)
    pauses = [later - before for before, later in pairwise(made)]
    assert pauses == sorted(pauses)
    assert pauses[0] < 60
    assert 600 <= pauses[-1] <= 630
    assert writes <= 1  # that the pool is Stalled by now


def test_a_job_stays_while_its_engine_is_away_and_goes_when_nobody_needs_it() -> None:
    """What it has downloaded by then is worth waiting for."""
    story = carried(source="oci://registry.example/m:1")
    story.fetched["smollm2"] = (1, GIB)
    until_job(story)
    story.troubles = {"ollama": {"waiting": "ContainerCreating"}}
    assert not [action for action in actions(story) if isinstance(action, Remove)]
    story.edit(tasks=[{"name": "chat", "model": "another"}])
    (key,) = jobs(story)
    assert key in [action.key for action in actions(story) if isinstance(action, Remove)]


def test_what_was_carried_and_is_not_seen_is_carried_again() -> None:
    """The engine may have lost its store in between."""
    story = carried(source="oci://registry.example/m:1")
    until_job(story)
    story.step()
    story.step()
    story.stored.clear()
    assert not [action for action in actions(story) if isinstance(action, Create)]
    story.now = story.now.replace(minute=story.now.minute + 1)
    (made,) = [action for action in actions(story) if isinstance(action, Create)]
    assert made.key.name.endswith("-carry-2")


def test_a_job_of_somebody_else_is_left_alone() -> None:
    """Its name is needed, and that is said."""
    story = carried(source="oci://registry.example/m:1")
    until_job(story)
    (job,) = jobs(story)
    theirs = story.objects.pop(job)
    story.objects[job] = Kept("theirs", "somebody", {**theirs.body, "metadata": {"name": job.name, "labels": {}}})
    for action in actions(story):
        story.carry_out(action)
    assert story.objects[job].uid == "theirs"
    task = story.pool.status.tasks[0]
    assert task.reason == ReasonCode.NameTaken
    assert f"Job {job.name} belongs to somebody else" in (task.message or "")


def test_a_pod_that_cannot_start_is_told() -> None:
    """Such as one whose image is missing."""
    story = carried(source="oci://registry.example/m:1")
    until_job(story)
    snapshot = story.snapshot()
    ((name, (pod,)),) = snapshot.carriers.items()
    stuck = replace(pod, waiting="ImagePullBackOff", waiting_container="fetch", waiting_message="not found")
    (write,) = [
        action
        for action in plan_pool(replace(snapshot, carriers={name: (stuck,)}), story.now).actions
        if isinstance(action, WriteStatus)
    ]
    (task,) = write.status["tasks"]
    assert task["reason"] == ReasonCode.ImageNotPulled
    assert "the Job that carries smollm2 into the shared engine" in task["message"]


def test_a_frozen_form_keeps_how_its_model_is_carried() -> None:
    """So the LocalModel may go; and another sum is another revision."""
    found = []
    sums: tuple[dict[str, Any], ...] = ({}, {"sha256": SUM})
    for sha256 in sums:
        story = carried(source="oci://registry.example/m:1", pullSecret="login", **sha256)
        until_job(story)
        bodies = [kept.body["data"] for key, kept in story.objects.items() if key.kind == "ControllerRevision"]
        (frozen,) = [FrozenRevision.read(body, "it") for body in bodies if "revision" in body]
        assert frozen.carried is not None
        assert (frozen.carried.sha256, frozen.carried.pull_secret) == (sha256.get("sha256", ""), "login")
        found.append(frozen.revision)
    assert found[0] != found[1]


def test_a_model_in_several_files_is_refused_before_anything_is_downloaded() -> None:
    """Ollama makes no model of the parts."""
    story = carried(source="hf://org/repo/m-00001-of-00003.gguf")
    settle(story, whole())
    task = story.pool.status.tasks[0]
    assert task.reason == ReasonCode.ModelNotRunnable
    assert "spec.source: must name a GGUF file in one part" in (task.message or "")
    whole_one = carried(source="hf://org/repo/m-00001-of-00001.gguf")
    settle(whole_one, whole())
    assert is_ready(whole_one)


def test_a_registry_without_tls_is_pulled_from_without_it() -> None:
    """Exactly those that the operator is told of."""
    for plain, insecure in ((("registry.example:5000",), {"insecure": True}), (("registry.example",), {})):
        settings = replace(SETTINGS, plain_http=plain)
        story = cluster(OLLAMA.replace("smollm2:135m", "registry.example:5000/library/smollm2:135m"), settings)
        pulls: list[StartJob] = []
        while not pulls:
            settle_once(story)
            pulls = [job for key, job in story.asked.items() if key.startswith("pull/")]
        name = "registry.example:5000/library/smollm2:135m"
        assert pulls[0].call.body == {"model": name, "stream": True, **insecure}


def test_a_pool_whose_model_cannot_be_carried_is_stalled_in_the_end() -> None:
    """Time alone does not mend it."""
    story = carried(source="oci://registry.example/m:1")
    story.carries["smollm2"] = "SumMismatch: it has the sum 1"
    for _ in range(40):
        settle_once(story)
        story.step()
    assert (said(story, ConditionType.Stalled) or (None, ""))[0] == ReasonCode.FetchFailed
