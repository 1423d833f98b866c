"""A revision changes with what runs, and with nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.api.localmodel import EngineType, LocalModelSpec
from arbiter.engines.pods import render_pod, revision_of
from arbiter.engines.runnable import EnginePlace, EnginePod, PullPolicy, RunnableModel
from tests.unit.engines.runnable_examples import COMMIT, GPU_SETTINGS, GPUS, SETTINGS, SUM, model, place

if TYPE_CHECKING:
    from collections.abc import Callable

HUB = model(
    "hf://Qwen/Qwen3-8B-GGUF/a.gguf",
    digest=COMMIT,
    contextWindow=4096,
    memory=1024**3,
    settings={"args": ["--no-mmap"], "env": [{"name": "A", "value": "1"}]},
)
BASE = place("cache")

WORDS = st.text("abcdefghijklmnop", min_size=1, max_size=8)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), WORDS)
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=8
)


def revision(runs: RunnableModel = HUB, where: EnginePlace = BASE, settings: Any = SETTINGS) -> str:  # noqa: ANN401  settings
    """Give the revision of a model in a pool."""
    return revision_of(render_pod(runs, where, settings), runs.digest)


def test_a_revision_is_ten_hexadecimal_digits_and_the_same_each_time() -> None:
    """Pinned: if this changes, every model of every user is swapped by the next release, so say so in the changelog."""
    assert revision() == revision()
    assert revision_of(EnginePod({"containers": [{"name": "engine"}]}, 8080), "sha256:abc") == "aff3fea4f9"


PLACEMENTS = st.fixed_dictionaries(
    {},
    optional={
        "nodeSelector": st.dictionaries(WORDS, WORDS, max_size=3),
        "tolerations": st.lists(st.fixed_dictionaries({"key": WORDS, "operator": st.just("Exists")}), max_size=3),
        "runtimeClassName": WORDS,
        "affinity": st.just(GPUS["affinity"]),
    },
)


@given(PLACEMENTS)
def test_where_it_runs_does_not_change_it(placement: dict[str, Any]) -> None:
    """Moving a pool to other nodes must start no swap."""
    assert revision(where=place("cache", **placement)) == revision()


@given(st.dictionaries(WORDS, TREES, max_size=4), st.dictionaries(WORDS, TREES, max_size=4))
def test_the_order_of_fields_does_not_change_it(spec: dict[str, Any], more: dict[str, Any]) -> None:
    """Whoever builds a pod in another order builds the same pod."""
    both = {**spec, **more}
    other = dict(reversed(list(both.items())))
    assert revision_of(EnginePod(both, 1), "d") == revision_of(EnginePod(other, 1), "d")


@given(st.dictionaries(WORDS, TREES, max_size=4), WORDS, TREES, TREES)
def test_any_other_field_changes_it(spec: dict[str, Any], name: str, value: object, other: object) -> None:
    """What runs is all of the spec but its placement."""
    one, two = ({**spec, name: value}, {**spec, name: other})
    same = repr(one) == repr(two)
    assert (revision_of(EnginePod(one, 1), "d") == revision_of(EnginePod(two, 1), "d")) == same


@given(WORDS, WORDS)
def test_what_the_source_resolved_to_changes_it(one: str, two: str) -> None:
    """A tag that moved is another model."""
    pod = render_pod(HUB, BASE, SETTINGS)
    assert (revision_of(pod, one) == revision_of(pod, two)) == (one == two)


CHANGES: dict[str, Callable[[], str]] = {
    "name": lambda: revision(replace(HUB, name="other")),
    "commit": lambda: revision(model("hf://Qwen/Qwen3-8B-GGUF/a.gguf", digest="1" * 40)),
    "sum": lambda: revision(replace(HUB, sha256=SUM)),
    "secret": lambda: revision(replace(HUB, pull_secret=HUB.name)),
    "image": lambda: revision(replace(HUB, settings=HUB.settings.model_copy(update={"image": "mine:2"}))),
    "arguments": lambda: revision(replace(HUB, settings=HUB.settings.model_copy(update={"args": ("--mlock",)}))),
    "variables": lambda: revision(replace(HUB, settings=HUB.settings.model_copy(update={"env": ()}))),
    "port": lambda: revision(replace(HUB, settings=HUB.settings.model_copy(update={"port": 9999}))),
    "context window": lambda: revision(replace(HUB, context_window=8192)),
    "memory": lambda: revision(replace(HUB, memory=2 * 1024**3)),
    "capabilities": lambda: revision(replace(HUB, capabilities=frozenset({"embeddings"}))),
    "cache": lambda: revision(where=place("other")),
    "gpus": lambda: revision(where=place("cache", gpus={"count": 1}), settings=GPU_SETTINGS),
    "more gpus": lambda: revision(where=place("cache", gpus={"count": 2}), settings=GPU_SETTINGS),
    "operator's image": lambda: revision(settings=replace(SETTINGS, arbiter_image="arbiter:2")),
    "engine's image": lambda: revision(settings=replace(SETTINGS, llama_server_image="llama:2")),
    "slots": lambda: revision(settings=replace(SETTINGS, slots=2)),
    "pull policy": lambda: revision(settings=replace(SETTINGS, pull_policy=PullPolicy.Always)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_thing_that_runs_changes_it(change: str) -> None:
    """Such a change goes through a swap like any other."""
    assert CHANGES[change]() != revision()


def test_all_these_changes_differ_from_each_other() -> None:
    """Ten digits are enough to tell them apart."""
    revisions = [change() for change in CHANGES.values()]
    assert len(set(revisions)) == len(revisions)


def test_what_the_source_shows_yields_to_what_the_owner_wrote() -> None:
    """A figure that was found out later must not make another revision of a model that says its own."""
    spec = LocalModelSpec.model_validate(
        {"source": "pvc://m/a.gguf", "contextWindow": 2048, "memory": "1Gi", "capabilities": ["chat"]}
    )
    plain = RunnableModel.of("m", spec, engine=EngineType.LlamaCpp, digest="d")
    found = RunnableModel.of("m", spec, engine=EngineType.LlamaCpp, digest="d", context_window=8192, memory=1)
    assert (found.context_window, found.memory) == (2048, 1024**3)
    assert revision(found) == revision(plain)


def test_the_routers_time_limit_changes_nothing() -> None:
    """Editing it must not swap every model of the pool: an engine that goes waits until it is idle."""
    assert revision(where=place("cache", timeout_s=30)) == revision(where=place("cache", timeout_s=3600))


def test_engines_differ_by_more_than_their_digest() -> None:
    """The same file in two servers is two revisions."""
    ollama = replace(HUB, engine=EngineType.Ollama)
    assert revision(ollama) != revision()
