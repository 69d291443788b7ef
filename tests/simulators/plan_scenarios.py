"""Small scenarios for tests of the planner, written as a user would."""

from __future__ import annotations

from pathlib import Path

from tidegate.plan.scenario import Quantity, Scenario, exactly, read

PACKAGED = Path(__file__).resolve().parents[2] / "src" / "tidegate" / "data" / "plan"

SMALL = """
title = "small"

[model]
parameters = { value = 1, unit = "billion parameters", range = [1, 1], source = "assumed: test" }
bytes_per_parameter = { value = 2, unit = "bytes/parameter", range = [2, 2], source = "cited: x" }
lifetime = { value = 1, unit = "years", range = [1, 1], source = "assumed: test" }

[attacker]
lossless_compression = { value = 1, unit = "x", range = [1, 1], source = "assumed: test" }
lossy_compression = { value = 16, unit = "x", range = [4, 100], source = "assumed: test" }
share_of_traffic = { value = 100, unit = "%", range = [100, 100], source = "assumed: test" }

[traffic]
tokens = { value = 10, unit = "million tokens/day", range = [5, 20], source = "assumed: test" }
output_share = { value = 100, unit = "%", range = [100, 100], source = "assumed: test" }

[link]
bits_per_token = { value = 2, unit = "bits/token", range = [2, 2], source = "assumed: test" }
headroom = { value = 50, unit = "%", range = [50, 50], source = "assumed: test" }
"""


def small() -> Scenario:
    """Nobody verifies; a cap half as high again as honest use."""
    return read(SMALL, "small")


def packaged() -> dict[str, Scenario]:
    """Every scenario that ships with the package, by name."""
    return {
        path.stem: read(path.read_text(), path.name) for path in sorted(PACKAGED.glob("*.toml"))
    }


def given(scenario: Scenario, **values: float) -> Scenario:
    """The scenario with point values; `__` stands for the dot of a name."""
    return scenario.having(
        **{name: exactly(value, "assumed: test") for name, value in values.items()}
    )


def between(low: float, value: float, high: float) -> Quantity:
    """An open value."""
    return Quantity(value, low, high, "assumed: test")
