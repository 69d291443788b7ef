"""What a thief inside got past the gate, as figures: his bytes beside the cap and the ledger's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tidegate.bench.figures import Figure, at_least, at_most, report


class Theft(Protocol):
    """What is read of `redteam.thief.Result`, whose words these are."""

    @property
    def attack(self) -> str: ...

    @property
    def says(self) -> str: ...

    @property
    def sent(self) -> int: ...

    @property
    def received(self) -> int: ...

    @property
    def secret(self) -> int: ...

    @property
    def timing_bits(self) -> float: ...

    @property
    def cap(self) -> int: ...

    @property
    def ledger(self) -> int: ...

    @property
    def over(self) -> int: ...

    @property
    def uncharged(self) -> int: ...


def figures(results: Sequence[Theft]) -> dict[str, Figure]:
    """One row an attack, and the worst of them. `results` holds at least one."""
    rows = {f"thief.{one.attack}": _row(one) for one in results}
    worst = max(results, key=lambda one: one.over)
    free = max(results, key=lambda one: one.uncharged)
    most = max(results, key=lambda one: one.received / one.cap)
    rows["thief_over_cap"] = at_most(
        max(0, worst.over),
        0,
        unit="bytes",
        n=len(results),
        how=f"bytes on the wire above what the thief's classes allow, in the worst attack "
        f"({worst.attack}: {worst.received:,} of {worst.cap:,})",
    )
    rows["thief_uncharged"] = at_most(
        max(0, free.uncharged),
        0,
        unit="bytes",
        n=len(results),
        how=f"bytes that arrived and that the ledger does not know of, in the worst attack "
        f"({free.attack}: {free.received:,} arrived, {free.ledger:,} in the ledger)",
    )
    rows["thief_used_of_cap"] = at_least(
        most.received / most.cap,
        0.95,
        unit="share",
        n=len(results),
        how=f"the most of a cap that an attack used up ({most.attack}): thieves who get nowhere "
        "near their cap show nothing",
    )
    return rows


def _row(one: Theft) -> Figure:
    timed = f", and {one.timing_bits:,.0f} bits by time" if one.timing_bits else ""
    return report(
        one.received,
        unit="bytes",
        n=one.sent,
        how=f"{one.says}: bytes that arrived of {one.sent:,} sent; {one.secret:,} bytes of the "
        f"secret were right{timed}; the ledger has {one.ledger:,}, the cap was {one.cap:,}",
    )
