"""Writes amounts of resources as the API server writes them back.

Rule: a binary suffix stays binary, the largest suffix that leaves a whole number is taken, and what a binary suffix
cannot say whole is rounded up, as `resource.Quantity` of Kubernetes does. Then what was sent and what stands compare
as text.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from arbiter.api.amounts import Quantity
    from arbiter.api.pod import ResourceRequirements

_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL = ("n", "u", "m", "", "k", "M", "G", "T", "P", "E")


def canonical(quantity: Quantity) -> str:
    """Write a quantity as the API server does: `1000m` is `1`, `1.5Gi` is `1536Mi`."""
    if quantity.text.endswith("i"):
        return _binary(quantity.value)
    if "e" in quantity.text or ("E" in quantity.text and not quantity.text.endswith("E")):
        return _exponent(quantity.value)
    return _decimal(quantity.value)


def bytes_quantity(count: int) -> str:
    """Write bytes as a binary quantity."""
    return _binary(Decimal(count))


def whole_mebibytes(count: int) -> str:
    """Write bytes as a quantity, rounded up to whole mebibytes so that it reads well."""
    return bytes_quantity(-(-count // 1024**2) * 1024**2)


def resources(given: ResourceRequirements) -> dict[str, dict[str, str]]:
    """Give a container's resources, without what is empty."""
    parts = {"requests": _amounts(given.requests), "limits": _amounts(given.limits)}
    return {part: amounts for part, amounts in parts.items() if amounts}


def _amounts(amounts: Mapping[str, Quantity]) -> dict[str, str]:
    return {resource: canonical(amounts[resource]) for resource in sorted(amounts)}


def _binary(value: Decimal) -> str:
    if value < 1024:
        # Below that the API server falls back to decimal suffixes.
        return _decimal(value)
    count, power = int(value.to_integral_value(rounding="ROUND_CEILING")), 0
    while count % 1024 == 0 and power < len(_BINARY) - 1:
        count //= 1024
        power += 1
    return f"{count}{_BINARY[power]}"


def _decimal(value: Decimal) -> str:
    count, power = _scaled(value)
    return f"{count}{_DECIMAL[power]}"


def _exponent(value: Decimal) -> str:
    count, power = _scaled(value)
    exponent = 3 * (power - _DECIMAL.index(""))
    return f"{count}e{exponent}" if exponent else str(count)


def _scaled(value: Decimal) -> tuple[int, int]:
    """Give whole thousandths of thousandths, and by how much they are scaled."""
    count, power = int((value * 10**9).to_integral_value(rounding="ROUND_CEILING")), 0
    while count and count % 1000 == 0 and power < len(_DECIMAL) - 1:
        count //= 1000
        power += 1
    return (count, power) if count else (0, _DECIMAL.index(""))
