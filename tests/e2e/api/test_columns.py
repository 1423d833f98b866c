"""What `kubectl get` prints of our kinds, with every field of the statuses given."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.manifests import GOOD, KINDS, patched
from tests.e2e.api.objects import STATUSES, whole
from tests.e2e.running import Cluster, said

if TYPE_CHECKING:
    from tests.e2e.api.client import Api

pytestmark = pytest.mark.cluster

NAME = "shown"
LABELS = {"shown": "in-columns"}

PLAIN = """\
NAME                             ENGINE     FAMILY    SIZE   CONTEXT   READY   REASON    AGE
localmodel.arbiter.dev/shown     LlamaCpp   smollm2   98Mi   8192      True    Serving   -

NAME                             READY   SERVING        COMING        PROGRESS   WHY                 AGE
modelpool.arbiter.dev/shown      True    chat=smollm2   chat=gemma3   3/9 30%    EvidenceUndecided   -

NAME                             MODE        STRATEGY     INCONCLUSIVE   POOLS   AGE
swappolicy.arbiter.dev/shown     Automatic   SideBySide   Hold           2       -

NAME                         POOL       TASK  FROM     TO      PHASE     PROGRESS  OUTCOME   REASON               AGE
modelswap.arbiter.dev/shown  assistant  chat  smollm2  gemma3  Shifting  3/9 30%   Promoted  EqualOrBetterProven  -

NAME                             POOL        TASK   SAMPLES   BEST      AGE
taskprofile.arbiter.dev/shown    assistant   chat   40        smollm2   -
"""

WIDE = """\
localmodel.arbiter.dev/shown SOURCE: https://files.example/smollm2.gguf
localmodel.arbiter.dev/shown DEPRECATED: superseded by smollm3
modelpool.arbiter.dev/shown ENDPOINT: http://assistant.default.svc
modelpool.arbiter.dev/shown POLICY: nightly
modelswap.arbiter.dev/shown MESSAGE: every metric holds
modelswap.arbiter.dev/shown NEXT: 2026-11-21T13:00:00Z
"""
"""What `--output=wide` shows beyond that."""


def rows(printed: str) -> dict[str, dict[str, str]]:
    """Read the tables that kubectl printed: cells by object and header. A column begins where its header does."""
    found = {}
    for table in printed.strip().split("\n\n"):
        header, *lines = table.splitlines()
        starts = [match.start() for match in re.finditer(r"\S+", header)]
        cells = [slice(start, end) for start, end in zip(starts, [*starts[1:], None], strict=True)]
        for line in lines:
            found[line[cells[0]].strip()] = {header[cell].strip(): line[cell].strip() for cell in cells[1:]}
    return found


@pytest.fixture(scope="module")
def shown(api: Api) -> None:
    """Make one object of each kind with every field given, and one about which nothing is known yet."""
    for kind in KINDS:
        made = api.create(patched(whole(kind, NAME), {"metadata": {"labels": LABELS}})).taken()
        api.merge(made, {"status": STATUSES[kind]}, "status").taken()
        api.create(patched(GOOD[kind], {"metadata": {"name": "unknown", "labels": {"shown": "unknown"}}})).taken()


def printed(cluster: Cluster, api: Api, label: str, *options: str) -> dict[str, dict[str, str]]:
    """Give what kubectl prints of all kinds at once."""
    kinds = ",".join(kind.names.plural for kind in KINDS.values())
    where = (f"--namespace={api.namespace}", f"--selector=shown={label}")
    return rows(said(cluster.kubectl("get", kinds, *where, *options)))


def without_age(tables: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Put a dash in the place of each age, which must be one."""
    for cells in tables.values():
        assert re.fullmatch(r"\d+[sm](\d+s)?", cells["AGE"]), cells["AGE"]
    return {name: {**cells, "AGE": "-"} for name, cells in tables.items()}


@pytest.mark.usefixtures("shown")
def test_columns_tell_what_serves_what_comes_how_far_and_why(cluster: Cluster, api: Api) -> None:
    """The first thing that anybody asks is answered by `kubectl get`, in these columns and no others."""
    tables = without_age(printed(cluster, api, "in-columns"))

    assert tables == rows(PLAIN)
    assert [list(cells) for cells in tables.values()] == [list(cells) for cells in rows(PLAIN).values()]


@pytest.mark.usefixtures("shown")
def test_wide_columns_show_what_is_too_long_for_every_day(cluster: Cluster, api: Api) -> None:
    """`--output=wide` adds the long ones; a time that is still to come is printed as a time."""
    plain, wide = rows(PLAIN), without_age(printed(cluster, api, "in-columns", "--output=wide"))

    added = [
        f"{name} {header}: {cell}"
        for name, cells in wide.items()
        for header, cell in cells.items()
        if header not in plain[name]
    ]
    assert added == WIDE.splitlines()
    assert {name: {key: cells[key] for key in plain[name]} for name, cells in wide.items()} == plain


@pytest.mark.usefixtures("shown")
def test_columns_of_an_object_that_nobody_has_looked_at_are_empty(cluster: Cluster, api: Api) -> None:
    """Before the operator has seen it, only the wish is shown, and nothing looks like a state."""
    tables = without_age(printed(cluster, api, "unknown"))

    filled: dict[str, dict[str, Any]] = {
        name.partition(".")[0]: {header: cell for header, cell in cells.items() if cell and header != "AGE"}
        for name, cells in tables.items()
    }
    assert filled == {
        "localmodel": {},
        "modelpool": {},
        "swappolicy": {"MODE": "Manual", "STRATEGY": "Auto", "INCONCLUSIVE": "Rollback"},
        "modelswap": {"POOL": "assistant", "TASK": "chat", "TO": "gemma3"},
        "taskprofile": {"POOL": "assistant", "TASK": "chat"},
    }
