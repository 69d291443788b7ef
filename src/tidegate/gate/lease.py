"""How long the gate may stay open on what its meters said; pure.

A verdict opens the gate for one lease. Without a new one in time it closes: whether because the
meters disagree, cannot tell, or nobody asked them. Time is the gate's monotonic clock and means
nothing beyond the boot that it belongs to; the wall clock has no part in it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from tidegate.gate.reconcile import Agree, CannotTell, Disagree, Verdict

NOT_YET = "the meters have not been held against each other yet"


@dataclass(frozen=True, slots=True)
class Terms:
    """`lease_ns`: what one verdict is good for. `settle_ns`: how long the meters may agree only
    within what is in flight; then the gate closes until the wire rests, so that they can be
    compared to the byte. It bounds how long a lie can hide behind traffic."""

    lease_ns: int
    settle_ns: int


@dataclass(frozen=True, slots=True)
class Lease:
    """Open until `until_ns` of the boot `boot_id`; `latched` is why only an operator opens it."""

    boot_id: str
    until_ns: int = 0
    judged_ns: int = 0
    settled_ns: int = 0
    closed: str = NOT_YET
    latched: str | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """The meters were held against each other; `now_ns` is when that was done."""

    verdict: Verdict
    now_ns: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """Something else wants the gate shut for good: an incident."""

    reason: str


@dataclass(frozen=True, slots=True)
class Allowed:
    """An operator looked, and wants it open again; the meters count from here on."""


Event: TypeAlias = Judged | Stopped | Allowed


def decide(lease: Lease, terms: Terms, event: Event) -> Lease:
    """The lease after `event`.

    1. Latched stays latched until it is allowed; nothing a meter says changes that.
    2. Disagreement and incidents latch.
    3. What cannot be told closes; so does a clock that went back, or another boot's.
    4. Agreement to the byte opens for a lease; agreement within what is in flight does so only
       while the last agreement to the byte is young enough.
    """
    if isinstance(event, Allowed):
        return Lease(lease.boot_id, judged_ns=lease.judged_ns)
    if lease.latched is not None:
        return lease
    if isinstance(event, Stopped):
        return replace(lease, until_ns=0, latched=event.reason, closed=event.reason)
    verdict, now = event.verdict, event.now_ns
    match verdict:
        case Disagree():
            reason = said(verdict)
            return replace(lease, until_ns=0, latched=reason, closed=reason)
        case CannotTell(reason=reason):
            return replace(lease, until_ns=0, closed=reason)
    if verdict.boundary.boot_id != lease.boot_id:
        return replace(lease, until_ns=0, closed="the machine was started anew")
    if now < lease.judged_ns or now < verdict.boundary.monotonic_ns:
        return replace(lease, until_ns=0, closed="the monotonic clock went back")
    settled = now if verdict.settled else lease.settled_ns
    judged = replace(lease, judged_ns=now, settled_ns=settled)
    if not settled or now - settled > terms.settle_ns:
        return replace(
            judged,
            until_ns=0,
            closed="the meters were not compared to the byte for too long: waiting for the wire to "
            "rest",
        )
    return replace(judged, until_ns=now + terms.lease_ns, closed="")


def refusal(lease: Lease, boot_id: str, now_ns: int) -> str | None:
    """Why the gate must be closed at `now_ns`; None where the lease still runs."""
    if lease.latched is not None:
        return f"latched: {lease.latched}"
    if boot_id != lease.boot_id or now_ns < lease.judged_ns:
        return "the machine's clock is not the one that the lease was given by"
    if now_ns >= lease.until_ns:
        return lease.closed or "the meters were not held against each other in time"
    return None


def said(verdict: Verdict) -> str:
    """A verdict in one line."""
    match verdict:
        case Agree(settled=True):
            return "the meters agree to the byte"
        case Agree(in_flight=size):
            return f"the meters agree within {size} bytes in flight"
        case CannotTell(reason=reason):
            return reason
    liars = " and ".join(verdict.liars)
    named = f"the meter {liars} is wrong" if liars else "meters disagree"
    return f"{named}: {verdict.findings[0].sentence}"
