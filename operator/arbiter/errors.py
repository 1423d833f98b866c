"""Names every error that Arbiter raises on purpose.

The type says who can mend it, so that a caller can decide without reading the message:

    ArbiterError
    + InvalidInputError   what a person wrote cannot mean anything; names the field and what would be right
    + CorruptStateError   what we stored ourselves does not read back; names what and where

A message is one sentence that a person can act on. Nothing else is raised across rooms.
"""

from __future__ import annotations


class ArbiterError(Exception):
    """Any error that Arbiter raises on purpose."""


class InvalidInputError(ArbiterError):
    """What a person wrote cannot mean anything.

    Attributes:
        field: where it stands, as a dotted path such as `spec.windows[0].cron`.
        problem: what is wrong and what would be right, as a sentence without the field.
    """

    def __init__(self, field: str, problem: str) -> None:
        """Keep the field apart from the sentence, so that a condition can show both."""
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class CorruptStateError(ArbiterError):
    """Something that Arbiter stored itself does not read back."""
