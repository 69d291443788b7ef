"""Whoever reads the log finds what an owned broker did against the rules."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from grant_world import MANIFEST, World

from tidegate.vault import grant_entries as entries
from tidegate.vault.grant_entries import Entry, read_body
from tidegate.vault.grant_errors import GrantError
from tidegate.vault.grant_recheck import NOT_IN_THE_JOURNAL, recheck
from tidegate.vault.grant_rules import CHECKS


def lived() -> list[Entry]:
    """A journal with everything in it, as the log has it."""
    world = World()
    request, _ = world.leased()
    world.broker.renew("alice", request.id, world.evidence(request, "renew"))
    world.broker.wipe("alice", request.id)
    denied = world.ask(by="rob")
    signed = world.signed("ann", denied, "deny")
    world.broker.judge("ann", denied.id, "deny", "security", signed, "no")
    world.broker.revoke("alice", world.ask().id, "changed my mind")
    glass = world.ask(break_glass=True, seconds=600)
    world.approve("sam", glass, "on-call")
    world.clock.advance(4000)
    world.broker.sweep()
    return [read_body(body) for body in world.published()]


HONEST = lived()


def at(kind: type) -> int:
    return next(n for n, entry in enumerate(HONEST) if isinstance(entry.does, kind))


def forged(n: int, does: entries.Does) -> list[Entry]:
    return [
        msgspec.structs.replace(entry, does=does) if entry.n == n else entry for entry in HONEST
    ]


def without(n: int) -> list[Entry]:
    """The journal as if entry `n` had never been: the others moved up."""
    kept = [entry for entry in HONEST if entry.n != n]
    return [msgspec.structs.replace(entry, n=i) for i, entry in enumerate(kept)]


def rules(journal: list[Entry]) -> list[str]:
    return [wrong.rule for wrong in recheck(journal)]


def test_an_honest_journal_has_nothing_wrong() -> None:
    assert rules(HONEST) == []
    assert len({type(entry.does) for entry in HONEST}) == 11  # all but a refusal


def change(kind: type, **fields: object) -> Callable[[], list[Entry]]:
    return lambda: forged(at(kind), msgspec.structs.replace(HONEST[at(kind)].does, **fields))


@pytest.mark.parametrize(
    ("journal", "rule"),
    [
        (change(entries.Approved, by="sam"), "his hardware key signed this request"),
        (change(entries.Approved, by="alice"), "the approver is in the team"),
        (change(entries.Approved, by="ron", team="research"), "his hardware key signed"),
        (change(entries.Released, by="mallory"), "the requester asks"),
        (change(entries.Released, until=2**50), "the lease is no longer than allowed"),
        (change(entries.Renewed, until=2**50), "the lease is no longer than allowed"),
        (change(entries.Current, by="alice"), "an operator says so"),
        (change(entries.Revoked, by="mallory"), "he may revoke it"),
        (lambda: without(at(entries.Approved)), "the grant is approved"),
        (lambda: without(at(entries.Challenged)), "a fresh nonce is out"),
        (lambda: without(at(entries.Asked)), "the grant exists"),
        (lambda: without(0), "there is a policy"),
    ],
)
def test_what_an_owned_broker_forges_is_found(
    journal: Callable[[], list[Entry]], rule: str
) -> None:
    assert any(rule in found for found in rules(journal()))


def test_an_approval_copied_from_another_request_is_found() -> None:
    request = HONEST[at(entries.Asked)].does.request  # type: ignore[union-attr]
    other = msgspec.structs.replace(request, shards=(0, 1, 2, 3))
    found = rules(forged(at(entries.Asked), entries.Asked(other)))
    assert "his hardware key signed this request" in found


def test_a_request_that_the_broker_filled_in_wrongly_is_found() -> None:
    request = HONEST[at(entries.Asked)].does.request  # type: ignore[union-attr]
    for fields in ({"reference": "99" * 32}, {"policy": "99" * 32}, {"time": 1}):
        other = msgspec.structs.replace(request, **fields)
        found = rules(forged(at(entries.Asked), entries.Asked(other)))
        assert "the request is filled in rightly" in found


def test_a_second_release_is_found() -> None:
    release = HONEST[at(entries.Released)]
    twice = [
        *HONEST[: release.n + 1],
        msgspec.structs.replace(release, n=release.n + 1),
    ]
    assert "the grant is approved and unused" in rules(twice)


def test_a_policy_that_was_slipped_in_voids_what_was_approved_before() -> None:
    policy = HONEST[0].does.policy  # type: ignore[union-attr]
    weak = msgspec.structs.replace(policy, teams=policy.teams[:1])
    n = at(entries.Approved) + 1
    slipped = [
        *HONEST[:n],
        Entry(n, HONEST[n].time, HONEST[n].time, entries.Adopt(weak)),
        *(msgspec.structs.replace(entry, n=entry.n + 1) for entry in HONEST[n:]),
    ]
    assert "the policy is current" in rules(slipped)


def test_evidence_that_the_journal_calls_another_hosts_is_found() -> None:
    seen = HONEST[at(entries.Released)].does.evidence  # type: ignore[union-attr]
    for fields in ({"device": "d2"}, {"kind": "other"}, {"reference": "99" * 32}):
        other = msgspec.structs.replace(seen, **fields)
        assert "the evidence is stated to be the host's" in rules(
            change(entries.Released, evidence=other)()
        )


def test_what_cannot_be_rechecked_is_named_after_rules_that_there_are() -> None:
    names = {name for checks in CHECKS.values() for name, _ in checks}
    assert names >= NOT_IN_THE_JOURNAL


def test_a_body_that_is_no_entry_is_refused() -> None:
    with pytest.raises(GrantError):
        read_body({"n": 0, "does": {"kind": "manifest", "manifest": MANIFEST}})
