"""What `tidegate bench gate` measures, a part at a time; each part can run alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import typer

from tidegate.bench.figures import Figure, Result
from tidegate.cli.bench import AsJson, Only, chosen_of, finish
from tidegate.cli.progress import bars
from tidegate.models.cache import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options, and a progress bar."""

    reloads: int
    kills: int
    deaths: int
    seconds: float
    progress: Progress


Part = Callable[[Asked], dict[str, Figure]]


def gate(
    as_json: AsJson = False,
    only: Only = None,
    reloads: Annotated[int, typer.Option(min=1, help="Changes of the policy under flood.")] = 150,
    kills: Annotated[int, typer.Option(min=1, help="Kills of the controller under flood.")] = 200,
    deaths: Annotated[
        int, typer.Option(min=1, help="Kills after which the time until silence is taken.")
    ] = 20,
    seconds: Annotated[
        float, typer.Option(min=1, help="How long the thief tries each of his attacks.")
    ] = 4.0,
) -> None:
    """The gate against its promises, in network namespaces of this machine. Needs root.

    Parts: meters (do three agree to the byte, is a liar named), overshoot (packets above a cap),
    reloads (bytes that slip through), kills (bytes that the disk forgot), heartbeat (seconds until
    silence), throughput (over bare forwarding), rate (of a capped class), thief (what an attacker
    inside got, beside the ledger's count), incidents (until stolen weights are seen and stopped),
    flow (bins until 2% more than is billed are found).
    All together about half an hour on two cores.
    """
    from tidegate.gate import needs

    chosen = chosen_of(only, PARTS)
    needs.require()
    figures: dict[str, Figure] = {}
    with bars() as progress:
        asked = Asked(
            reloads=reloads, kills=kills, deaths=deaths, seconds=seconds, progress=progress
        )
        for name in chosen:
            figures |= PARTS[name](asked)
    finish(Result("gate", figures), as_json)


def meters(asked: Asked) -> dict[str, Figure]:
    """Three meters over mixed traffic, and what happens when one lies."""
    from tidegate.bench import gate_meters

    return gate_meters.measure(gate_meters.PLAN, asked.progress)


def overshoot(asked: Asked) -> dict[str, Figure]:
    """Packets above a cap."""
    from tidegate.bench import gate as bench

    return bench.overshoot(asked.progress)


def reloads(asked: Asked) -> dict[str, Figure]:
    """Bytes through reloads."""
    from tidegate.bench import gate as bench

    return bench.reloads(asked.reloads, asked.progress)


def kills(asked: Asked) -> dict[str, Figure]:
    """Bytes that the disk does not know of after kills."""
    from tidegate.bench import gate as bench

    return bench.kills(asked.kills, asked.progress)


def heartbeat(asked: Asked) -> dict[str, Figure]:
    """Seconds until silence."""
    from tidegate.bench import gate as bench

    return bench.heartbeat(asked.deaths, asked.progress)


def throughput(asked: Asked) -> dict[str, Figure]:
    """Bytes a second with all meters, over bare forwarding."""
    from tidegate.bench import gate_speed

    return gate_speed.measure(asked.progress)


def rate(asked: Asked) -> dict[str, Figure]:
    """A capped class's rate."""
    from tidegate.bench import gate as bench

    return bench.rate(asked.progress)


def thief(asked: Asked) -> dict[str, Figure]:
    """Every attack of the thief."""
    from tidegate.bench import gate_thief
    from tidegate.redteam import thief as redteam

    found = redteam.run(seconds=asked.seconds, progress=asked.progress)
    return gate_thief.figures(found)


def incidents(asked: Asked) -> dict[str, Figure]:
    """Stolen weights, until they are seen and stopped."""
    from tidegate.bench import gate_incidents

    return gate_incidents.figures(progress=asked.progress)


def flow(asked: Asked) -> dict[str, Figure]:
    """Bytes beyond the bill, until they are found."""
    from tidegate.bench import gate_flow

    return gate_flow.figures(progress=asked.progress)


PARTS: Mapping[str, Part] = {
    "meters": meters,
    "overshoot": overshoot,
    "reloads": reloads,
    "kills": kills,
    "heartbeat": heartbeat,
    "throughput": throughput,
    "rate": rate,
    "thief": thief,
    "incidents": incidents,
    "flow": flow,
}
