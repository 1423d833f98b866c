"""What the operator may do, which an administrator has to grant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from arbiter.api.crd import KINDS
from arbiter.kubeapi.access import operator_cluster_rules, operator_home_rules, operator_rules, router_rules
from arbiter.kubeapi.resources import APPLIED, CREATED, OUR_KINDS

if TYPE_CHECKING:
    from arbiter.kubeapi.access import Rule

EVERY = (*operator_rules(), *operator_cluster_rules(), *operator_home_rules())


def granted(*rules: Rule) -> set[tuple[str, str, str]]:
    """Each single thing that may be done, as group, resource and verb."""
    return {(rule.resource.group, rule.plural, verb) for rule in rules for verb in rule.verbs}


def test_our_kinds_are_those_that_are_defined() -> None:
    """A sixth one cannot be forgotten."""
    assert [each.kind for each in OUR_KINDS] == [kind.__name__ for kind in KINDS]
    assert [each.plural for each in OUR_KINDS] == [kind.names.plural for kind in KINDS]


@pytest.mark.parametrize(
    "forbidden",
    [
        ("", "secrets", "get"),
        ("", "secrets", "list"),
        ("", "pods/log", "get"),
        ("", "pods/exec", "create"),
        ("", "pods", "create"),
        ("", "nodes", "patch"),
        ("arbiter.dev", "modelpools", "update"),
        ("arbiter.dev", "modelpools", "patch"),
        ("arbiter.dev", "modelpools", "delete"),
        ("arbiter.dev", "modelswaps", "patch"),
        ("arbiter.dev", "taskprofiles", "delete"),
        ("arbiter.dev", "modelpools/finalizers", "update"),
        ("rbac.authorization.k8s.io", "roles", "escalate"),
        ("rbac.authorization.k8s.io", "roles", "bind"),
        ("coordination.k8s.io", "leases", "delete"),
    ],
    ids=" ".join,
)
def test_what_the_operator_may_not_do(forbidden: tuple[str, str, str]) -> None:
    """Users own every spec, and no Secret goes through the operator."""
    assert forbidden not in granted(*EVERY)
    assert not any("*" in each for each in granted(*EVERY))


def test_the_operator_may_do_what_its_writes_do() -> None:
    """An apply is a patch, or a create where there is none; what is made once is never patched."""
    may = granted(*operator_rules())
    for each in APPLIED:
        assert {(each.group, each.plural, verb) for verb in ("get", "create", "patch", "delete")} <= may
    for each in CREATED:
        assert {(each.group, each.plural, verb) for verb in ("get", "create")} <= may
        assert (each.group, each.plural, "patch") not in may
    for each in OUR_KINDS:
        assert (each.group, f"{each.plural}/status", "update") in may
    assert ("events.k8s.io", "events", "patch") in may


def test_the_operator_may_grant_a_router_what_it_grants() -> None:
    """Nobody can give away a right that it does not have itself."""
    assert granted(*router_rules("routes")) <= granted(*operator_rules())


def test_only_its_own_lease_may_be_changed() -> None:
    """The namespace that the operator runs in may hold Leases of other programs."""
    assert [rule.to_fields() for rule in operator_home_rules()] == [
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "verbs": ["get", "update"],
            "resourceNames": ["arbiter-operator"],
        },
    ]


def test_each_right_says_what_it_is_for() -> None:
    """An administrator grants what is explained."""
    assert [rule for rule in EVERY if not rule.why.endswith(".")] == []


def test_the_reference_says_each_right_and_what_it_is_for() -> None:
    """An administrator who reads the page has read the role."""
    page = (Path(__file__).parents[3] / "docs" / "reference" / "permissions.md").read_text().splitlines()
    for rule in EVERY:
        [row] = [
            row
            for row in page
            if f"`{rule.plural}`" in row.partition(" | ")[0] and f"| {', '.join(rule.verbs)} | {rule.why} |" in row
        ]
        assert (f"`{rule.resource.group}`" if rule.resource.group else "core") in row
        assert all(f"`{name}`" in row for name in rule.names)
    told = sum(row.partition(" | ")[0].partition(" named ")[0].count("`") // 2 for row in page if row.startswith("| `"))
    assert told == len(EVERY)
