"""The one function that decides: `decide(state, command) -> (state, effects)`. Pure.

Effects come in the order in which they have to happen: rows are durable before anybody is told, and
a hand-over comes last of all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, assert_never

from tidegate.ledger.entries import next_head, plain
from tidegate.ledger.state import Row, Tip
from tidegate.vault import grant_commands as commands
from tidegate.vault import grant_entries as entries
from tidegate.vault.grant_commands import Command, Evidence
from tidegate.vault.grant_entries import NO_GRANT, Entry, Request, Seen
from tidegate.vault.grant_policy import Policy
from tidegate.vault.grant_rules import Case, first_failing
from tidegate.vault.grant_state import Grant, State, Status, applied, missing

Level = Literal["info", "warning", "alarm"]


@dataclass(frozen=True, slots=True)
class Append:
    """Rows to make durable, and then to publish, before anything else."""

    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell people: what happened to which grant; an alarm is meant to wake somebody."""

    level: Level
    event: str
    grant: str
    text: str


@dataclass(frozen=True, slots=True)
class HandOver:
    """Unwrap the keys of these shards, seal them to the attested key, and send them: once."""

    grant: Grant


@dataclass(frozen=True, slots=True)
class Refuse:
    """Say no: the number of the check that failed, its name, and why."""

    what: str
    check: int
    rule: str
    reason: str


Effect: TypeAlias = Append | Notify | HandOver | Refuse

_RECORDED = (commands.Judge, commands.Release, commands.Renew)
"""Refusals of these are evidence of an attack, and are written down."""


def decide(
    state: State, command: Command, *, time: int, wall: int
) -> tuple[State, tuple[Effect, ...]]:
    """Carry out `command`, or refuse it.

    Args:
        state: as after the last entry of the journal.
        command: what is asked.
        time: the broker's clock, milliseconds since the Unix epoch; less than the journal's last
            counts as the journal's last.
        wall: what the host's clock says, for people.

    Returns:
        The state after, and what has to be done, in that order. Until the rows of the first effect
        are durable, nothing happened.

    Raises:
        GrantError: a field cannot be recorded.
    """
    draft = _Draft(state, max(time, state.time), wall)
    policy = command.policy if isinstance(command, commands.AdoptPolicy) else state.policy
    if policy is None:
        return state, (Refuse(_named(command), 0, "there is a policy", "adopt a policy first"),)
    for grant in _run_out(draft.state, policy, draft.time, command):
        draft.write(entries.Expired(grant.request.id, _EXPIRES[grant.status]))
        draft.tell("info", "expire", grant.request.id, f"ended while {grant.status.value}")
    failed = first_failing(Case(draft.state, policy, command, draft.time))
    if failed is None:
        _carry_out(draft, policy, command)
    else:
        _refuse(draft, command, Refuse(_named(command), *failed))
    return draft.state, draft.effects()


class _Draft:
    """Rows and effects as they come, and the state after them."""

    def __init__(self, state: State, time: int, wall: int) -> None:
        self.state = state
        self.time = time
        self._wall = wall
        self._rows: list[Row] = []
        self._after: list[Effect] = []

    def write(self, does: entries.Does) -> None:
        n = self.state.tip.size
        entry = Entry(n, self.time, self._wall, does)
        raw = entries.encode(entry)
        row = Row(raw, next_head(self.state.tip.head, raw))
        self._rows.append(row)
        self.state = applied(replace(self.state, tip=Tip(n + 1, row.head), time=self.time), entry)

    def tell(self, level: Level, event: str, grant: str, text: str) -> None:
        self._after.append(Notify(level, event, grant, text))

    def then(self, effect: Effect) -> None:
        self._after.append(effect)

    def effects(self) -> tuple[Effect, ...]:
        return ((Append(tuple(self._rows)),) if self._rows else ()) + tuple(self._after)


_EXPIRES: dict[Status, Literal["pending", "approved", "leased"]] = {
    Status.PENDING: "pending",
    Status.APPROVED: "approved",
    Status.LEASED: "leased",
}


def _run_out(state: State, policy: Policy, time: int, command: Command) -> tuple[Grant, ...]:
    """Grants whose time is over: all of them on a tick, else the one that the command names."""
    if isinstance(command, commands.Tick):
        looked_at = tuple(state.grants.values())
    else:
        named = state.grants.get(getattr(command, "grant", ""))
        looked_at = () if named is None else (named,)
    return tuple(grant for grant in looked_at if _over(grant, policy, time))


def _over(grant: Grant, policy: Policy, time: int) -> bool:
    if grant.status is Status.PENDING:
        return time >= grant.request.time + 1000 * policy.request_s
    ends = grant.ends if grant.ends is not None else time
    if grant.status is Status.APPROVED:
        return time >= min(ends, (grant.approved or 0) + 1000 * policy.release_s)
    if grant.status is Status.LEASED:
        return time >= min(ends, grant.until or 0)
    return False


