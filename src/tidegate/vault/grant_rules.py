"""The rules as tables: for each command its checks, in order; the first that fails refuses. Pure.

A check is named for what it wants and returns what is wrong, or None. Their numbers, from 1, are
recorded with a refusal; add at the end of a table rather than in the middle.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from tidegate.attest.outcome import Pass
from tidegate.vault import grant_commands as commands
from tidegate.vault.grant_commands import Command, Evidence
from tidegate.vault.grant_entries import MAX_SHARDS, binding_of, challenge_of
from tidegate.vault.grant_policy import Policy, Team
from tidegate.vault.grant_state import Grant, State, Status
from tidegate.vault.grant_state import counter as counter_of
from tidegate.vault.webauthn_check import AssertionRefusedError, verified


@dataclass(frozen=True, slots=True)
class Case:
    """One command to be decided at `time` (milliseconds)."""

    state: State
    policy: Policy
    command: Command
    time: int

    @property
    def grant(self) -> Grant:
        """The grant that the command names; only after `_exists`."""
        return self.state.grants[getattr(self.command, "grant", "")]


Check = Callable[[Case], str | None]
T = TypeVar("T", bound=Command)


def first_failing(case: Case) -> tuple[int, str, str] | None:
    """Number, name and reason of the first check that fails; None if all hold."""
    for number, (name, check) in enumerate(CHECKS[type(case.command)], start=1):
        reason = check(case)
        if reason is not None:
            return number, name, reason
    return None


def _operator(case: Case) -> str | None:
    return None if _by(case) in case.policy.operators else f"{_by(case)} is no operator"


def _requester(case: Case) -> str | None:
    return None if _by(case) in case.policy.requesters else f"{_by(case)} may not request"


def _few_pending(case: Case) -> str | None:
    mine = [
        grant
        for grant in case.state.grants.values()
        if grant.status is Status.PENDING and grant.request.requester == _by(case)
    ]
    return None if len(mine) < case.policy.pending else f"{len(mine)} of theirs are pending"


def _manifest_current(case: Case) -> str | None:
    asked = case.command
    if not isinstance(asked, commands.Ask):
        return _stale(case, case.grant.request.model, case.grant.request.manifest)
    return _stale(case, asked.model, asked.manifest)


def _stale(case: Case, model: str, manifest: str) -> str | None:
    current = case.state.manifests.get(model)
    if current is None:
        return f"no manifest of {model} is known here"
    return None if current[0] == manifest else f"the manifest of {model} is not the current one"


def _shards(case: Case) -> str | None:
    asked = _ask(case)
    if not 1 <= len(asked.shards) <= MAX_SHARDS:
        return "no shards, or too many, are named"
    if sorted(set(asked.shards)) != list(asked.shards):
        return "shards have to ascend, none twice"
    count = case.state.manifests[asked.model][1]
    beyond = asked.shards[-1] >= count or asked.shards[0] < 0
    return f"the manifest has shards 0 to {count - 1}" if beyond else None


def _host_known(case: Case) -> str | None:
    name = _ask(case).host
    return None if case.policy.host(name) else f"there is no host {name}"


def _not_too_long(case: Case) -> str | None:
    asked = _ask(case)
    longest = case.policy.longest(asked.break_glass)
    return None if 1 <= asked.seconds <= longest else f"a grant may live {longest} s at most"


def _glass_may_break(case: Case) -> str | None:
    allowed = not _ask(case).break_glass or case.policy.break_glass is not None
    return None if allowed else "this policy has no break-glass"


def _id_fresh(case: Case) -> str | None:
    return "that id is taken" if _ask(case).id in case.state.grants else None


def _exists(case: Case) -> str | None:
    name = getattr(case.command, "grant", "")
    return None if name in case.state.grants else "there is no such grant"


def _pending(case: Case) -> str | None:
    return _stands(case, Status.PENDING)


def _approved(case: Case) -> str | None:
    if case.grant.status is Status.LEASED:
        return "its keys were released; what was lost needs a new request and new approvals"
    return _stands(case, Status.APPROVED)


def _leased(case: Case) -> str | None:
    return _stands(case, Status.LEASED)


def _approved_or_leased(case: Case) -> str | None:
    return _stands(case, Status.APPROVED, Status.LEASED)


def _not_ended(case: Case) -> str | None:
    return _stands(case, Status.PENDING, Status.APPROVED, Status.LEASED)


def _stands(case: Case, *wanted: Status) -> str | None:
    if case.grant.status in wanted:
        return None
    return f"the grant is {case.grant.ending or case.grant.status.value}"


def _policy_current(case: Case) -> str | None:
    same = case.grant.request.policy == case.policy.digest
    return None if same else "the policy has changed since the request"


def _team_asked(case: Case) -> str | None:
    return None if _team(case) else f"team {_judge(case).team} is not asked"


def _member(case: Case) -> str | None:
    team = _team(case)
    return None if team and _by(case) in team.members else f"{_by(case)} is not in that team"


def _not_his_own(case: Case) -> str | None:
    own = case.grant.request.requester == _by(case)
    return "nobody approves his own request" if own else None


def _first_time(case: Case) -> str | None:
    again = any(approval.by == _by(case) for approval in case.grant.approvals)
    return f"{_by(case)} has approved this request already" if again else None


def _team_still_owes(case: Case) -> str | None:
    judge, team = _judge(case), _team(case)
    given = [approval.team for approval in case.grant.approvals].count(judge.team)
    full = judge.verdict == "approve" and team is not None and given >= team.needs
    return f"team {judge.team} has given its approvals" if full else None


def _assertion_holds(case: Case) -> str | None:
    judge = _judge(case)
    person = case.policy.person(judge.by)
    if person is None:
        return f"{judge.by} has no hardware key here"
    challenge = challenge_of(judge.verdict, case.grant.digest)
    try:
        verified(case.policy, person, challenge, judge.assertion)
    except AssertionRefusedError as error:
        return error.message
    return None


def _counter_ahead(case: Case) -> str | None:
    # WebAuthn level 3, 7.2 step 22: a counter that does not move shows a copied key; 0 is none.
    given = _judge(case).assertion
    last, now = case.state.counters.get(given.credential, 0), counter_of(given.authenticator)
    return None if now > last or now == last == 0 else "the hardware key's counter did not move"


def _his_grant(case: Case) -> str | None:
    own = case.grant.request.requester == _by(case)
    return None if own else "the grant is somebody else's"


def _in_a_window(case: Case) -> str | None:
    held = any(window.holds(case.time) for window in case.policy.windows)
    return None if held else "no time window of the policy is open"


def _evidence_passed(case: Case) -> str | None:
    outcome = _evidence(case).appraisal.outcome
    return None if isinstance(outcome, Pass) else f"the evidence did not pass: {outcome.text}"


def _right_host(case: Case) -> str | None:
    host, seen = case.policy.host(case.grant.request.host), _evidence(case).appraisal
    same = host is not None and (host.kind, host.device) == (seen.kind, seen.device)
    return None if same and seen.device else "the evidence is of another host"


def _right_reference(case: Case) -> str | None:
    same = case.grant.request.reference == _evidence(case).reference
    return None if same else "the evidence was held against other reference values"


def _nonce_fresh(case: Case) -> str | None:
    nonce = case.grant.nonce
    if nonce is None:
        return "no nonce is out; ask for a challenge first"
    old = case.time - nonce.time > 1000 * case.policy.nonce_s
    return "the nonce is too old; ask for a new challenge" if old else None


def _bound_to_release(case: Case) -> str | None:
    return _bound(case, "release", getattr(case.command, "key", ""))


def _bound_to_renewal(case: Case) -> str | None:
    return _bound(case, "renew", case.grant.key or "")


def _bound(case: Case, what: Literal["release", "renew"], key: str) -> str | None:
    grant, found = case.grant, _evidence(case).appraisal.bound
    nonce = grant.nonce.value if grant.nonce else ""
    wanted = binding_of(what, nonce, grant.digest, key).ljust(len(found), b"\0")
    same = hmac.compare_digest(found, wanted)
    return None if same else "the evidence binds another nonce, request or key"


def _may_revoke(case: Case) -> str | None:
    teams = case.policy.teams_for(case.grant.request.break_glass)
    able = {case.grant.request.requester, *case.policy.operators}
    able |= {member for team in teams for member in team.members}
    return None if _by(case) in able else f"{_by(case)} may not revoke this grant"


def _by(case: Case) -> str:
    return str(getattr(case.command, "by", ""))


def _ask(case: Case) -> commands.Ask:
    return _as(case, commands.Ask)


def _judge(case: Case) -> commands.Judge:
    return _as(case, commands.Judge)


def _evidence(case: Case) -> Evidence:
    if isinstance(case.command, commands.Renew):
        return case.command.evidence
    return _as(case, commands.Release).evidence


def _as(case: Case, kind: type[T]) -> T:
    if not isinstance(case.command, kind):
        raise TypeError(f"this check is not for {type(case.command).__name__}")
    return case.command


def _team(case: Case) -> Team | None:
    teams = case.policy.teams_for(case.grant.request.break_glass)
    return next((team for team in teams if team.name == _judge(case).team), None)


_EVIDENCE: tuple[tuple[str, Check], ...] = (
    ("the evidence passed", _evidence_passed),
    ("the host is the one that was named", _right_host),
    ("the reference values are those that were approved", _right_reference),
)

CHECKS: Mapping[type[Command], tuple[tuple[str, Check], ...]] = {
    commands.AdoptPolicy: (),
    commands.Tick: (),
    commands.SetCurrent: (("an operator says so", _operator),),
    commands.Ask: (
        ("the requester may ask", _requester),
        ("few are pending", _few_pending),
        ("the manifest is current", _manifest_current),
        ("the shards exist", _shards),
        ("the host is known", _host_known),
        ("break-glass is allowed", _glass_may_break),
        ("it does not live too long", _not_too_long),
        ("the id is fresh", _id_fresh),
    ),
    commands.Judge: (
        ("the grant exists", _exists),
        ("the grant is pending", _pending),
        ("the policy is current", _policy_current),
        ("the team is asked", _team_asked),
        ("the approver is in the team", _member),
        ("it is not the approver's own", _not_his_own),
        ("it is his first", _first_time),
        ("the team still owes one", _team_still_owes),
        ("his hardware key signed this request", _assertion_holds),
        ("the key's counter moved", _counter_ahead),
    ),
    commands.Challenge: (
        ("the grant exists", _exists),
        ("the requester asks", _his_grant),
        ("the grant is approved or leased", _approved_or_leased),
    ),
    commands.Release: (
        ("the grant exists", _exists),
        ("the requester asks", _his_grant),
        ("the grant is approved and unused", _approved),
        ("the policy is current", _policy_current),
        ("the manifest is current", _manifest_current),
        ("a time window is open", _in_a_window),
        ("a fresh nonce is out", _nonce_fresh),
        ("nonce, request and key are bound", _bound_to_release),
        *_EVIDENCE,
    ),
    commands.Renew: (
        ("the grant exists", _exists),
        ("the requester asks", _his_grant),
        ("the grant is leased", _leased),
        ("the policy is current", _policy_current),
        ("a fresh nonce is out", _nonce_fresh),
        ("nonce, request and key are bound", _bound_to_renewal),
        *_EVIDENCE,
    ),
    commands.Wipe: (
        ("the grant exists", _exists),
        ("the requester says so", _his_grant),
        ("the grant is leased", _leased),
    ),
    commands.Revoke: (
        ("the grant exists", _exists),
        ("he may revoke it", _may_revoke),
        ("the grant has not ended", _not_ended),
    ),
}
