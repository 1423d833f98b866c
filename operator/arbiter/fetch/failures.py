"""Names why a source could not be resolved or fetched, as a code for machines and a sentence for people.

Rule: every failure says whether time may mend it, because that alone decides whether it is tried again.
"""

from __future__ import annotations

from enum import StrEnum

from arbiter.errors import ArbiterError


class FailureCode(StrEnum):
    """CamelCase codes: stable, and fit to be the reason of a condition."""

    SourceInvalid = "SourceInvalid"
    """The source cannot be read as one, or names a kind of thing that cannot be served."""

    SourceNotFound = "SourceNotFound"
    """The server knows no such model, tag, revision or file."""

    AccessDenied = "AccessDenied"
    """The server does not let us: the pull secret is missing, wrong or not enough."""

    RateLimited = "RateLimited"
    """The server wants to be asked less often."""

    SourceUnreachable = "SourceUnreachable"
    """Nobody answered, or with an error of its own."""

    SourceRefused = "SourceRefused"
    """The server answered with something that no retry changes."""

    RedirectRefused = "RedirectRefused"
    """The server sent us from https to http, in circles, or to something that is no web address."""

    AnswerInvalid = "AnswerInvalid"
    """The server's answer is not what its protocol promises, or it is larger than it may be."""

    PlatformMissing = "PlatformMissing"
    """The image exists for other platforms only."""

    FileMissing = "FileMissing"
    """The image, repository or claim is there, the file in it is not."""

    NotAModel = "NotAModel"
    """The file is not of the kind that its name says."""

    SumMismatch = "SumMismatch"
    """The content is not the one that the digest or the sum names."""

    SourceMoved = "SourceMoved"
    """The source means another content by now than when it was resolved."""

    NoSpace = "NoSpace"
    """The volume has not enough free space."""

    VolumeFailed = "VolumeFailed"
    """The volume could not be read or written."""

    EngineUnreachable = "EngineUnreachable"
    """The server that a model is carried to did not answer, or broke off."""

    EngineRefused = "EngineRefused"
    """The server that a model is carried to cannot make one of it."""

    PortTaken = "PortTaken"
    """The port for progress is in use."""

    DeadlinePassed = "DeadlinePassed"
    """Time ran out while the source was still being asked."""


class SourceError(ArbiterError):
    """A source could not be resolved or fetched.

    Attributes:
        code: why, for machines.
        transient: whether asking again may help.
        retry_after_s: seconds after which the server wants to be asked again; 0 when it did not say.
        status: the HTTP status that it stands for; 0 where there was none.
    """

    def __init__(
        self, code: FailureCode, message: str, *, transient: bool = False, retry_after_s: float = 0.0, status: int = 0
    ) -> None:
        """Keep what decides about another attempt apart from the sentence."""
        super().__init__(message)
        self.code = code
        self.transient = transient
        self.retry_after_s = retry_after_s
        self.status = status
