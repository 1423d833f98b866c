"""Puts the operator's parts together, each with what it needs of the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from arbiter.controller.cache import Cache
from arbiter.controller.queue import Waiting, WorkQueue
from arbiter.controller.tables import Tables
from arbiter.controller.watches import Watches, everything
from arbiter.kubeapi.events import Events
from arbiter.kubeapi.retrying import Retrying

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from arbiter.controller.metrics import Metrics
    from arbiter.controller.options import Options
    from arbiter.controller.queue import Subject
    from arbiter.kubeapi.connection import Asking, Connection


class Parts:
    """What both replicas have, whoever leads.

    Attributes:
        options: of the command line.
        connection: to the API server, asking once.
        asking: what only the leader may ask, asking again when there is no answer.
        metrics: what is counted.
        now: the time of day.
        draw: numbers drawn evenly from [0, 1), for pauses.
        secret: gives a text that nobody can guess.
        identity: what we are called.
        queue: who is passed next.
        cache: what the watches told.
        tables: the routers' tables in it.
        watches: what fills it.
        events: what people are told.
    """

    def __init__(  # noqa: PLR0913  what comes from outside
        self,
        options: Options,
        connection: Connection,
        leading: Asking,
        metrics: Metrics,
        identity: str,
        *,
        draw: Callable[[], float],
        now: Callable[[], datetime],
        secret: Callable[[], str],
    ) -> None:
        """Needs a running loop; `leading` is the way for what only the leader may ask."""
        self.options = options
        self.connection = connection
        self.asking = Retrying(leading, draw)
        self.metrics = metrics
        self.now = now
        self.draw = draw
        self.secret = secret
        self.identity = identity
        self.queue = Waiting(WorkQueue(draw), asyncio.get_running_loop().time)
        self.cache = Cache(self.concerned)
        self.tables = Tables(self.cache)
        self.watches = Watches(connection, tuple(everything(self.cache, options.namespaces)), draw)
        self.events = Events(self.asking, identity)

    def concerned(self, subject: Subject) -> None:
        """Something about a pool or a model is new."""
        self.queue.add(subject)
