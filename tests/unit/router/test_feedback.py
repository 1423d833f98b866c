"""Ids of answers: made by us, for one answer, and good for one score."""

from __future__ import annotations

import pytest

from arbiter.router.feedback import Feedback, Rated
from arbiter.router.refusal import Refusal


def feedback(key: bytes = b"a key of a pool") -> Feedback:
    """Give one with plain nonces."""
    return Feedback(key, "")


@pytest.mark.parametrize(
    "rated",
    [
        pytest.param(Rated("chat", "old", "0a1b2c3d4e"), id="as in a cluster"),
        pytest.param(Rated("chat.v2", "new", "smollm2:135m"), id="a name with a dot, a revision with a colon"),
        pytest.param(Rated("a", "fallback", "1.0:2:3"), id="a revision with several"),
    ],
)
def test_what_an_id_stands_for_is_read_back(rated: Rated) -> None:
    """In a table that a person wrote, a revision is whatever fits into a header."""
    ours = feedback()
    said = ours.issue(*rated).decode()

    assert feedback().take(said) == rated, "any router of the pool takes it"
    assert ours.take(said) == rated
    with pytest.raises(Refusal) as again:
        ours.take(said)
    assert again.value.status == 409


@pytest.mark.parametrize("said", ["", ":", "chat:old:0a1b2c3d4e:0:00", "chat", "\ud800:\udfff"])
def test_an_id_that_was_made_up_is_unknown(said: str) -> None:
    """So is one of another pool."""
    with pytest.raises(Refusal) as refused:
        feedback().take(said)
    assert refused.value.status == 404
    with pytest.raises(Refusal):
        feedback(b"the key of another").take(feedback().issue("chat", "old", "1").decode())
