"""Quantities and durations as Kubernetes writes them, parsed once into exact values.

The text stays with the value, so that what a user wrote is what a user reads. Two amounts are equal when their
values are: `1Gi` is `1024Mi`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import total_ordering
from typing import TYPE_CHECKING, ClassVar, Generic, Self, TypeVar

from pydantic_core import core_schema

from arbiter.api.meta import VALIDATIONS, Rule

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue

Value = TypeVar("Value", Decimal, timedelta)

QUANTITY_HELP = "must be a positive quantity as Kubernetes writes it, such as 512Mi, 16Gi or 2"
DURATION_HELP = "must be a duration of h, m, s and ms, such as 30s, 5m, 1h30m or 168h (seven days)"

_QUANTITY = re.compile(
    r"\+?(?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,2})?"
)
_DURATION = re.compile(r"(?:[0-9]{1,5}(?:h|ms|m|s)){1,4}")
_DURATION_PART = re.compile(r"([0-9]+)(h|ms|m|s)")

_SCALE = {
    "": Decimal(1),
    **{
        suffix: Decimal(10) ** power
        for suffix, power in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)
    },
    **{f"{prefix}i": Decimal(2) ** (10 * power) for power, prefix in enumerate("KMGTPE", start=1)},
}
_UNIT = {
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Amount(ABC, Generic[Value]):
    """What is written as text and means an exact value.

    Attributes:
        text: as it was written.
        value: what it means.
    """

    text: str
    value: Value

    help: ClassVar[str]
    """How to write one, as a sentence."""

    accepted: ClassVar[tuple[type[str | int], ...]]
    """What a manifest may hold in its place."""

    @classmethod
    @abstractmethod
    def parse(cls, written: str | int) -> Self:
        """Read an amount.

        Raises:
            ValueError: it is not one.
        """

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.value == other.value

    def __lt__(self, other: Self) -> bool:
        return self.value < other.value

    def __hash__(self) -> int:
        return hash(self.value)

    def __str__(self) -> str:
        return self.text

    @classmethod
    def _read(cls, given: object) -> Self:
        """Take an amount as it is, and read what a manifest may hold in its place."""
        if isinstance(given, cls):
            return given
        if isinstance(given, cls.accepted) and not isinstance(given, bool):
            return cls.parse(given)
        raise ValueError(cls.help)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Read on the way in, and write back as it was written."""
        return core_schema.no_info_plain_validator_function(cls._read, serialization=core_schema.to_string_ser_schema())


@dataclass(frozen=True, slots=True, eq=False)
class Quantity(Amount[Decimal]):
    """An amount of a resource: bytes of memory, GPUs, cores.

    The forms are those of Kubernetes' `resource.Quantity`: a decimal number with a binary suffix (`Ki` to `Ei`), a
    decimal one (`n` to `E`) or an exponent (`e3`). The value is in base units.
    """

    help = QUANTITY_HELP
    accepted = (str, int)

    @classmethod
    def parse(cls, written: str | int) -> Self:
        """Read a quantity; ValueError if it is none, or negative."""
        text = str(written)
        match = _QUANTITY.fullmatch(text)
        if match is None:
            raise ValueError(QUANTITY_HELP)
        number, suffix = Decimal(match["number"]), match["suffix"] or ""
        scale = _SCALE[suffix] if suffix in _SCALE else Decimal(10) ** int(suffix[1:])
        return cls(text, number * scale)

    def __int__(self) -> int:
        """Round up to whole base units, as Kubernetes does: what is asked for is at least given."""
        return int(self.value.to_integral_value(rounding="ROUND_CEILING"))

    def thousandths(self) -> int:
        """Give it in thousandths, rounded up: the finest parts of a core that pods can ask for."""
        return int((self.value * 1000).to_integral_value(rounding="ROUND_CEILING"))

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _core: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Say it as Kubernetes does: an integer or a string, judged by the API server's own parser."""
        rule = Rule(
            "type(self) == int ? int(self) > 0 : "
            "isQuantity(string(self)) && quantity(string(self)).isGreaterThan(quantity('0'))",
            QUANTITY_HELP,
        )
        return {"x-kubernetes-int-or-string": True, "maxLength": 32, VALIDATIONS: [rule.to_schema()]}


@dataclass(frozen=True, slots=True, eq=False)
class Duration(Amount[timedelta]):
    """A length of time.

    The form is the Gateway API's (GEP-2257), the strict part of what Go reads: up to four of hours, minutes, seconds
    and milliseconds, whole numbers of at most five digits.
    """

    help = DURATION_HELP
    accepted = (str,)

    @classmethod
    def parse(cls, written: str | int) -> Self:
        """Read a duration; ValueError if it is none."""
        text = str(written)
        if _DURATION.fullmatch(text) is None:
            raise ValueError(DURATION_HELP)
        parts = _DURATION_PART.findall(text)
        return cls(text, sum((int(number) * _UNIT[unit] for number, unit in parts), timedelta()))

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        return self.value.total_seconds()

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _core: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Say it as a string whose form a sentence explains."""
        rule = Rule("self.matches('^([0-9]{1,5}(h|ms|m|s)){1,4}$')", DURATION_HELP)
        return {"type": "string", "maxLength": 28, VALIDATIONS: [rule.to_schema()]}
