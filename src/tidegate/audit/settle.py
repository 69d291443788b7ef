"""The accounts of the grants: what was asked, approved, released, unwrapped and read; and by whom.

Statistics on approvers are counts of the journal, with an exact test where a share is judged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import comb
from statistics import median
from typing import Final

from tidegate.audit.conclude_logs import moment
from tidegate.audit.event import Place
from tidegate.audit.examine import Examiner, Use
from tidegate.audit.findings import Evidence, Finding, Kind
from tidegate.audit.grants import Grant, Journal

Shown = Callable[[Sequence[Place]], tuple[Evidence, ...]]

PAIR_GRANTS: Final = 3
"""Requests of each that the other must have approved before a pair is looked at."""
PAIR_CHANCE: Final = 0.001
"""Chance, were approvals blind to who asks, below which a direction of a pair is remarkable."""
RUBBER_COUNT: Final = 3


@dataclass(frozen=True, slots=True)
class Account:
    """One grant, settled. Times in seconds since the epoch; `seconds_to_approve`: the fastest."""

    grant: str
    requester: str
    host: str
    model: str
    shards: int
    asked: float
    approvers: tuple[str, ...]
    seconds_to_approve: float | None
    released: float | None
    lease_end: float | None
    decrypts: int
    reads: int
    served: int
    break_glass: bool


def accounts(examined: Examiner) -> tuple[Account, ...]:
    """One account a grant, in the order of the requests."""
    if examined.journal is None:
        return ()
    made = []
    for grant in sorted(examined.journal.grants.values(), key=lambda grant: grant.asked):
        use = examined.uses.get(grant.id, Use())
        waits = [approval.time - grant.asked for approval in grant.approvals]
        made.append(
            Account(
                grant=grant.id,
                requester=grant.requester,
                host=grant.host,
                model=grant.model,
                shards=len(grant.shards),
                asked=grant.asked,
                approvers=tuple(approval.by for approval in grant.approvals),
                seconds_to_approve=min(waits, default=None),
                released=grant.released,
                lease_end=grant.lease_end if grant.released is not None else None,
                decrypts=use.decrypts,
                reads=use.reads,
                served=use.served,
                break_glass=grant.break_glass,
            )
        )
    return tuple(made)


def grant_findings(examined: Examiner, shown: Shown) -> Iterator[Finding]:
    """Everything that follows from the journal, alone and beside what was read."""
    journal = examined.journal
    if journal is None:
        return
    yield from _journal_itself(journal, shown)
    for grant in journal.grants.values():
        yield from _own_approval(examined, grant, shown)
        if grant.break_glass and grant.released is not None:
            yield Finding(
                kind=Kind.BREAK_GLASS, who=grant.requester, about=grant.model, time=grant.released,
                text=f"{grant.requester} released {len(grant.shards)} shards of {grant.model} by "
                f"break-glass at {moment(grant.released)}: {grant.why}",
                evidence=shown(_places(grant)),
            )  # fmt: skip
    yield from _unread(examined, journal, shown)
    yield from _completed(examined, journal, shown)
    yield from _rubber_stamps(examined, journal, shown)
    yield from _pairs(examined, journal, shown)


def _journal_itself(journal: Journal, shown: Shown) -> Iterator[Finding]:
    for number, place in journal.forks:
        yield Finding(
            kind=Kind.FORKED, about=f"entry {number}", time=journal.last or 0.0,
            text=f"entry {number} of the journal stands there twice, and differs",
            evidence=shown([place]),
        )  # fmt: skip
    if journal.missing:
        yield Finding(
            kind=Kind.JOURNAL_MISSING, time=journal.last or 0.0,
            text=f"{journal.missing:,} numbers of the journal are missing",
            figures={"missing": journal.missing},
        )  # fmt: skip
    for place, why in journal.broken[:100]:
        yield Finding(
            kind=Kind.UNREADABLE, about="journal", level="error", time=journal.last or 0.0,
            text=f"the grants' journal: {why}", evidence=shown([place]),
        )  # fmt: skip


def _own_approval(examined: Examiner, grant: Grant, shown: Shown) -> Iterator[Finding]:
    named = examined.guarded.named
    for approval in grant.approvals:
        if named(approval.by) == named(grant.requester):
            yield Finding(
                kind=Kind.SELF_APPROVED, who=grant.requester, about=grant.model, time=approval.time,
                text=f"{grant.requester} approved the own request {grant.id[:8]} for "
                f"{len(grant.shards)} shards of {grant.model}, for team {approval.team}",
                evidence=shown([grant.place, approval.place]),
            )  # fmt: skip


def _unread(examined: Examiner, journal: Journal, shown: Shown) -> Iterator[Finding]:
    """Only where logs that hold reads cover the lease: elsewhere silence says nothing."""
    guarded = {model.name for model in examined.guarded.models}
    for grant in journal.releases():
        released = grant.released or 0.0
        use = examined.uses.get(grant.id)
        covered = examined.first_read <= released and grant.lease_end <= examined.last
        if covered and grant.model in guarded and (use is None or not use.reads):
            unwrapped = (
                "keys were unwrapped for it"
                if use and use.decrypts
                else ("nor is there a decrypt for it")
            )
            yield Finding(
                kind=Kind.GRANT_UNREAD, who=grant.requester, about=grant.model,
                time=grant.lease_end,
                text=f"grant {grant.id[:8]} of {grant.requester} for {len(grant.shards)} shards of "
                f"{grant.model}: released {moment(released)}, and no read under it until its lease "
                f"ended; {unwrapped}",
                evidence=shown(_places(grant)),
                assumptions=("The logs given hold all reads during the lease.",),
            )  # fmt: skip


def _completed(examined: Examiner, journal: Journal, shown: Shown) -> Iterator[Finding]:
    sizes = {
        model.name: frozenset(s.number for s in model.shards) for model in examined.guarded.models
    }
    held: dict[tuple[str, str], list[Grant]] = defaultdict(list)
    for grant in journal.releases():
        held[examined.guarded.named(grant.requester), grant.model].append(grant)
    for (who, model), grants in held.items():
        whole = sizes.get(model)
        if whole is None or len(grants) < 2 or any(grant.shards >= whole for grant in grants):
            continue
        if frozenset().union(*(grant.shards for grant in grants)) >= whole:
            yield Finding(
                kind=Kind.COMPLETE_BY_GRANTS, who=who, about=model, time=grants[-1].released or 0.0,
                text=f"{len(grants)} grants to {who}, none for the whole, make up all {len(whole)} "
                f"shards of {model}",
                evidence=shown([place for grant in grants[:3] for place in _places(grant)]),
            )  # fmt: skip


def _rubber_stamps(examined: Examiner, journal: Journal, shown: Shown) -> Iterator[Finding]:
    waits: dict[str, list[tuple[float, Place, float]]] = defaultdict(list)
    for grant in journal.grants.values():
        for approval in grant.approvals:
            waits[approval.by].append((approval.time - grant.asked, approval.place, approval.time))
    limit = examined.settings.rubber
    for who, given in sorted(waits.items()):
        fast = [entry for entry in given if entry[0] < limit]
        if len(fast) >= RUBBER_COUNT:
            seconds = median(entry[0] for entry in fast)
            yield Finding(
                kind=Kind.RUBBER_STAMP, who=who, time=fast[RUBBER_COUNT - 1][2],
                text=f"{who} gave {len(fast)} of {len(given)} approvals within {limit:g} s of the "
                f"request (median {seconds:.0f} s)",
                evidence=shown([place for _, place, _ in fast[:3]]),
                assumptions=("Approvers first see a request when it is made.",),
                figures={"fast": len(fast), "approvals": len(given), "median_seconds": seconds},
            )  # fmt: skip


def _pairs(examined: Examiner, journal: Journal, shown: Shown) -> Iterator[Finding]:
    """Both directions must be remarkable, by the exact hypergeometric tail (Fisher's test)."""
    named = examined.guarded.named
    asked: dict[str, set[str]] = defaultdict(set)
    approved: dict[str, set[str]] = defaultdict(set)
    for grant in journal.grants.values():
        if grant.approvals:
            asked[named(grant.requester)].add(grant.id)
            for approval in grant.approvals:
                approved[named(approval.by)].add(grant.id)
    count = sum(len(grants) for grants in asked.values())
    people = sorted(set(asked) & set(approved))
    for place, one in enumerate(people):
        for other in people[place + 1 :]:
            there, back = asked[one] & approved[other], asked[other] & approved[one]
            if min(len(there), len(back)) < PAIR_GRANTS:
                continue
            chances = (
                _tail(len(there), len(asked[one]), len(approved[other]), count),
                _tail(len(back), len(asked[other]), len(approved[one]), count),
            )
            if max(chances) <= PAIR_CHANCE:
                grants = [journal.grants[name] for name in sorted(there)[:2] + sorted(back)[:2]]
                yield Finding(
                    kind=Kind.PAIR, who=f"{one}, {other}", time=max(g.asked for g in grants),
                    text=f"{other} approved {len(there)} of {len(asked[one])} requests of {one}, "
                    f"and {one} {len(back)} of {other}'s {len(asked[other])}; were approvals blind "
                    f"to who asks, the chance would be {chances[0]:.1g} and {chances[1]:.1g}",
                    evidence=shown([grant.place for grant in grants]),
                    assumptions=(
                        ("Everybody could approve everybody's requests. Where shifts or teams "
                        "leave no choice, a pair is their doing."),
                    ),
                    figures={"chances": list(chances)},
                )  # fmt: skip


def _tail(hits: int, drawn: int, marked: int, count: int) -> float:
    """Chance of so many hits or more among `drawn` of `count`, of which `marked` are marked."""
    most = min(drawn, marked)
    ways = sum(comb(marked, k) * comb(count - marked, drawn - k) for k in range(hits, most + 1))
    return ways / comb(count, drawn)


def _places(grant: Grant) -> list[Place]:
    return [grant.place, *([grant.release_place] if grant.release_place is not None else [])]