def _carry_out(draft: _Draft, policy: Policy, command: Command) -> None:
    match command:
        case commands.Tick():
            pass
        case commands.AdoptPolicy():
            if policy != draft.state.policy:
                draft.write(entries.Adopt(policy))
                draft.tell("warning", "policy", NO_GRANT, f"policy {policy.digest[:16]}")
        case commands.SetCurrent(by=by, model=model, manifest=manifest, shards=shards):
            draft.write(entries.Current(model, manifest, shards, by))
            draft.tell("info", "manifest", NO_GRANT, f"{model}: {manifest[:16]}, says {by}")
        case commands.Ask():
            _ask(draft, policy, command)
        case commands.Judge():
            _judge(draft, command)
        case commands.Challenge(by=by, grant=grant, nonce=nonce):
            draft.write(entries.Challenged(grant, by, nonce))
        case commands.Release() | commands.Renew():
            _lease(draft, policy, command)
        case commands.Wipe(by=by, grant=grant):
            draft.write(entries.Wiped(grant, by))
            draft.tell("info", "wipe", grant, f"{by} says that the keys are wiped")
        case commands.Revoke(by=by, grant=grant, reason=reason):
            leased = draft.state.grants[grant].status is Status.LEASED
            draft.write(entries.Revoked(grant, by, plain(reason)))
            draft.tell("alarm" if leased else "warning", "revoke", grant, f"{by}: {plain(reason)}")
        case _:
            assert_never(command)


def _ask(draft: _Draft, policy: Policy, asked: commands.Ask) -> None:
    host = policy.host(asked.host)
    request = Request(
        v=1,
        id=asked.id,
        requester=asked.by,
        why=plain(asked.why),
        model=asked.model,
        manifest=asked.manifest,
        shards=asked.shards,
        host=asked.host,
        reference=host.reference if host else "",
        seconds=asked.seconds,
        break_glass=asked.break_glass,
        policy=policy.digest,
        time=draft.time,
    )
    draft.write(entries.Asked(request))
    text = f"{asked.by} asks for {len(asked.shards)} shards of {asked.model}: {request.why}"
    _tell(draft, request, "request", text)


def _judge(draft: _Draft, judge: commands.Judge) -> None:
    if judge.verdict == "deny":
        reason = plain(judge.reason)
        draft.write(entries.Denied(judge.grant, judge.by, judge.team, reason, judge.assertion))
        draft.tell("warning", "deny", judge.grant, f"{judge.by} of {judge.team}: {reason}")
        return
    draft.write(entries.Approved(judge.grant, judge.by, judge.team, judge.assertion))
    grant = draft.state.grants[judge.grant]
    owed = missing(draft.state.policy, grant)
    left = ", ".join(f"{count} of {team}" for team, count in owed.items())
    text = f"{judge.by} of {judge.team} approves; " + (f"still missing: {left}" if left else "all")
    _tell(draft, grant.request, "approve", text)


def _lease(draft: _Draft, policy: Policy, command: commands.Release | commands.Renew) -> None:
    before = draft.state.grants[command.grant]
    bounds = [draft.time + 1000 * policy.lease_s]
    if before.ends is not None:
        bounds.append(before.ends)
    if (relied_on := command.evidence.appraisal.until) is not None:
        bounds.append(int(1000 * relied_on.timestamp()))
    until = max(draft.time, min(bounds))
    seen = _seen(command.evidence)
    if isinstance(command, commands.Renew):
        draft.write(entries.Renewed(command.grant, command.by, seen, until))
        return
    draft.write(entries.Released(command.grant, command.by, seen, command.key, until))
    after = draft.state.grants[command.grant]
    _tell(draft, after.request, "release", f"keys leave for {after.request.host}")
    draft.then(HandOver(after))


def _tell(draft: _Draft, request: Request, event: str, text: str) -> None:
    """Break-glass is loud at every step."""
    level: Level = "alarm" if request.break_glass else "info"
    draft.tell(level, event, request.id, f"BREAK GLASS: {text}" if request.break_glass else text)


def _refuse(draft: _Draft, command: Command, refuse: Refuse) -> None:
    if isinstance(command, _RECORDED):
        known = command.grant if command.grant in draft.state.grants else NO_GRANT
        does = entries.Refused(known, command.by, refuse.what, refuse.check, plain(refuse.reason))
        draft.write(does)
        draft.tell("warning", "refuse", known, f"{command.by}, {refuse.what}: {refuse.reason}")
    draft.then(refuse)


def _named(command: Command) -> str:
    return (
        command.verdict if isinstance(command, commands.Judge) else type(command).__name__.lower()
    )


def _seen(evidence: Evidence) -> Seen:
    appraisal = evidence.appraisal
    return Seen(appraisal.kind, appraisal.device, evidence.reference, evidence.digest)
