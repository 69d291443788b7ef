"""The one shape all benchmarks speak, as a table for people and as JSON for machines."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from tidegate.errors import TidegateError


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured number. `holds` is None where no target is set. `n` counts observations."""

    value: float
    unit: str
    target: str | None = None
    holds: bool | None = None
    n: int
    how: str


def at_most(value: float, limit: float, *, unit: str, n: int, how: str) -> Figure:
    """A figure that holds when it is no greater than `limit`."""
    return _against(value, f"<= {limit:g}", value <= limit, unit, n, how)


def at_least(value: float, limit: float, *, unit: str, n: int, how: str) -> Figure:
    """A figure that holds when it is no smaller than `limit`."""
    return _against(value, f">= {limit:g}", value >= limit, unit, n, how)


def report(value: float, *, unit: str, n: int, how: str) -> Figure:
    """A figure without a target."""
    return Figure(value=float(value), unit=unit, n=n, how=how)


def _against(value: float, target: str, holds: bool, unit: str, n: int, how: str) -> Figure:
    # Measured with numpy, as like as not, whose numbers JSON does not take.
    return Figure(value=float(value), unit=unit, target=target, holds=bool(holds), n=n, how=how)


@dataclass(frozen=True, slots=True)
class Result:
    """All figures of one benchmark run."""

    name: str
    figures: Mapping[str, Figure]
    machine: Mapping[str, str | int] = field(default_factory=lambda: machine())

    def holds(self) -> bool:
        """Whether every figure that has a target meets it."""
        return all(figure.holds is not False for figure in self.figures.values())

    def to_json(self) -> bytes:
        """One object: name, machine, figures. Raises TidegateError for NaN or infinity."""
        for key, figure in self.figures.items():
            if not math.isfinite(figure.value):
                raise TidegateError(f"the figure {key} came out as {figure.value}")
        body = {"name": self.name, "machine": dict(self.machine), "figures": dict(self.figures)}
        return msgspec.json.format(msgspec.json.encode(body), indent=1)

    def print(self, console: Console) -> None:
        """A table, targets missed in red."""
        table = Table(title=f"bench {self.name}", title_justify="left")
        for column in ("figure", "value", "unit", "target", "n"):
            table.add_column(column, justify="right" if column in ("value", "n") else "left")
        for key, figure in self.figures.items():
            style = {None: "", True: "green", False: "bold red"}[figure.holds]
            shown = f"{figure.value:.4g}"
            table.add_row(key, shown, figure.unit, figure.target or "", str(figure.n), style=style)
        console.print(table)
        for key, figure in self.figures.items():
            console.print(f"{key}: {figure.how}", style="dim", markup=False, highlight=False)


def machine() -> dict[str, str | int]:
    """What a reader needs to know of the machine, and nothing that names it."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next(
        (x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "unknown"
    )
