"""Models that cannot be had: each is told of in words that a person can act upon, and is served once its cause is gone.

The tests tell one story, in this order. All pools are applied at once and wait for their faults together; then every
cause is taken away, and each pool comes to be Ready by itself, with the operator that has run all the time. What
happens to a model that serves comes last.
"""

from __future__ import annotations

import hashlib
import json
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from devcluster.images import built
from devcluster.registry import PASSWORD, USER
from tests.e2e import image_contents
from tests.e2e.serving.elsewhere import elsewhere
from tests.e2e.serving.odd_engine import QUIET, OddEngine
from tests.e2e.serving.web_source import WebSource, web_source
from tests.e2e.serving.wishes import ONE_THREAD, PRIVATE_REGISTRY, QUESTION, external, model, pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.running import Cluster
    from tests.e2e.serving.operators import HostOperator, Operators
    from tests.e2e.serving.place import Place

pytestmark = [pytest.mark.cluster, pytest.mark.devcluster]

AUTHORITIES = "company-authorities"
"""The ConfigMap that holds what the files' server is trusted by."""

CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "kept"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}


@dataclass(frozen=True)
class Scene:
    """All that the stories happen in.

    Attributes:
        place: their namespace.
        files: the server that models are downloaded from.
        unknown: another one, whose authority nobody knows at first.
        odd: a small model and the server that runs it.
        server: the address of a server elsewhere.
        operator: it runs from the beginning to the end.
        real: the real model's file.
    """

    place: Place
    files: WebSource
    unknown: WebSource
    odd: OddEngine
    server: str
    operator: HostOperator
    real: bytes


def from_web(scene: Scene, name: str, url: str, content: bytes, **spec: object) -> dict[str, Any]:
    """Give a LocalModel of a file that should have this content."""
    said = {"sha256": hashlib.sha256(content).hexdigest(), "engine": scene.odd.does("answer"), **spec}
    return model(name, url, **said)


def trusting(*servers: WebSource) -> dict[str, Any]:
    """Give the ConfigMap by which these servers are trusted."""
    named = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": AUTHORITIES}}
    return {**named, "data": {"ca.crt": "".join(server.authority for server in servers)}}


@pytest.fixture(scope="module")
def scene(
    cluster: Cluster, place: Place, hosts: Operators, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """Apply everything, with nothing where it should be."""
    assert cluster.kubeconfig.exists()
    odd = OddEngine.build(place, tmp_path_factory.mktemp("odd"))
    real = image_contents.read(built.archive("smollm2")).read("/model.gguf")
    with (
        web_source(tmp_path_factory.mktemp("files")) as files,
        web_source(tmp_path_factory.mktemp("unknown")) as unknown,
        elsewhere() as server,
    ):
        operator = hosts.start(f"--trust-config-map={AUTHORITIES}")
        found = Scene(place, files, unknown, odd, server, operator, real)
        unknown.files["/model.gguf"] = odd.file
        files.files |= {"/changed.gguf": odd.file[:-1] + b"?", "/real.gguf": real}
        files.held["/real.gguf"] = len(real) * 52 // 100
        place.apply(
            trusting(files),
            CLAIM,
            odd.model("untagged", source=f"oci://{odd.name('late')}"),
            odd.model("private", source=f"oci://{odd.name('private', PRIVATE_REGISTRY)}", pullSecret="login"),
            from_web(found, "untrusted", f"{unknown.url}/model.gguf", odd.file),
            from_web(found, "unfound", f"{files.url}/late.gguf", odd.file),
            from_web(found, "changed", f"{files.url}/changed.gguf", odd.file),
            from_web(found, "real", f"{files.url}/real.gguf", real, engine=ONE_THREAD),
            *(pool(name, name, **QUIET) for name in TOLD if name != "real"),
            pool("real", "real", **QUIET, cache={"claim": "kept"}),
        )
        yield found


@pytest.fixture(scope="module")
def written(scene: Scene) -> list[Any]:
    """Give what people wrote, as it was before anything was done about it."""
    return scene.place.wishes()


TOLD = {
    "nobody": ("ModelNotFound", ("no LocalModel nobody", "create it, or name another")),
    "untagged": ("ModelNotReady", ("LocalModel untagged", "stories/late", "does not exist")),
    "private": (
        "ModelNotReady",
        ("LocalModel private", "pull secret is missing", "spec.pullSecret names Secret login"),
    ),
    "unfound": ("ModelNotReady", ("LocalModel unfound", "/late.gguf does not exist (status 404)")),
    "untrusted": ("ModelNotReady", ("LocalModel untrusted", "certificate verify failed", "--trust-config-map")),
    "changed": ("FetchFailed", ("changed-", "SumMismatch", "not sha256:", "what was downloaded is removed")),
    "real": ("Downloading", ("real-", "downloads its weights: 50 % of 93.81Mi")),
}
"""What each pool says: the reason, and what its message must hold."""


@pytest.mark.parametrize("name", TOLD)
def test_what_is_wrong_is_told(scene: Scene, written: list[Any], name: str) -> None:
    """The condition's reason is a code, and its message names what a person has to look at."""
    assert written
    reason, words = TOLD[name]
    message = scene.place.says(f"modelpool/{name}", reason, seconds=90, words=words)
    assert scene.place.status(f"modelpool/{name}")["summary"]["why"] == message


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("untagged", "SourceNotFound"),
        ("private", "AccessDenied"),
        ("unfound", "SourceNotFound"),
        ("untrusted", "SourceUnusable"),
    ],
)
def test_the_model_says_so_too(scene: Scene, name: str, reason: str) -> None:
    """Whoever looks at the LocalModel reads the same there, in both conditions."""
    said = [scene.place.says(f"localmodel/{name}", reason, kind) for kind in ("Ready", "Resolved")]
    assert said[0] == said[1]
    assert said[0] in scene.place.condition(f"modelpool/{name}")["message"]


