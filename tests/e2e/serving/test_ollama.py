"""A pool whose models share one Ollama: pulled from a registry, carried where Ollama cannot, bounded, and started anew.

The tests tell one story, in this order. The registries are real, and so are Ollama and the models; before the one that
Ollama pulls from stands a front of the tests' own, which `library` describes.
"""

from __future__ import annotations

import hashlib
import json
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import openai
import pytest

from devcluster.images import built
from devcluster.pushing import Registry
from devcluster.registry import PASSWORD, USER
from tests.e2e import image_contents
from tests.e2e.serving import library
from tests.e2e.serving.web_source import WebSource, web_source
from tests.e2e.serving.wishes import PRIVATE_REGISTRY, QUESTION, REGISTRY, model, pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.serving.operators import Operators
    from tests.e2e.serving.place import Place

pytestmark = [pytest.mark.cluster, pytest.mark.devcluster]

POOL = "modelpool/assistant"

OLLAMA = {"type": "Ollama", "resources": {"limits": {"cpu": "1"}}}
"""One thread, or it counts the machine's processors and waits for time slices."""

BARE_QUESTION = {**QUESTION, "messages": QUESTION["messages"][1:]}
"""The question without the system message: only a model that has one of its own answers it."""

AUTHORITIES = "authorities"


@dataclass(frozen=True)
class Scene:
    """What the story happens in.

    Attributes:
        place: its namespace.
        front: where Ollama pulls from.
        files: where models in files come from.
        real: the small model's file.
    """

    place: Place
    front: library.Front
    files: WebSource
    real: bytes = field(repr=False)

    def ask(self, question: dict[str, Any], task: str = "chat") -> str:
        """Ask a task of the pool as `openai`'s clients do, and give the answer."""
        with openai.OpenAI(base_url=f"{self.place.url('assistant')}/v1", api_key="none", max_retries=0) as client:
            return client.chat.completions.create(**question | {"model": task}).choices[0].message.content or ""

    def told(self, what: str) -> list[str]:
        """Give the models that the engine tells itself: `tags`, what is in its store, or `ps`, what is in memory."""
        address = self.place.kubectl("get", "service", "assistant-ollama", "--output=jsonpath={.spec.clusterIP}")
        with urllib.request.urlopen(f"http://{address}/api/{what}", timeout=10) as answer:
            return sorted(one["name"].partition(":")[0] for one in json.load(answer)["models"] or ())

    def task(self, name: str) -> dict[str, Any]:
        """Give what the pool says of a task; empty before it says anything."""
        tasks = self.place.status(POOL).get("tasks", [])
        return next((task for task in tasks if task["name"] == name), {})

    def message(self, task: str, words: str) -> None:
        """Wait until the message of a task is this."""
        self.place.until(lambda: self.task(task).get("message") == words, f"{task} says {words}", 90)

    def loaded(self) -> list[str]:
        """Give the models that the engine holds in memory, as the pool's status tells."""
        residents = self.place.status(POOL).get("residents", [])
        return sorted(each["model"] for each in residents if each["state"] == "Loaded")


def assistant(tasks: dict[str, str], **spec: Any) -> dict[str, Any]:  # noqa: ANN401  fields of a spec
    """Give the pool with these tasks and their models."""
    named = [{"name": name, "model": served} for name, served in tasks.items()]
    found = pool("assistant", "smollm2", capacity={"maxLoadedModels": 2}, **spec)
    found["spec"]["tasks"] = named
    return found


def variant(real: bytes, number: int) -> bytes:
    """Give the small model as another file, with some bytes behind it that nothing reads.

    Ollama loads a file once, whatever is made of it; these are several, and each of them knows its geography.
    """
    return real + bytes([number]) * 32


def of_file(scene: Scene, name: str, content: bytes) -> dict[str, Any]:
    """Give a LocalModel of a file that should have this content."""
    return model(name, f"{scene.files.url}/{name}.gguf", sha256=hashlib.sha256(content).hexdigest(), engine=OLLAMA)


