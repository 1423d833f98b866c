"""Decides what an engine's container does before it is told to end: it lets the answers end that it is giving.

Routers see a pod that is to go leave the list of ready endpoints, send it nothing more, and close their connections to
it as its answers end. A pod without an open connection is therefore idle, whatever its server is; where the image has
a shell the container waits for that and no longer. What is in an owner's image is not known, so it sleeps.

The rule: a server is not told to end before. llama-server then stops computing and leaves its clients hanging.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

LEAVE_S: Final = 5
"""Seconds until every router knows that a pod leaves."""

LONGEST_S: Final = 900
"""The longest that answers get to end, in seconds: as long as a router gives its own. A drained node does not wait for
ever."""

LONGEST_SLEEP_S: Final = 120
"""The longest that a container sleeps which cannot tell when it is idle, in seconds; it sleeps that long each time."""

_SCRIPT: Final = """\
busy() {{
  while read -r _ here _ state _; do
    case "$here $state" in *:{port:04X}' 01') return 0;; esac
  done
  return 1
}}
sleep {leave}
left={seconds}
while [ "$left" -gt 0 ] && {{ busy </proc/net/tcp || busy </proc/net/tcp6; }}; do
  sleep 1
  left=$((left - 1))
done
"""
"""In the kernel's tables of connections the second word is our side, with the port in hexadecimal digits, and the
fourth is the state: 01 is an open connection (Linux, Documentation/networking/proc_net_tcp.rst)."""


@dataclass(frozen=True, slots=True)
class Drain:
    """How a container lets its answers end.

    Attributes:
        handler: the hook that Kubernetes runs before it tells the container to end.
        longest_s: seconds that the hook takes at most.
    """

    handler: Mapping[str, object]
    longest_s: int


def drain_once_idle(port: int) -> Drain:
    """Wait until no connection to the server's port is open; its image must have a shell."""
    script = _SCRIPT.format(port=port, leave=LEAVE_S, seconds=LONGEST_S - LEAVE_S)
    return Drain({"exec": {"command": ["sh", "-c", script]}}, LONGEST_S)


def drain_by_sleeping(timeout_s: float) -> Drain:
    """Sleep as long as an answer may take, within bounds; any image will do."""
    seconds = max(min(ceil(timeout_s), LONGEST_SLEEP_S), LEAVE_S)
    return Drain({"sleep": {"seconds": seconds}}, seconds)
