"""Files of checks and answers to them, for the tests about checks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from arbiter.core.prompt_checks import read_checks
from arbiter.engines.calls import Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arbiter.core.check_expectations import Expectations
    from arbiter.core.prompt_checks import Checks

ASKED = [{"role": "user", "content": "Say it."}]


def answered(text: str | None, *, cut: bool = False, status: int = 200) -> Reply:
    """What a server sends when a model says this."""
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "length" if cut else "stop"}
    return Reply("POST /v1/chat/completions", status, json.dumps({"choices": [choice]}).encode())


def written(*checks: Mapping[str, object]) -> str:
    """A file of checks; what is left out of each is filled in."""
    filled = [
        {"name": f"c{i}", "messages": ASKED, "expect": {"exact": "yes!"}, **check} for i, check in enumerate(checks)
    ]
    # JSON is YAML, and its writer makes no anchors of what stands there twice.
    return json.dumps({"version": 1, "checks": filled}, indent=1)


def expecting(**expect: object) -> Expectations:
    """The expectations of a check, as a file would give them."""
    return read_checks(written({"expect": expect})).items[0].expect


def counting(count: int, **every: object) -> Checks:
    """That many checks, named c0, c1 and so on."""
    return read_checks(written(*({**every} for _ in range(count))))