def test_a_download_goes_on_in_another_pod(scene: Scene) -> None:
    """What came lies on the claim, so the next pod asks for the rest only."""
    (first,) = scene.place.pods("real")
    scene.place.kubectl("delete", "pod", first, "--wait=false")

    def resumed() -> bool:
        return any(path == "/real.gguf" and start > len(scene.real) // 3 for path, start in scene.files.asked)

    scene.place.until(resumed, "the rest is asked for", 60)
    assert first not in scene.place.pods("real")
    assert "50 %" in scene.place.says("modelpool/real", "Downloading")


@pytest.fixture(scope="module")
def mended(scene: Scene, written: list[Any]) -> Scene:
    """Take every cause away, without a word to the operator."""
    assert written
    place, odd = scene.place, scene.odd
    scene.files.let_go.set()
    scene.files.files |= {"/late.gguf": odd.file, "/changed.gguf": odd.file}
    odd.push(odd.weights, "late")
    odd.push(odd.weights, "private", PRIVATE_REGISTRY, (USER, PASSWORD))
    login = (f"--docker-server={PRIVATE_REGISTRY}", f"--docker-username={USER}", f"--docker-password={PASSWORD}")
    place.kubectl("create", "secret", "docker-registry", "login", *login)
    place.apply(external("nobody", scene.server), trusting(scene.files, scene.unknown))
    return scene


@pytest.mark.parametrize("name", TOLD)
def test_what_was_wrong_heals_by_itself(mended: Scene, name: str, count: Callable[..., None]) -> None:
    """Nobody restarts the operator, and nobody touches pool or model."""
    mended.place.ready(f"modelpool/{name}", 180)
    assert mended.operator.runs
    if name != "nobody":
        count("engines started")


def test_no_wish_was_touched(mended: Scene, written: list[Any]) -> None:
    """Specs and metadata are what they were, but for the model that was made since."""
    assert [wish for wish in mended.place.wishes() if wish[2]["name"] != "nobody" or wish[0] == "ModelPool"] == written


def answer(scene: Scene) -> str:
    """Ask the real model's engine a question."""
    (service,) = scene.place.listed("services", "arbiter.dev/pool=real")
    body = json.dumps({**QUESTION, "model": "real"}).encode()
    url = f"http://{service['spec']['clusterIP']}/v1/chat/completions"
    asked = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=60) as found:  # noqa: S310  an address of the cluster
        said: str = json.load(found)["choices"][0]["message"]["content"]
    return said


def test_a_deleted_model_serves_on_and_that_is_said(mended: Scene, count: Callable[..., None]) -> None:
    """The pool stays Ready and is Degraded until the LocalModel is there again; its engine notices nothing."""
    place, standing = mended.place, mended.place.pods("real")
    place.delete("localmodel/real")
    message = place.says("modelpool/real", "ModelDeleted", "Degraded")
    assert "LocalModel real was deleted" in message
    assert "create it again" in message
    assert place.condition("modelpool/real")["status"] == "True"
    assert "Paris" in answer(mended)
    count("completions served")

    place.apply(from_web(mended, "real", f"{mended.files.url}/real.gguf", mended.real, engine=ONE_THREAD))
    place.until(lambda: not place.condition("modelpool/real", "Degraded"), "nothing is degraded", 90)
    place.ready("localmodel/real")
    assert place.status("modelpool/real")["tasks"][0]["reason"] == "Serving"
    assert place.pods("real") == standing


def test_ten_edits_in_a_second_end_in_the_last_wish(mended: Scene) -> None:
    """What was wished for in between is not made, and what serves is not touched."""
    place, standing = mended.place, mended.place.pods("real")
    place.apply(*(external(f"number-{number}", mended.server) for number in range(10)))
    chat = {"name": "chat", "model": "real"}
    for number in range(10):
        wish = {"spec": {"tasks": [chat, {"name": "more", "model": f"number-{number}"}]}}
        place.kubectl("patch", "modelpool/real", "--type=merge", f"--patch={json.dumps(wish)}")

    def as_wished() -> bool:
        pool = place.get("modelpool/real")
        status, more = pool["status"], pool["status"]["tasks"][-1]
        settled = status["observedGeneration"] == pool["metadata"]["generation"]
        comes = more.get("candidate", more.get("active", {})).get("model")
        return bool(settled and more["name"] == "more" and comes == "number-9")

    place.until(as_wished, "the last edit is obeyed", 60)
    assert place.pods("real") == standing
    assert place.condition("modelpool/real")["status"] == "True"


def test_a_deleted_pool_leaves_nothing_but_what_its_owner_made(mended: Scene) -> None:
    """All that was made for the pools and models goes with them; the claim, the Secret and the ConfigMap stay."""
    place = mended.place
    place.delete(*(f"modelpool/{name}" for name in TOLD))
    place.until(lambda: not [left for name in TOLD for left in place.left_of(name)], "nothing is left of any", 60)
    place.delete("localmodels", "--all")
    place.until(lambda: not place.listed("jobs,pods"), "nothing of the models is left", 90)
    kept = {each["metadata"]["name"] for each in place.listed("persistentvolumeclaims,secrets,configmaps")}
    assert {"kept", "login", AUTHORITIES} <= kept