@pytest.fixture(scope="module")
def scene(place: Place, hosts: Operators, weights: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Fill the registries, and start an operator that knows which of them speak plain HTTP."""
    assert weights
    real = image_contents.read(built.archive("smollm2")).read("/model.gguf")
    texts: dict[str, str] = {
        "template": library.TEMPLATE,
        "params": json.dumps({"stop": ["<|im_start|>", "<|im_end|>"]}),
    }
    library.push(Registry(REGISTRY), "library/smollm2", "135m", variant(real, 1), texts)
    private = Registry(PRIVATE_REGISTRY, USER, PASSWORD)
    more = {"system": library.SYSTEM, "license": "Apache License 2.0"}
    library.push(private, "library/smollm2", "135m", real, {**texts, **more})
    with library.front(REGISTRY) as front, web_source(tmp_path_factory.mktemp("files")) as files:
        front.held = len(real) * 52 // 100
        files.files |= {"/carried.gguf": variant(real, 3), "/wrong.gguf": real[:-1] + b"?"}
        files.held["/carried.gguf"] = len(real) * 52 // 100
        known = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": AUTHORITIES}}
        place.apply({**known, "data": {"ca.crt": files.authority}})
        plain = f"{REGISTRY},{PRIVATE_REGISTRY},{front.host},{front.blobs}"
        hosts.start(f"--plain-http={plain}", f"--trust-config-map={AUTHORITIES}")
        yield Scene(place, front, files, real)


def test_ollama_pulls_from_a_registry_and_answers(scene: Scene, count: Callable[..., None]) -> None:
    """The six lines, with how far the pull is told meanwhile; both protocols are answered at the pool's address."""
    place, source = scene.place, f"ollama://{scene.front.host}/library/smollm2:135m"
    place.apply(model("smollm2", source, engine=OLLAMA), assistant({"chat": "smollm2"}))
    # What comes later is resolved meanwhile.
    place.apply(
        model("third", f"oci://{REGISTRY}/models/smollm2:1#/model.gguf", engine=OLLAMA),
        model("locked", f"ollama://{PRIVATE_REGISTRY}/library/smollm2:135m", engine=OLLAMA, pullSecret="login"),
        of_file(scene, "carried", variant(scene.real, 3)),
        of_file(scene, "wrong", variant(scene.real, 4)),
    )
    before = place.wishes()
    scene.message("chat", "smollm2 is being fetched into the shared engine: 50 % of 93.81Mi")
    scene.front.let_go.set()
    place.ready(POOL)
    count("engines started")

    body = json.dumps({**QUESTION, "stream": False, "options": {"temperature": 0, "num_predict": 24}}).encode()
    asked = urllib.request.Request(f"{place.url('assistant')}/api/chat", body, {"Content-Type": "application/json"})  # noqa: S310  our own pool
    with urllib.request.urlopen(asked, timeout=60) as answer:  # noqa: S310  as above
        said = json.load(answer)["message"]["content"]
    assert "Paris" in said
    assert "Paris" in scene.ask(QUESTION)
    count("completions served", 2)
    assert place.wishes() == before


def test_without_its_secret_a_private_library_says_so(scene: Scene) -> None:
    """The message names the Secret; it is made, and the model is resolved by itself."""
    words = ("pull secret is missing", "spec.pullSecret names Secret login")
    scene.place.says("localmodel/locked", "AccessDenied", words=words)
    login = (f"--docker-server={PRIVATE_REGISTRY}", f"--docker-username={USER}", f"--docker-password={PASSWORD}")
    scene.place.kubectl("create", "secret", "docker-registry", "login", *login)


def test_a_file_is_carried_into_the_same_engine(scene: Scene, count: Callable[..., None]) -> None:
    """A Job brings what Ollama cannot, tells how far it is, and is gone in the end."""
    place, engine = scene.place, scene.place.pods("assistant", "engine")
    place.apply(assistant({"chat": "smollm2", "other": "carried"}))
    before = place.wishes()
    scene.message("other", "carried is being carried into the shared engine: 50 % of 93.81Mi")
    (job,) = place.listed("jobs", "arbiter.dev/pool=assistant")
    assert job["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
    scene.files.let_go.set()
    place.ready(POOL)
    assert "Paris" in scene.ask(QUESTION, "other")
    count("completions served")
    assert not place.listed("jobs", "arbiter.dev/pool=assistant")
    assert place.pods("assistant", "engine") == engine
    assert place.wishes() == before


def test_a_model_more_than_fits_waits(scene: Scene) -> None:
    """Two may be loaded and both serve: the third is brought, from an image, and waits with a reason."""
    scene.place.apply(assistant({"chat": "smollm2", "other": "carried"}, preload=["third"]))
    words = ("third is not preloaded", "may hold 2 models, of which 2 loaded models hold", "raise spec.capacity")
    scene.place.says(POOL, "PreloadNotReady", "Degraded", seconds=90, words=words)
    assert scene.loaded() == ["carried", "smollm2"]
    assert scene.place.condition(POOL)["status"] == "True"


def test_what_is_not_needed_makes_room_in_memory_and_on_disk(scene: Scene) -> None:
    """Without its task the second model leaves for the third, and its files and the pulled tag go."""
    scene.place.apply(assistant({"chat": "smollm2"}, preload=["third"]))
    scene.place.until(lambda: scene.loaded() == ["smollm2", "third"], "the third has taken the room", 60)

    def cleaned() -> bool:
        return scene.told("tags") == ["arbiter/smollm2", "arbiter/third"]

    scene.place.until(cleaned, "nothing else is in the store", 60)
    scene.place.until(lambda: not scene.place.condition(POOL, "Degraded"), "nothing is missing", 30)


def test_a_private_library_is_carried_with_its_texts(scene: Scene, count: Callable[..., None]) -> None:
    """Ollama shows no registry a password; the Job does, and brings the system message along.

    Its weights are the third's, which Ollama loads once: so the three have room where two may be loaded.
    """
    scene.place.ready("localmodel/locked", 90)
    scene.place.apply(assistant({"chat": "smollm2", "locked": "locked"}, preload=["third"]))
    scene.place.ready(POOL)
    assert "Paris" in scene.ask(BARE_QUESTION, "locked")
    count("completions served")
    assert scene.told("ps") == ["arbiter/smollm2", "arbiter/third"]
    assert scene.loaded() == ["locked", "smollm2", "third"]
    assert not scene.place.condition(POOL, "Degraded")


def test_a_file_with_another_sum_says_so(scene: Scene) -> None:
    """Nothing is made of it; the message has both sums and what to do."""
    right = variant(scene.real, 4)
    scene.place.apply(assistant({"chat": "smollm2"}, preload=["wrong"]))
    words = ("wrong is not preloaded", "could not be carried", hashlib.sha256(right).hexdigest(), "spec.sha256")
    scene.place.says(POOL, "PreloadNotReady", "Degraded", seconds=90, words=words)
    scene.files.files["/wrong.gguf"] = right


def test_an_engine_that_is_killed_comes_back_with_all_that_it_had(scene: Scene, count: Callable[..., None]) -> None:
    """Its store was its pod's: the one model is pulled once more, the other, whose file is right by now, is carried."""
    (killed,) = scene.place.pods("assistant", "engine")
    scene.place.kubectl("delete", "pod", killed, "--wait=false")

    def serves_anew() -> bool:
        return killed not in scene.place.pods("assistant", "engine") and scene.loaded() == ["smollm2", "wrong"]

    scene.place.until(serves_anew, "another pod has both models", 120)
    scene.place.ready(POOL)
    count("engines started")
    assert "Paris" in scene.ask(QUESTION)
    count("completions served")
    scene.place.until(lambda: not scene.place.condition(POOL, "Degraded"), "nothing is missing", 30)


def test_a_deleted_pool_leaves_nothing(scene: Scene) -> None:
    """Neither engines nor Jobs, whatever they were doing."""
    scene.place.delete(POOL)
    scene.place.until(lambda: not scene.place.left_of("assistant"), "nothing is left", 60)
