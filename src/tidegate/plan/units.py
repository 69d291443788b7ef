"""Units a scenario may use, and what each is in the unit the planner reckons in.

Decimal prefixes, as networks and disks use them: 1 GB is 1e9 bytes. A year is 365 days.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

YEAR = 365.0
"""Days."""

_DAY_S = 86_400.0
_PREFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}


@dataclass(frozen=True, slots=True)
class Dimension:
    """A kind of quantity: `base` is the unit reckoned in; a value in unit u is `factors[u]` of it,
    plus `offsets[u]` where there is one."""

    base: str
    factors: Mapping[str, float]
    offsets: Mapping[str, float] = field(default_factory=dict)

    def to_base(self, value: float, unit: str) -> float:
        """`value` in the base unit. Raises KeyError for a unit of another kind."""
        return value * self.factors[unit] + self.offsets.get(unit, 0.0)


def _of(base: str, **more: float) -> Dimension:
    return Dimension(base, {base: 1.0, **more})


_COUNTS = {"": 1.0, "million ": 1e6, "billion ": 1e9, "trillion ": 1e12}

PARAMETERS = Dimension("parameters", {f"{name}parameters": by for name, by in _COUNTS.items()})
BYTES_A_PARAMETER = Dimension("bytes/parameter", {"bytes/parameter": 1.0, "bits/parameter": 0.125})
TIMES = _of("x")
SHARE = Dimension("share", {"share": 1.0, "%": 0.01})
GROWTH = Dimension("x/year", {"x/year": 1.0, "%/year": 0.01}, {"%/year": 1.0})
"""A factor a year: 1 is no growth, 50 %/year is 1.5."""

TOKENS_A_DAY = Dimension(
    "tokens/day",
    {
        f"{name}tokens/{period}": by / days
        for name, by in _COUNTS.items()
        for period, days in (("day", 1.0), ("month", YEAR / 12), ("year", YEAR))
    }
    | {"tokens/second": _DAY_S},
)
TOKENS = _of("tokens")
BITS_A_TOKEN = Dimension("bits/token", {"bits/token": 1.0, "bytes/token": 8.0})
BITS_A_DAY = Dimension(
    "bits/day",
    {"bits/day": 1.0}
    | {f"{prefix}B/day": 8 * by for prefix, by in _PREFIXES.items() if prefix}
    | {f"{prefix}bit/day": by for prefix, by in _PREFIXES.items() if prefix}
    | {f"{prefix}bit/s": by * _DAY_S for prefix, by in _PREFIXES.items()}
    | {f"{prefix}B/s": 8 * by * _DAY_S for prefix, by in _PREFIXES.items() if prefix},
)
DAYS = Dimension(
    "days",
    {"minutes": 1 / 1440, "hours": 1 / 24, "days": 1.0, "weeks": 7.0}
    | {"months": YEAR / 12, "years": YEAR},
)
PRICE = Dimension("USD/million tokens", {"USD/million tokens": 1.0, "USD/token": 1e6})
