"""What the journal amounts to: the fold that both a running broker and a restart compute. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tidegate.ledger.entries import next_head
from tidegate.ledger.state import EMPTY, Row, Tip
from tidegate.vault import grant_entries as entries
from tidegate.vault.grant_entries import Entry, Request
from tidegate.vault.grant_errors import GrantError
from tidegate.vault.grant_policy import Policy


class Status(StrEnum):
    """Where a grant stands."""

    PENDING = "pending"
    APPROVED = "approved"
    LEASED = "leased"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Approval:
    """Who agreed, for which team, when (milliseconds)."""

    by: str
    team: str
    time: int


@dataclass(frozen=True, slots=True)
class Nonce:
    """What evidence has to bind next, hex, and when it was given out."""

    value: str
    time: int


@dataclass(frozen=True, slots=True)
class Grant:
    """One request and what became of it; times in milliseconds.

    `approved` is when the last approval came; `key` the hash of the key that the shards' keys were
    sealed to; `until` when the lease ends; `ending` why and by whom the grant ended.
    """

    request: Request
    digest: bytes
    status: Status = Status.PENDING
    approvals: tuple[Approval, ...] = ()
    approved: int | None = None
    nonce: Nonce | None = None
    key: str | None = None
    until: int | None = None
    ending: str | None = None

    @property
    def ends(self) -> int | None:
        """When it ends whatever happens: the clock starts at the last approval."""
        return None if self.approved is None else self.approved + 1000 * self.request.seconds


@dataclass(frozen=True, slots=True)
class State:
    """All that deciding needs. `manifests`: of each model, the current digest and its shards;
    `counters`: of each hardware key (credential id), the last signature counter."""

    policy: Policy | None = None
    tip: Tip = EMPTY
    time: int = 0
    grants: Mapping[str, Grant] = field(default_factory=dict)
    manifests: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    counters: Mapping[bytes, int] = field(default_factory=dict)


def folded(state: State, row: Row) -> State:
    """The state after one more row of the journal.

    Raises:
        GrantError: the row does not follow, or its entry breaks the grammar or a transition.
    """
    n = state.tip.size
    entry = entries.parse(row.entry, n)
    if row.head != next_head(state.tip.head, row.entry):
        raise GrantError(f"Entry {n} of the journal does not chain to those before it.", entry=n)
    if entry.time < state.time:
        raise GrantError(f"Entry {n} of the journal goes back in time.", entry=n)
    moved = replace(state, tip=Tip(n + 1, row.head), time=entry.time)
    return applied(moved, entry)


FROM: Mapping[type, tuple[Status, ...]] = {
    entries.Approved: (Status.PENDING,),
    entries.Denied: (Status.PENDING,),
    entries.Challenged: (Status.APPROVED, Status.LEASED),
    entries.Released: (Status.APPROVED,),
    entries.Renewed: (Status.LEASED,),
    entries.Wiped: (Status.LEASED,),
    entries.Revoked: (Status.PENDING, Status.APPROVED, Status.LEASED),
    entries.Expired: (Status.PENDING, Status.APPROVED, Status.LEASED),
}
"""Where a grant has to stand for an entry. Nothing leads back to APPROVED: keys leave once."""


def applied(state: State, entry: Entry) -> State:
    """What one entry does to a state. Raises GrantError: the grant stands where it may not."""
    match entry.does:
        case entries.Adopt(policy=policy):
            return replace(state, policy=policy)
        case entries.Current(model=model, manifest=manifest, shards=shards):
            return replace(state, manifests={**state.manifests, model: (manifest, shards)})
        case entries.Asked(request=request) if request.id not in state.grants:
            return _with(state, Grant(request, request.digest))
        case entries.Refused():
            return state
        case entries.Approved(assertion=given) | entries.Denied(assertion=given):
            counters = {**state.counters, given.credential: counter(given.authenticator)}
            state = replace(state, counters=counters)
    does = entry.does
    grant = None if isinstance(does, entries.Asked) else state.grants.get(does.grant)
    if grant is None or grant.status not in FROM[type(does)]:
        raise GrantError(
            f"Entry {entry.n} of the journal does what its grant's state forbids.", entry=entry.n
        )
    return _with(state, _moved(state, grant, entry))


def _moved(state: State, grant: Grant, entry: Entry) -> Grant:
    match entry.does:
        case entries.Approved(by=by, team=team):
            approvals = (*grant.approvals, Approval(by, team, entry.time))
            grant = replace(grant, approvals=approvals)
            if missing(state.policy, grant):
                return grant
            return replace(grant, status=Status.APPROVED, approved=entry.time)
        case entries.Challenged(nonce=nonce):
            return replace(grant, nonce=Nonce(nonce, entry.time))
        case entries.Released(key=key, until=until):
            return replace(grant, status=Status.LEASED, nonce=None, key=key, until=until)
        case entries.Renewed(until=until):
            return replace(grant, nonce=None, until=until)
        case entries.Denied(by=by, reason=reason):
            return _ended(grant, f"denied by {by}: {reason}")
        case entries.Revoked(by=by, reason=reason):
            return _ended(grant, f"revoked by {by}: {reason}")
        case entries.Wiped(by=by):
            return _ended(grant, f"wiped, says {by}")
        case entries.Expired(what=what):
            return _ended(grant, f"expired while {what}")
    return grant


def missing(policy: Policy | None, grant: Grant) -> dict[str, int]:
    """How many approvals each team still owes; empty once every team has given its own."""
    teams = policy.teams_for(grant.request.break_glass) if policy else ()
    given = [approval.team for approval in grant.approvals]
    owed = {team.name: team.needs - given.count(team.name) for team in teams}
    return {name: count for name, count in owed.items() if count > 0}


def counter(authenticator: bytes) -> int:
    """The signature counter in authenticator data (WebAuthn level 3, 6.1); 0 if there is none."""
    return int.from_bytes(authenticator[33:37], "big")


def _ended(grant: Grant, ending: str) -> Grant:
    return replace(grant, status=Status.ENDED, nonce=None, ending=ending)


def _with(state: State, grant: Grant) -> State:
    return replace(state, grants={**state.grants, grant.request.id: grant})
