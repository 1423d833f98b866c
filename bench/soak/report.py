"""Says what became of the ramps of a soak, as Markdown that grows with each of them.

Rule: every figure is the swap's own, from its status; nothing is computed here but sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.soak.load import Clients
    from bench.soak.ramps import Ramp

METRICS = ("success", "errors", "first-token", "per-token")

HEAD = (
    "| ended | pool | swap | s | requests | blocks, gaps | success | errors | first token | per token | outcome |",
    "| --- | --- | --- | ---: | ---: | ---: | --- | --- | --- | --- | --- |",
)
"""Requests are of the old side, and of the new one; each metric has its values on both, and its evidence both ways."""


def row(ramp: Ramp, at: str) -> str:
    """Give the line of one ramp."""
    status = ramp.status
    metrics = {each["name"]: each for each in status.get("metrics", ())}
    sides = ", ".join(str(status.get(side, {}).get("requests", "?")) for side in ("from", "to"))
    latency = metrics.get("first-token", {})
    cells = (
        at,
        ramp.pool,
        f"{ramp.swap}: {ramp.models[0]} → {ramp.models[1]}",
        f"{ramp.seconds:.0f}",
        sides,
        f"{latency.get('blocks', '?')}, {latency.get('gaps', '?')}",
        *(_figures(metrics.get(name)) for name in METRICS),
        _outcome(ramp),
    )
    return f"| {' | '.join(cells)} |"


def _outcome(ramp: Ramp) -> str:
    """Say how it ended; if that is not how it has to, then why."""
    if ramp.promoted:
        return ramp.outcome
    status = ramp.status
    return (
        f"{ramp.outcome}, {status.get('message', 'no word of it')}"
        if status.get("analysed")
        else f"{ramp.outcome}, not analysed"
    )


def _figures(metric: dict[str, Any] | None) -> str:
    if metric is None:
        return "?"
    values = " → ".join(_value(metric[side].get("value")) for side in ("old", "new"))
    promotion = metric.get("promotion")
    return f"{values}; {metric['rollback']}" + (f"; {promotion}" if promotion else "")


def _value(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"


def totals(ramps: Sequence[Ramp], clients: Sequence[Clients], minutes: float, restarts: int) -> list[str]:
    """Give what is told of all ramps together; the last line is the one that counts."""
    seconds = sorted(each.seconds for each in ramps)
    longest = (
        ""
        if not seconds
        else f"; the middle one took {seconds[len(seconds) // 2]:.0f} s, the longest {seconds[-1]:.0f} s"
    )
    requests, failed = sum(each.requests for each in clients), sum(each.failed for each in clients)
    promoted = sum(each.promoted for each in ramps)
    return [
        f"{len(ramps)} ramps in {minutes:.0f} minutes, {promoted} promoted on evidence{longest}",
        f"{requests:,} requests of clients, {failed} failed; the operator ended and was started anew {restarts} times",
        *(f"- {told}" for each in clients for told in each.told),
        f"{rolled_back(ramps)} of {len(ramps)} identical models rolled back",
    ]


def rolled_back(ramps: Sequence[Ramp]) -> int:
    """Count the ramps that were rolled back."""
    return sum(each.outcome == "RolledBack" for each in ramps)


def is_clean(ramps: Sequence[Ramp], clients: Sequence[Clients], wanted: int) -> bool:
    """Whether all that was wanted was promoted on evidence, and no request of any client failed."""
    return len(ramps) >= wanted and all(each.promoted for each in ramps) and not any(each.failed for each in clients)
