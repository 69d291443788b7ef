"""The journal decided again by somebody who does not trust the broker. Pure.

Every entry is held against the rules that it should have passed: approvals against their hardware
keys' signatures, quorums, one release a grant. What cannot be checked from the journal alone is the
evidence, of which it has the hash: hand that in, and `tidegate attest` appraises it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from tidegate.attest.appraisal import Appraisal
from tidegate.errors import ConfigError
from tidegate.ledger.entries import next_head
from tidegate.ledger.state import Row
from tidegate.vault import grant_commands as commands
from tidegate.vault import grant_entries as entries
from tidegate.vault.errors import VaultError
from tidegate.vault.grant_commands import Command, Evidence
from tidegate.vault.grant_entries import Entry, Request, Seen, encode
from tidegate.vault.grant_policy import Policy
from tidegate.vault.grant_rules import CHECKS, Case
from tidegate.vault.grant_state import State, folded

NOT_IN_THE_JOURNAL = frozenset(
    {
        "nonce, request and key are bound",
        "the evidence passed",
        "the host is the one that was named",
        "the reference values are those that were approved",
    }
)
"""Rules that need the evidence itself. What the journal says of it is held against the request."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """Entry `n` did what the rules forbid: which rule, and why."""

    n: int
    rule: str
    reason: str


def recheck(journal: Iterable[Entry]) -> Iterator[Wrong]:
    """Everything in `journal`, from its first entry on, that an honest broker would not have done.

    Ends after an entry that cannot follow at all: nothing beyond it means anything.
    """
    state = State()
    for entry in journal:
        yield from _against_the_rules(state, entry)
        raw = encode(entry)
        try:
            state = folded(state, Row(raw, next_head(state.tip.head, raw)))
        except VaultError as error:
            yield Wrong(entry.n, "it follows from what was before", error.message)
            return


def _against_the_rules(state: State, entry: Entry) -> Iterator[Wrong]:
    does = entry.does
    if isinstance(does, entries.Adopt):
        yield from _policy(entry.n, does.policy)
        return
    command, policy = _command(does), state.policy
    if policy is None:
        yield Wrong(entry.n, "there is a policy", "nothing was adopted before it")
        return
    if isinstance(does, entries.Asked):
        yield from _filled_in(policy, entry, does.request)
    if isinstance(does, entries.Released | entries.Renewed):
        yield from _stated(state, policy, entry, does)
    if command is None:
        return
    for name, check in CHECKS[type(command)]:
        if name in NOT_IN_THE_JOURNAL:
            continue
        reason = check(Case(state, policy, command, entry.time))
        if reason is not None:
            yield Wrong(entry.n, name, reason)
            return


def _policy(n: int, policy: Policy) -> Iterator[Wrong]:
    try:
        policy.checked()
    except ConfigError as error:
        yield Wrong(n, "the policy makes sense", error.message)


def _filled_in(policy: Policy, entry: Entry, request: Request) -> Iterator[Wrong]:
    """What the broker adds to a request is not for it to choose."""
    host = policy.host(request.host)
    wanted = (policy.digest, host.reference if host else "", entry.time)
    if (request.policy, request.reference, request.time) != wanted:
        reason = "policy, reference values or time are not those of that moment"
        yield Wrong(entry.n, "the request is filled in rightly", reason)


def _stated(
    state: State, policy: Policy, entry: Entry, does: entries.Released | entries.Renewed
) -> Iterator[Wrong]:
    """What the journal says of the evidence, and the lease that was given on it."""
    grant = state.grants.get(does.grant)
    if grant is None:
        return
    host, seen = policy.host(grant.request.host), does.evidence
    named = (host.kind, host.device) if host else ("", "")
    if (seen.kind, seen.device) != named or seen.reference != grant.request.reference:
        reason = "the journal says that it was of another host, or held against other values"
        yield Wrong(entry.n, "the evidence is stated to be the host's", reason)
    longest = entry.time + 1000 * policy.lease_s
    if does.until > min(longest, grant.ends if grant.ends is not None else longest):
        yield Wrong(entry.n, "the lease is no longer than allowed", f"until {does.until}")


def _unseen(seen: Seen) -> Evidence:
    """Stands for evidence that only the broker has seen."""
    then = datetime.fromtimestamp(0, UTC)
    appraisal = Appraisal(
        kind=seen.kind, checks=(), claims=(), bound=b"", device=seen.device, at=then
    )
    return Evidence(appraisal, seen.reference, seen.digest)


def _command(does: entries.Does) -> Command | None:
    """What must have been asked for that entry; None for what nobody asks for."""
    match does:
        case entries.Current(model=model, manifest=manifest, shards=shards, by=by):
            return commands.SetCurrent(by, model, manifest, shards)
        case entries.Asked(request=r):
            return commands.Ask(
                r.requester, r.id, r.why, r.model, r.manifest, r.shards, r.host, r.seconds,
                r.break_glass,
            )  # fmt: skip
        case entries.Approved(grant=grant, by=by, team=team, assertion=given):
            return commands.Judge(by, grant, "approve", team, given)
        case entries.Denied(grant=grant, by=by, team=team, assertion=given, reason=reason):
            return commands.Judge(by, grant, "deny", team, given, reason)
        case entries.Challenged(grant=grant, by=by, nonce=nonce):
            return commands.Challenge(by, grant, nonce)
        case entries.Released(grant=grant, by=by, key=key, evidence=seen):
            return commands.Release(by, grant, _unseen(seen), key)
        case entries.Renewed(grant=grant, by=by, evidence=seen):
            return commands.Renew(by, grant, _unseen(seen))
        case entries.Wiped(grant=grant, by=by):
            return commands.Wipe(by, grant)
        case entries.Revoked(grant=grant, by=by, reason=reason):
            return commands.Revoke(by, grant, reason)
        case _:
            return None
