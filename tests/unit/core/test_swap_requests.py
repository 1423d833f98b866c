"""What is asked for, and what becomes of it: each request is handled once, and the newest one counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.api.modelpool import Rejection, Serving
from arbiter.api.reasons import Reason, ReasonCode
from arbiter.core.swap_requests import KEPT, Command, Requests, Wanted, beyond_history, swap_name, weigh

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SMOL = Serving(model="smollm2", revision="0123456789")
GEMMA = Serving(model="gemma3", revision="9876543210")
QWEN = Serving(model="qwen3", revision="abcdef0123")
NEWER = Serving(model="smollm2", revision="1111111111")
FAILED = Rejection(task="chat", revision=GEMMA.revision, model="gemma3", reason="RegressionProven", at=NOW)


def command(number: int, to: str, *, begun: bool = True) -> Command:
    """Give a swap of the task, the later the higher its number."""
    return Command(f"assistant-chat-{number}", NOW + timedelta(seconds=number), to, begun=begun)


def wanted(**changes: Any) -> Wanted:  # noqa: ANN401  fields of Wanted
    """Give a task that smollm2 serves, as its spec says."""
    return replace(Wanted("chat", SMOL, asked="smollm2", handled="smollm2"), **changes)


def test_what_serves_already_asks_for_nothing() -> None:
    """A spec that is applied again and again starts no swap."""
    assert weigh(wanted()) == Requests(handled="smollm2")


def test_an_edit_asks_for_a_swap_and_is_not_handled_before_that_stands() -> None:
    """A pass that ends between the two makes it again under the same name."""
    requests = weigh(wanted(asked="gemma3", target=GEMMA))
    assert requests.create is not None
    assert requests.create.to == GEMMA
    assert requests.handled == "smollm2"
    after = weigh(wanted(asked="gemma3", target=GEMMA, commands=(command(1, "gemma3"),)))
    assert (after.create, after.handled) == (None, "gemma3")


def test_an_edit_to_what_cannot_be_run_yet_is_reported() -> None:
    """It is asked for again by itself once its LocalModel is there."""
    problem = Reason(ReasonCode.ModelNotFound, "there is no LocalModel gemma3: create it")
    requests = weigh(wanted(asked="gemma3", target=problem))
    assert (requests.create, requests.handled) == (None, "smollm2")
    assert requests.report is not None
    assert requests.report.code is ReasonCode.SwapRequested
    assert "create it" in requests.report.message


def test_what_was_tried_and_failed_is_not_tried_by_the_same_edit() -> None:
    """Whoever means it makes a ModelSwap."""
    requests = weigh(wanted(asked="gemma3", target=GEMMA, rejections={GEMMA.revision: FAILED}))
    assert (requests.create, requests.handled) == (None, "gemma3")
    assert requests.report is not None
    assert "make a ModelSwap" in requests.report.message


def test_a_rolled_back_model_that_is_applied_again_changes_nothing() -> None:
    """GitOps applies the same commit every few minutes."""
    requests = weigh(wanted(asked="gemma3", handled="gemma3", target=GEMMA, rejections={GEMMA.revision: FAILED}))
    assert (requests.create, requests.handled) == (None, "gemma3")
    assert requests.report is not None
    assert requests.report.code is ReasonCode.RejectedBefore


def test_back_to_what_serves_withdraws_the_swap() -> None:
    """The edit is undone before the swap has ended."""
    requests = weigh(wanted(asked="smollm2", handled="gemma3", commands=(command(1, "gemma3"),)))
    assert (requests.create, requests.handled) == (None, "smollm2")
    assert requests.withdrawn["assistant-chat-1"].code is ReasonCode.Withdrawn


def test_a_new_edit_supersedes_once_its_swap_stands() -> None:
    """First the new one is made, then the old one makes way."""
    flying = command(1, "gemma3")
    first = weigh(wanted(asked="qwen3", handled="gemma3", target=QWEN, commands=(flying,)))
    assert first.create is not None
    assert not first.leaving
    second = weigh(wanted(asked="qwen3", handled="gemma3", target=QWEN, commands=(flying, command(2, "qwen3"))))
    assert second.create is None
    assert set(second.superseded) == {"assistant-chat-1"}
    assert "assistant-chat-2" in second.superseded["assistant-chat-1"].message


def test_the_newest_command_counts() -> None:
    """People who make two ModelSwaps mean the second."""
    requests = weigh(wanted(commands=(command(2, "qwen3", begun=False), command(1, "gemma3"))))
    assert set(requests.superseded) == {"assistant-chat-1"}


def test_a_new_revision_of_what_serves_is_swapped_like_any_other() -> None:
    """Unless something is in flight, or that very revision has failed."""
    renewed = (NEWER, "its source holds other weights by now")
    assert (created := weigh(wanted(renewed=renewed)).create) is not None
    assert created.to == NEWER
    assert "other weights" in created.reason
    assert weigh(wanted(renewed=renewed, commands=(command(1, "smollm2"),))).create is None
    failed = FAILED.model_copy(update={"revision": NEWER.revision})
    refused = weigh(wanted(renewed=renewed, rejections={NEWER.revision: failed}))
    assert refused.create is None
    assert refused.report is not None


def test_a_swap_by_command_leaves_the_edit_as_handled() -> None:
    """The spec says smollm2, a command brought gemma3: nothing is asked for."""
    requests = weigh(wanted(active=GEMMA))
    assert requests == Requests(handled="smollm2")


@pytest.mark.parametrize(
    ("pool", "task", "taken", "want"),
    [
        pytest.param("assistant", "chat", [], "assistant-chat-1", id="first"),
        pytest.param("assistant", "chat", ["assistant-chat-1", "assistant-chat-9"], "assistant-chat-10", id="next"),
        pytest.param(
            "assistant", "chat", ["mine", "assistant-chat-x", "assistant-code-7"], "assistant-chat-1", id="others"
        ),
    ],
)
def test_a_swap_is_named_after_what_it_is_for(pool: str, task: str, taken: list[str], want: str) -> None:
    """People read it in every list."""
    assert swap_name(pool, task, taken) == want


LABELS = st.from_regex(r"\A[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?\Z")


@given(LABELS, LABELS, st.lists(st.integers(1, 99_998), max_size=5))
def test_names_fit_and_differ(pool: str, task: str, numbers: list[int]) -> None:
    """However long pool and task are called; the next one is never taken."""
    taken: list[str] = []
    for _ in numbers:
        taken.append(swap_name(pool, task, taken))
    assert len(set(taken)) == len(taken)
    assert all(len(name) <= 40 and name.strip("-") == name for name in taken)


def test_the_newest_ended_swaps_are_kept() -> None:
    """The oldest go first."""
    ended = [(NOW + timedelta(seconds=i), f"assistant-chat-{i}") for i in range(KEPT + 3)]
    assert set(beyond_history(ended)) == {"assistant-chat-0", "assistant-chat-1", "assistant-chat-2"}
