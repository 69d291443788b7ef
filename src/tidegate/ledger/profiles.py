"""Named budgets, each number with the reason for it.

A thief needs `16 * parameters / compression` bits to hold a usable copy of the weights: 16 bits a
parameter as trained, divided by how well he compresses. 16 is the assumed default and 1 to 100 the
range considered (arXiv 2601.01296). A cap per day is that number divided by the days we want him to
need if every bit that leaves is his.
"""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.errors import ConfigError
from tidegate.ledger.budgets import Budget, Budgets, Rolling, edges_along

HOUR = 3_600
DAY = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How caps follow from the size of the model; every field is a choice with a reason."""

    compression: int
    """What the thief is assumed to manage."""
    days: int
    """How long he must need through the outermost edge."""
    hour_divisor: int
    """A day's cap over an hour's: honest use peaks; an even drip gains nothing by it."""
    principal_divisor: int
    """An edge's cap over one principal's: how many accounts must collude to use all of it."""
    inner_factor: int
    """Caps of the edges further in, where approved researchers work, over the outermost one's."""
    lifetime_divisor: int | None
    """Weights over the lifetime cap: past it, only a logged top-up lets more out."""


PROFILES = {
    # A month, so that `make demo` can be run many times a day on a model of 135M parameters
    # (4.5 Mbit a day) and the report's days-to-exfiltrate still means something. No lifetime cap:
    # a demo's ledger is thrown away.
    "demo": Profile(
        compression=16,
        days=30,
        hour_divisor=4,
        principal_divisor=1,
        inner_factor=4,
        lifetime_divisor=None,
    ),
    # The pessimistic end of the range, a year, and never more than half of what the thief needs
    # unless somebody signs for it. Eight principals must collude to use up an edge.
    "strict": Profile(
        compression=100,
        days=365,
        hour_divisor=8,
        principal_divisor=8,
        inner_factor=4,
        lifetime_divisor=2,
    ),
}

TESTING_ONLY = "testing-only"
"""Caps that protect nothing; for tests and benchmarks, where a refusal would spoil the figure."""


def profile(
    name: str, *, parameters: int, zones: tuple[str, ...] = ("inner", "outside")
) -> Budgets:
    """The budgets called `name` for a model of `parameters` parameters.

    Args:
        name: `demo`, `strict` or `testing-only`.
        parameters: of the strong model, >= 1.
        zones: innermost first; `("inner", "intermediate", "outside")` for co-located researchers.

    Raises:
        ConfigError: an unknown name, no parameters, or fewer than two zones.
    """
    if parameters < 1 or len(zones) < 2:
        raise ConfigError("A profile needs the model's parameter count and at least two zones.")
    edges = edges_along(zones)
    if name == TESTING_ONLY:
        wide = Budget(windows=(Rolling(HOUR, 2**50), Rolling(DAY, 2**50)))
        caps = tuple((edge, wide) for edge in edges)
        return Budgets(name=name, total=wide, edges=caps, principal=wide)
    chosen = PROFILES.get(name)
    if chosen is None:
        known = ", ".join((*PROFILES, TESTING_ONLY))
        raise ConfigError(f"There is no budget profile {name!r}; choose one of {known}.")

    def budget(factor: int, divisor: int) -> Budget:
        stolen = 16 * parameters * factor // (chosen.compression * divisor)
        lifetime = None if chosen.lifetime_divisor is None else stolen // chosen.lifetime_divisor
        day = stolen // chosen.days
        windows = (Rolling(HOUR, day // chosen.hour_divisor), Rolling(DAY, day))
        return Budget(lifetime=lifetime, windows=windows)

    inner = chosen.inner_factor
    factors = [inner] * (len(edges) - 1) + [1]
    return Budgets(
        name=name,
        total=budget(sum(factors), 1),
        edges=tuple((edge, budget(f, 1)) for edge, f in zip(edges, factors, strict=True)),
        principal=budget(1, chosen.principal_divisor),
    )
