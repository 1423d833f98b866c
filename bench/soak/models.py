"""Runs the stand-ins for models in a process of its own, so that they share no interpreter with the clients."""

from __future__ import annotations

import multiprocessing
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.e2e.swap.upstream import upstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

MODELS = ("first", "second", "third")
"""The models, which differ by their names alone."""

FIRST_S, TOKEN_S = 0.4, 0.08
"""Seconds to the first token and for each further one, as a small model on a processor takes. The margin of 1.2 then is
80 ms and 16 ms: a machine that others keep busy moves latencies by that much at times, and not all the time."""

END_S = 30.0
"""Seconds that the process may take to end."""


@contextmanager
def models() -> Iterator[str]:
    """Run them until the end of the block, and give their address. All of them answer alike."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there,), daemon=True)
    process.start()
    there.close()
    try:
        yield here.recv()
    finally:
        here.close()
        process.join(END_S)


def _serve(told: Connection) -> None:
    with upstream() as running:
        for name in MODELS:
            running.behave(name, first_s=FIRST_S, token_s=TOKEN_S)
        told.send(running.address)
        try:
            told.recv()
        except EOFError:
            return
