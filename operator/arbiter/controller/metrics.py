"""Counts what the operator does, for Prometheus.

Rule: a label has few values by construction: kinds, verbs, outcomes and phases. The only names are those of pools, one
series each, and they go with their pool.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

import arbiter
from arbiter.api.modelswap import Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from arbiter.api.modelswap import ModelSwapStatus
    from arbiter.controller.queue import Subject

PASS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds. A pass that writes nothing takes a millisecond; one that waits for the API server takes what that takes."""


PHASE_BUCKETS = (0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0)
"""Seconds. Test policies ramp in seconds, real ones in hours."""


class Metrics:
    """All metrics of one process."""

    def __init__(self) -> None:
        """Everything is zero."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's; a series for each series, which nobody reads
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        build = Gauge("arbiter_build_info", "Which program this is.", ("version", "python"), registry=self.registry)
        build.labels(arbiter.__version__, platform.python_version()).set(1)
        self._passes = Counter(
            "arbiter_passes", "Passes that ended, by kind and outcome.", ("kind", "outcome"), registry=self.registry
        )
        self._seconds = Histogram(
            "arbiter_pass_seconds", "How long passes took.", ("kind",), registry=self.registry, buckets=PASS_BUCKETS
        )
        self._writes = Counter(
            "arbiter_api_writes", "What the API server wrote for us, by kind and verb.", ("kind", "verb"),
            registry=self.registry,
        )  # fmt: skip
        self._depth = Gauge("arbiter_queue_depth", "Pools and models that wait for their pass.", registry=self.registry)
        self._leader = Gauge("arbiter_leader", "1 while this process leads.", registry=self.registry)
        self._epoch = Gauge("arbiter_epoch", "The epoch of this leadership; 0 before it.", registry=self.registry)
        self._jobs = Gauge("arbiter_jobs_running", "Jobs that run.", registry=self.registry)
        self._restarts = Gauge(
            "arbiter_watch_interruptions", "How often a watch broke, by resource.", ("resource",),
            registry=self.registry,
        )  # fmt: skip
        self._unanswered = Gauge("arbiter_scrape_failures", "Questions that were not answered.", registry=self.registry)
        self._lost_events = Gauge("arbiter_events_lost", "Events that could not be told.", registry=self.registry)
        self._pools = Gauge(
            "arbiter_pool_ready", "1 when a pool is Ready, by its reason.", ("namespace", "pool", "reason"),
            registry=self.registry,
        )  # fmt: skip

        self._swaps = Gauge(
            "arbiter_swaps_in_flight", "ModelSwaps that have not ended, by phase.", ("namespace", "pool", "phase"),
            registry=self.registry,
        )  # fmt: skip
        self._outcomes = Counter(
            "arbiter_swaps", "ModelSwaps that ended, by outcome and reason.", ("outcome", "reason"),
            registry=self.registry,
        )  # fmt: skip
        self._phases = Histogram(
            "arbiter_swap_phase_seconds", "How long phases of swaps took.", ("phase",), registry=self.registry,
            buckets=PHASE_BUCKETS,
        )  # fmt: skip
        self._restored = Histogram(
            "arbiter_swap_rollback_seconds", "From the decision to roll back until the old side had everything.",
            registry=self.registry, buckets=PASS_BUCKETS,
        )  # fmt: skip
        self._requests = Counter(
            "arbiter_swap_requests", "Requests compared in swaps that ended, by side.", ("side",),
            registry=self.registry,
        )  # fmt: skip

    def swap_moved(self, before: ModelSwapStatus, after: ModelSwapStatus) -> None:
        """A swap's status was written."""
        if after.phase is before.phase or not after.history:
            return
        began = after.history[-1].at
        if len(after.history) > 1:
            since = after.history[-2]
            self._phases.labels(since.phase.value).observe((began - since.at).total_seconds())
            if since.phase is Phase.RollingBack:
                self._restored.observe((began - since.at).total_seconds())
        if after.phase is Phase.Ended and after.outcome is not None:
            self._outcomes.labels(after.outcome.value, after.reason or "").inc()
            for name, side in (("old", after.from_), ("new", after.to)):
                self._requests.labels(name).inc(0 if side is None else side.requests or 0)

    def passed(self, subject: Subject, seconds: float, outcome: str) -> None:
        """A pass ended."""
        self._passes.labels(subject.kind, outcome).inc()
        self._seconds.labels(subject.kind).observe(seconds)

    def wrote(self, kind: str, verb: str) -> None:
        """The API server wrote something for us."""
        self._writes.labels(kind, verb).inc()

    def lead(self, *, leads: bool) -> None:
        """This process leads, or no longer."""
        self._leader.set(int(leads))

    def see(  # noqa: PLR0913  one for each gauge
        self,
        *,
        depth: int,
        epoch: int,
        jobs: int,
        unanswered: int,
        lost_events: int,
        watches: Mapping[str, int],
        pools: Iterable[tuple[str, str, str, bool]],
        swaps: Iterable[tuple[str, str, str]] = (),
    ) -> None:
        """Set what is not counted as it happens.

        Args:
            depth: how many wait for their pass.
            epoch: of this leadership.
            jobs: how many run.
            unanswered: questions that were not answered.
            lost_events: events that could not be told.
            watches: how often each broke.
            pools: namespace, name, reason of its Ready condition, and whether it holds.
            swaps: namespace, pool and phase of each that has not ended.
        """
        self._depth.set(depth)
        self._epoch.set(epoch)
        self._jobs.set(jobs)
        self._unanswered.set(unanswered)
        self._lost_events.set(lost_events)
        for resource, times in watches.items():
            self._restarts.labels(resource).set(times)
        self._pools.clear()
        for namespace, name, reason, ready in pools:
            self._pools.labels(namespace, name, reason).set(int(ready))
        self._swaps.clear()
        for namespace, pool, phase in swaps:
            self._swaps.labels(namespace, pool, phase).inc()

    def exposition(self) -> bytes:
        """Prometheus' text form."""
        return generate_latest(self.registry)
