"""The one error of this package: a line that says what is missing and what to do about it.

A message is one sentence or two for a person, without a traceback; whoever catches it prints it and exits with
`exit_code`.
"""

from __future__ import annotations


class DevclusterError(Exception):
    """The cluster cannot be brought to where it was asked to be; `str()` is the whole of what to print."""

    exit_code = 1
