"""What the contract tests share: the API server's own code, with our definitions registered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from arbiter.api import crd
from tests.contract.judge import Judge

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def judge() -> Iterator[Judge]:
    """Give a judge that knows our definitions."""
    with Judge() as judge:
        for definition in crd.definitions().values():
            assert judge.register(definition) == []
        yield judge
