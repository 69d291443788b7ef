"""A scenario from a running system: what its ledger charged and what verification found."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import msgspec

from tidegate.errors import ConfigError
from tidegate.ledger.budgets import Budgets
from tidegate.ledger.entries import (
    Charge,
    Commit,
    Entry,
    Extend,
    Open,
    Recover,
    Release,
    Reserve,
)
from tidegate.plan.scenario import Quantity, Scenario, exactly

_DAY_MS = 86_400_000
_DAY_S = 86_400
_GUESS = 2.0
"""Factor by which a rate seen for less than two days is taken to be uncertain."""


@dataclass(frozen=True, slots=True)
class Charged:
    """What a ledger holds. `out`: bits that left the outermost edge, by whole days of the wall
    clock from the first entry. `all_bits`: those that left the innermost. `days`: from first to
    last entry. `cap`: bits a day by the last budgets, None for no such cap. `held`: still reserved.
    """

    entries: int
    days: float
    out: tuple[int, ...]
    all_bits: int
    cap: int | None
    held: int


class _Leak(msgspec.Struct, frozen=True):
    share: float


class _Verified(msgspec.Struct, frozen=True):
    exact: bool
    rate: str
    by: str


class _Scope(msgspec.Struct, frozen=True):
    scope: str
    share: float | None = None


class Verdict(msgspec.Struct, frozen=True):
    """The part of `tidegate verify --json` that a scenario takes. More fields are let pass."""

    tool: str
    verified: _Verified
    responses: int
    tokens: int
    scored_tokens: int
    suspicious: int
    dangerous: int
    leak: _Leak | None
    scopes: tuple[_Scope, ...] = ()


def verdict(raw: bytes, name: str) -> Verdict:
    """Read a report. Raises ConfigError where it is none."""
    try:
        told = msgspec.json.decode(raw, type=Verdict)
    except msgspec.DecodeError as error:
        raise ConfigError(
            f"{name} is not what tidegate verify --json prints: {error}", file=name
        ) from error
    if told.tool != "tidegate verify":
        raise ConfigError(f"{name} is a report of {told.tool}, not of tidegate verify", file=name)
    return told


def charged(entries: Iterable[Entry]) -> Charged:
    """Add up a ledger's entries, in order, from the first. Raises ConfigError for an empty log."""
    budgets: Budgets | None = None
    reserved: dict[int, tuple[str, int]] = {}
    spent: dict[str, dict[int, int]] = {}
    first = last = count = 0

    def spend(edge: str, wall: int, bits: int) -> None:
        days = spent.setdefault(edge, {})
        day = max(0, wall - first) // _DAY_MS
        days[day] = days.get(day, 0) + bits

    for entry in entries:
        first = entry.wall if count == 0 else first
        last, count = max(last, entry.wall), count + 1
        match entry.does:
            case Open(budgets=now):
                budgets = now
            case Reserve(edge=edge, bits=bits):
                reserved[entry.n] = (edge, bits)
            case Extend(reservation=n, bits=bits):
                edge, before = reserved[n]
                reserved[n] = (edge, before + bits)
            case Release(reservation=n):
                reserved.pop(n)
            case Commit(reservation=n, bits=bits) | Recover(reservation=n, bits=bits):
                spend(reserved.pop(n)[0], entry.wall, bits)
            case Charge(edge=edge, bits=bits):
                spend(edge, entry.wall, bits)
    if budgets is None:
        raise ConfigError("the ledger has no entry; has the half ever run?")
    inmost, outmost = budgets.edges[0][0], budgets.edges[-1][0]
    out = spent.get(outmost, {})
    return Charged(
        entries=count,
        days=(last - first) / _DAY_MS,
        out=tuple(out.get(day, 0) for day in range(max(out, default=-1) + 1)),
        all_bits=sum(spent.get(inmost, {}).values()),
        cap=_daily(budgets),
        held=sum(bits for edge, bits in reserved.values() if edge == outmost),
    )


