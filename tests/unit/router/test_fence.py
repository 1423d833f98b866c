"""Which offered table comes into force."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from arbiter.core.routes import Limits
from arbiter.router.fence import STILL, Fence, Offer, accept
from tests.unit.router.router_examples import table

if TYPE_CHECKING:
    from arbiter.core.routes import RouteTable


class Told:
    """What a fence told."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.tables: list[RouteTable] = []
        self.refusals: list[tuple[str, str]] = []
        self.fence = Fence(self.tables.append, lambda reason, message: self.refusals.append((reason, message)))

    def take(self, *offered: RouteTable | str) -> None:
        """Offer these."""
        for each in offered:
            self.fence.take(Offer(each if isinstance(each, str) else each.to_text()))

    @property
    def generations(self) -> list[int]:
        """Of the tables that came into force."""
        return [each.generation for each in self.tables]


def of(epoch: int, generation: int) -> RouteTable:
    """A table of this leader."""
    return replace(table(generation), epoch=epoch)


@pytest.mark.parametrize(
    ("epoch", "generation", "why"),
    [
        pytest.param(3, 8, None, id="the next generation"),
        pytest.param(3, 7, None, id="the same again"),
        pytest.param(4, 1, None, id="a new leader that counts anew"),
        pytest.param(3, 6, "routes.generation is 6, and 7 is already known", id="an older generation"),
        pytest.param(2, 99, "routes.epoch is 2, and a leader of epoch 3 has written since", id="an older leader"),
    ],
)
def test_a_table_of_the_past_is_not_accepted(epoch: int, generation: int, why: str | None) -> None:
    """A leader that was replaced and does not know it must not move traffic."""
    assert accept(of(epoch, generation), of(3, 7)) == why
    assert accept(of(epoch, generation), None) is None


def test_tables_come_into_force_in_order_and_the_same_one_only_once() -> None:
    """What changes nothing must not begin a new slice of the accounting."""
    told = Told()
    first = of(3, 7)
    told.take(first, first, first.to_text() + "\n", of(3, 8), of(4, 1), of(3, 9))
    assert told.generations == [7, 8, 1]
    assert told.refusals == [("stale", "routes.epoch is 3, and a leader of epoch 4 has written since")]
    assert told.fence.current is told.tables[-1]


def test_a_leader_that_rises_above_the_fence_is_obeyed_after_any_number_of_refusals() -> None:
    """After a restored backup the counts of the cluster begin in the past; the highest one known ends that."""
    told = Told()
    told.take(of(7, 31), of(2, 31), of(3, 99), of(7, 30))
    assert [reason for reason, _ in told.refusals] == ["stale"] * 3
    told.take(of(8, 1))
    assert told.generations == [31, 1]


def test_another_content_of_the_same_generation_is_obeyed() -> None:
    """A person who edits a file need not count."""
    told = Told()
    told.take(of(0, 0), replace(of(0, 0), limits=Limits(idle_s=5.0)))
    assert [each.limits.idle_s for each in told.tables] == [60.0, 5.0]


def test_what_cannot_be_read_is_refused_once_and_the_last_good_one_stays(caplog: pytest.LogCaptureFixture) -> None:
    """Each offer counts once, however often it is seen, and the log names the field."""
    told = Told()
    told.take("{", of(3, 7), "{", "{", '{"version": 1}', "")
    told.fence.take(Offer(problem="the file is gone"))
    told.fence.take(Offer(problem="the file is gone"))
    assert [reason for reason, _ in told.refusals] == ["unreadable"] * 5
    assert [message for _, message in told.refusals][2:4:1] == ["routes.epoch is missing", told.refusals[3][1]]
    assert told.refusals[-1] == ("unreadable", "the file is gone")
    assert told.generations == [7]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 5
    assert "there is none in force" in warnings[0]
    assert "the last good one stays in force: routes.epoch is missing" in warnings[2]


def test_the_table_in_force_offered_after_a_refusal_is_told_again_as_the_same_object() -> None:
    """Then the refusal is over, and nothing else changed."""
    told = Told()
    told.take(of(3, 7), "{", of(3, 7))
    assert told.generations == [7, 7]
    assert told.tables[0] is told.tables[1]
    told.take(of(3, 7).to_text() + " ")
    assert told.generations == [7, 7]


def test_a_table_remembered_from_an_earlier_life_fences_too() -> None:
    """Else a router that restarts would obey a leader that it refused before."""
    told = Told()
    told.fence.remember(of(4, 2))
    told.take(of(3, 9), of(4, 1), of(4, 2))
    assert [reason for reason, _ in told.refusals] == ["stale", "stale"]
    assert told.generations == [2]


def test_what_was_refused_stays_so_when_the_remembered_table_comes_into_force() -> None:
    """Else a router that starts in a restored cluster would look as if it had taken what it was offered."""
    told: list[str] = []
    fence = Fence(lambda table: told.append(f"obeys {table.generation}"), lambda reason, _: told.append(reason))
    fence.remember(of(7, 31))
    fence.take(Offer(of(2, 12).to_text()))
    fence.fall_back(of(7, 31))
    assert told == ["stale", "obeys 31", STILL]
    fence.take(Offer(of(7, 31).to_text()))
    assert told == ["stale", "obeys 31", STILL, "obeys 31"]
