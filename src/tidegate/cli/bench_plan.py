"""What `tidegate bench plan` measures, a part at a time; each part can run alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from tidegate.bench.figures import Figure, Result
from tidegate.cli.bench import AsJson, Only, chosen_of, finish
from tidegate.cli.plan_files import shipped
from tidegate.cli.progress import bars
from tidegate.models.cache import Progress

Part = Callable[[int, Progress], dict[str, Figure]]


def plan(
    as_json: AsJson = False,
    only: Only = None,
    count: Annotated[int, typer.Option(min=1_000, help="Lifetimes to time.")] = 1_000_000,
) -> None:
    """The planner: published arithmetic, simulation beside closed forms, lifetimes a second.

    Parts: published (every published figure from the packaged scenarios), agreement (the simulation
    beside what it must come to) and lifetimes (processor seconds for a million on one core).
    """
    chosen = chosen_of(only, PARTS)
    figures: dict[str, Figure] = {}
    with bars() as progress:
        for name in chosen:
            figures |= PARTS[name](count, progress)
    finish(Result("plan", figures), as_json)


def published(count: int, progress: Progress) -> dict[str, Figure]:
    """Published arithmetic."""
    from tidegate.bench import plan as bench

    return bench.published_figures(shipped())


def agreement(count: int, progress: Progress) -> dict[str, Figure]:
    """Simulation and closed forms."""
    from tidegate.bench import plan as bench

    return bench.agreement(shipped())


def lifetimes(count: int, progress: Progress) -> dict[str, Figure]:
    """Speed."""
    from tidegate.bench import plan as bench

    return bench.lifetimes(shipped(), count, progress)


PARTS: Mapping[str, Part] = {
    "published": published,
    "agreement": agreement,
    "lifetimes": lifetimes,
}