def _daily(budgets: Budgets) -> int | None:
    """What the outermost edge may carry in a day by its tightest window."""
    windows = dict(budgets.edges)[budgets.edges[-1][0]].windows
    return min((window.bits * max(1, _DAY_S // window.seconds) for window in windows), default=None)


def fitted(
    base: Scenario, ledger: Charged, verdicts: Sequence[Verdict], *, parameters: int | None
) -> tuple[Scenario, tuple[str, ...]]:
    """`base` with what was measured in place of what was assumed, and what could not be measured.

    Args:
        base: where everything else comes from.
        ledger: the outer half's, as `charged` gives it.
        verdicts: reports over the same traffic as the ledger; none leaves bits a token as they are.
        parameters: of the strong model; None leaves the base's.

    Raises:
        ConfigError: nothing left the zone, or verdicts and ledger cannot be of the same traffic.
    """
    total = sum(ledger.out)
    if not total or not ledger.days:
        raise ConfigError(
            "the ledger charged nothing yet; fit a scenario once answers have been served"
        )
    values = dict(base.values)
    notes: list[str] = []
    span = f"{ledger.entries:,} entries over {ledger.days:.3g} days"
    if parameters is not None:
        values["model.parameters"] = exactly(parameters, "measured: the strong model's folder")
    if ledger.cap is not None:
        values.pop("link.headroom", None)
        values["link.cap"] = exactly(ledger.cap, "measured: budgets in the ledger")
    else:
        notes.append("link.cap or link.headroom: the ledger's budgets name no cap by time")
    inside = 1 - total / ledger.all_bits if ledger.all_bits else 0.0
    values["zones.internal_share"] = exactly(
        max(0.0, inside), f"measured: bits on inner edges of the ledger, {span}"
    )
    if ledger.held:
        notes.append(f"{ledger.held:,} bits are held and not settled; they are not counted")
    tokens = sum(told.tokens for told in verdicts)
    if tokens:
        _traffic(values, ledger, tokens, span)
        _checked(values, verdicts, notes)
    else:
        notes.append("traffic, link.bits_per_token and verification: no verdict with tokens given")
    kept = [name for name, q in values.items() if q.given and q.source.startswith("assumed: ")]
    notes += [f"{name}: kept from {base.title!r}" for name in kept]
    told = f"Fitted to a ledger of {span} on the base of {base.title!r}."
    return Scenario(f"{base.title}, fitted", told, values), tuple(notes)


def _traffic(values: dict[str, Quantity], ledger: Charged, tokens: int, span: str) -> None:
    bits = ledger.all_bits / tokens
    if bits > values["link.raw_bits"].value:
        raise ConfigError(
            f"the ledger charged {ledger.all_bits:,} bits and the reports hold {tokens:,} tokens: "
            f"{bits:.3g} bits a token are more than one can say; give reports over all that the "
            "ledger charged",
            bits=ledger.all_bits,
            tokens=tokens,
        )
    source = f"measured: ledger and tidegate verify --json, {tokens:,} tokens, {span}"
    values["link.bits_per_token"] = exactly(bits, source)
    a_day = tokens / ledger.days
    outside = 1 - values["zones.internal_share"].value
    if ledger.cap is not None and a_day * outside * bits > ledger.cap:
        # A burst of minutes says nothing of a day that the ledger would not have let pass.
        a_day = ledger.cap / (outside * bits)
        source += "; held to what the cap carries"
    whole = ledger.out[: int(ledger.days)]
    if len(whole) >= 2:
        mean = sum(whole) / len(whole)
        low, high = (min(1.0, min(whole) / mean), max(1.0, max(whole) / mean))
        rate = Quantity(a_day, a_day * low, a_day * high, f"{source}; range: days seen")
    else:
        short = f"{source}; range: a factor of {_GUESS:g}, as less than two days were seen"
        rate = Quantity(a_day, a_day / _GUESS, a_day * _GUESS, short)
    values["traffic.tokens"] = rate
    values["traffic.output_share"] = exactly(1, "measured: only what was written is in the record")
    for name in ("traffic.reasoning_inside", "traffic.drafts"):
        neutral = 0 if name.endswith("inside") else 1
        values[name] = exactly(neutral, "measured: the record holds what was handed out")


def _checked(values: dict[str, Quantity], verdicts: Sequence[Verdict], notes: list[str]) -> None:
    tokens = sum(told.tokens for told in verdicts)
    rate = sum(float(Fraction(told.verified.rate)) * told.tokens for told in verdicts) / tokens
    command = "measured: tidegate verify --json"
    answers = sum(told.responses for told in verdicts)
    if answers:
        mean = max(1.0, tokens / answers)
        values["traffic.answer_tokens"] = exactly(mean, command)
    if any(told.leak is None for told in verdicts) or not rate:
        notes.append(
            "verification: a report bounds nothing (no token re-executed, or no noise profile), so "
            "it is taken for unverified"
        )
        values["verification.audit_rate"] = exactly(0, command)
        values["verification.residual"] = exactly(1, command)
        return
    values["verification.audit_rate"] = exactly(rate, command)
    shares = [told.leak.share for told in verdicts if told.leak is not None]
    own = [row.share for told in verdicts for row in told.scopes if row.share is not None]
    worst = min(1.0, max(*shares, *own, 0.0))
    mean_share = min(1.0, sum(shares) / len(shares))
    values["verification.residual"] = Quantity(
        mean_share,
        min(*shares, mean_share),
        max(worst, mean_share),
        f"{command}; range: to the widest client",
    )
    scored = sum(told.scored_tokens for told in verdicts)
    flagged = sum(told.suspicious + told.dangerous for told in verdicts)
    if all(told.verified.exact for told in verdicts):
        values["verification.honest_flags"] = exactly(0, f"{command}; the exact engine")
        values["verification.detection_power"] = exactly(1, f"{command}; the exact engine")
    else:
        share = flagged / scored
        most = (flagged + 3 + 2 * math.sqrt(flagged)) / scored
        values["verification.honest_flags"] = Quantity(
            share, share, min(0.5, most), f"{command}, {flagged} of {scored:,}; range: to 95%"
        )
