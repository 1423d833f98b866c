"""Names every error that Arbiter raises on purpose.

The type says who can mend it, so that a caller can decide without reading the message:

    ArbiterError
    + InvalidInputError   what a person wrote cannot mean anything; names the field and what would be right
    + CorruptStateError   what we stored ourselves does not read back; names what and where
    + ClusterError        the API server did not do what we asked of it
      + UnreachableError  nobody answered, or with an error of its own; time mends it, so ask again
      + DeniedError       it does not let us; the cluster's administrator mends it, with credentials or a role
      + RejectedError     it cannot answer such a question; another version of it or of Arbiter mends it
      + ConflictError     an object is not as it was when we looked; look again and decide anew
      + NotOursError      an object of that name belongs to somebody else; a person renames or deletes one of the two
      + DeposedError      we no longer lead; end the process at once, another one goes on

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


class ClusterError(ArbiterError):
    """The API server did not do what was asked of it."""


class UnreachableError(ClusterError):
    """Nobody answered, or with an error of its own.

    Attributes:
        retry_after_s: seconds after which the server wants to be asked again; 0 when it did not say.
    """

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        """Keep what the server said about trying again."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeniedError(ClusterError):
    """The API server does not know us or does not let us, or we have nothing to show it."""


class RejectedError(ClusterError):
    """The API server cannot answer such a question.

    Attributes:
        status: its HTTP status; 404 for an object that does not exist, or a kind that it does not know.
    """

    def __init__(self, message: str, status: int) -> None:
        """Keep the status, which says whether anything is wrong at all."""
        super().__init__(message)
        self.status = status


class ConflictError(ClusterError):
    """An object is not as it was when we looked: changed, replaced, made or removed meanwhile.

    Nothing was overwritten. A request that was sent twice, because the first answer was lost, may end so though the
    first one was carried out: looking again shows it.
    """


class NotOursError(ClusterError):
    """An object of that name exists and is not controlled by the one for which we write. It was not touched."""


class DeposedError(ClusterError):
    """The Lease could not be renewed in time, or another process holds it: nothing may be written any more."""
