"""The planner: does it reproduce what was published, does it agree with itself, is it quick."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import numpy as np

from tidegate.bench.figures import Figure, at_most, report
from tidegate.plan import caps, published, simulate
from tidegate.plan.scenario import Quantity, Scenario, exactly

TIMED: Final = ("frontier", "frontier-before", "smollm2-demo")
"""Scenarios with many open values, under caps of both kinds; the slowest counts."""
LIFETIMES: Final = 1_000_000
_CHECKED: Final = 200_000
_ASKED: Final = "assumed: for the bench"

Progress = Callable[[str, int, int], None]


def published_figures(shipped: Mapping[str, Scenario]) -> dict[str, Figure]:
    """Every published figure beside what the packaged scenarios come to."""
    figures = published.figures(shipped)
    worst = max(figures, key=lambda figure: figure.error)
    rows = {
        f"published.{figure.name}": report(
            figure.ours, unit=figure.unit, n=1, how=f"{figure.says}; published {figure.published:g}"
        )
        for figure in figures
    }
    how = f"largest relative difference from a published figure: {worst.name}"
    headline = at_most(worst.error, 0.01, unit="share", n=len(figures), how=how)
    return {"published_figures_worst_error": headline} | rows


def lifetimes(shipped: Mapping[str, Scenario], count: int, progress: Progress) -> dict[str, Figure]:
    """Seconds of one core for `count` simulated lifetimes, scaled to a million."""
    seconds = {}
    for name in TIMED:
        begun = time.process_time()
        simulate.run(shipped[name], count, progress=partial(progress, name))
        seconds[name] = (time.process_time() - begun) * LIFETIMES / count
    slowest = max(seconds, key=lambda name: seconds[name])
    how = f"processor seconds of one thread for a million lifetimes of {slowest}, the slowest"
    rows = {
        f"lifetimes_1e6_seconds.{name}": report(
            took, unit="s", n=count, how=f"the same for the packaged scenario {name}"
        )
        for name, took in seconds.items()
    }
    return {
        "lifetimes_1e6_seconds": at_most(seconds[slowest], 10, unit="s", n=count, how=how)
    } | rows


def agreement(shipped: Mapping[str, Scenario]) -> dict[str, Figure]:
    """The simulation beside closed forms: where alarms are luck, and where a value is open."""
    lucky = shipped["smollm2-demo"].pinned().having(response__notice=exactly(10, _ASKED))
    expected = caps.days_at(lucky)
    simulated = float(simulate.run(lucky, _CHECKED).days_N.mean())
    by_luck = abs(simulated / expected - 1)
    packing = Quantity(10, 1, 100, _ASKED)
    packed = shipped["greenblatt-large"].having(attacker__lossy_compression=packing)
    # A tenth of a copy unpacked. Half the draws are even between the logarithms of 1 and 10, half
    # between those of 10 and 100, so their mean is ln 10.
    mean_log = math.log(0.1) + math.log(10)
    drawn = float(np.exp(np.log(simulate.run(packed, _CHECKED).copies_N).mean()))
    by_range = abs(drawn / math.exp(mean_log) - 1)
    return {
        "simulation_mean_error": at_most(
            max(by_luck, by_range),
            0.01,
            unit="share",
            n=_CHECKED,
            how="the worse of mean days where alarms are luck, and of the geometric mean of copies "
            "where packing is open, each beside its closed form",
        ),
    }
