"""Attacks on grants. Each is refused at the check that is there for it, and no key leaves."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from grant_world import (
    MANIFEST,
    MODEL,
    ORIGIN,
    REFERENCE,
    RP,
    SHARDS,
    Machine,
    World,
)

from tidegate.errors import ConfigError
from tidegate.ledger import MemoryStore
from tidegate.ledger.state import Row
from tidegate.vault.errors import RevokedKeyError
from tidegate.vault.grant_entries import challenge_of
from tidegate.vault.grant_errors import ClockMovedError, GrantError, RefusedError
from tidegate.vault.grant_policy import Person, Team, Window
from tidegate.vault.grant_state import Status
from tidegate.vault.kms_local import LocalKms
from tidegate.vault.release_seal import opened
from tidegate.vault.webauthn_software import SoftwareKey


@pytest.fixture
def world() -> World:
    return World()


def refused(world: World, rule: str) -> pytest.RaisesContext[RefusedError]:
    return pytest.raises(RefusedError, match=rule)


# Replay


def test_a_used_grant_gives_no_key_again(world: World) -> None:
    request, _ = world.leased()
    with refused(world, "released; what was lost needs a new request"):
        world.release(request)
    assert world.keys.unwrapped == [0, 2]


def test_the_very_same_release_call_sent_again_is_refused(world: World) -> None:
    request = world.approved()
    evidence = world.evidence(request)
    world.broker.release("alice", request.id, evidence, world.machine.public)
    with refused(world, "approved and unused"):
        world.broker.release("alice", request.id, evidence, world.machine.public)
    assert world.keys.unwrapped == [0, 2]


def test_approvals_of_one_request_do_not_approve_another_like_it(world: World) -> None:
    first, second = world.ask(), world.ask()
    with refused(world, "his hardware key signed this request"):
        world.broker.judge("ann", second.id, "approve", "security", world.signed("ann", first))


def test_a_signed_denial_does_not_approve(world: World) -> None:
    request = world.ask()
    with refused(world, "his hardware key signed this request"):
        world.broker.judge(
            "ann", request.id, "approve", "security", world.signed("ann", request, "deny")
        )


def test_a_wiped_or_revoked_grant_comes_back_by_nothing(world: World) -> None:
    request, _ = world.leased()
    world.broker.wipe("alice", request.id)
    with refused(world, "wiped"):
        world.release(request)
    other = world.approved()
    world.broker.revoke("oscar", other.id, "changed our minds")
    with refused(world, "revoked by oscar"):
        world.release(other)


# Somebody or something else


def test_another_requester_cannot_use_the_grant(world: World) -> None:
    request = world.approved()
    with refused(world, "the requester asks"):
        world.release(request, by="mallory")
    evidence = world.evidence(request)
    with refused(world, "the requester asks"):
        world.broker.release("mallory", request.id, evidence, world.machine.public)
    assert world.keys.unwrapped == []


def test_another_host_gets_no_key(world: World) -> None:
    request = world.approved()
    world.machine = Machine(device="d2")
    with refused(world, "the host is the one that was named"):
        world.release(request)
    assert world.keys.unwrapped == []


def test_a_host_without_a_name_is_no_host(world: World) -> None:
    request = world.approved()
    world.machine = Machine(device="")
    with refused(world, "the host is the one that was named"):
        world.release(request)


def test_other_registers_get_no_key(world: World) -> None:
    request = world.approved()
    world.machine = Machine(pcr=False)
    with refused(world, "the evidence passed"):
        world.release(request)
    assert world.keys.unwrapped == []


def test_other_reference_values_than_were_approved_are_refused(world: World) -> None:
    request = world.approved()
    world.machine = Machine(reference="ee" * 32)
    with refused(world, "the reference values are those that were approved"):
        world.release(request)


def test_an_old_nonce_is_refused(world: World) -> None:
    request = world.approved()
    evidence = world.evidence(request)
    world.clock.advance(world.policy.nonce_s + 1)
    with refused(world, "a fresh nonce is out"):
        world.broker.release("alice", request.id, evidence, world.machine.public)


def test_evidence_over_the_nonce_before_is_refused(world: World) -> None:
    request = world.approved()
    earlier = world.evidence(request)
    world.broker.challenge("alice", request.id)
    with refused(world, "nonce, request and key are bound"):
        world.broker.release("alice", request.id, earlier, world.machine.public)


def test_evidence_for_one_grant_does_not_serve_another(world: World) -> None:
    first, second = world.approved(), world.approved()
    nonce = world.broker.challenge("alice", second.id)
    evidence = world.machine.evidence("release", nonce, first)
    with refused(world, "nonce, request and key are bound"):
        world.broker.release("alice", second.id, evidence, world.machine.public)


def test_keys_are_sealed_to_no_key_that_the_evidence_does_not_bind(world: World) -> None:
    request = world.approved()
    evidence = world.evidence(request)
    with refused(world, "nonce, request and key are bound"):
        world.broker.release("alice", request.id, evidence, Machine().public)
    assert world.keys.unwrapped == []


def test_evidence_made_for_a_release_does_not_renew(world: World) -> None:
    request, _ = world.leased()
    with refused(world, "nonce, request and key are bound"):
        world.broker.renew("alice", request.id, world.evidence(request, "release"))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"device": "d2"}, "the host is the one that was named"),
        ({"reference": "ee" * 32}, "the reference values are those that were approved"),
        ({"pcr": False}, "the evidence passed"),
        ({"until": 1.0}, "the evidence passed"),
    ],
)
def test_a_lease_is_not_renewed_on_worse_evidence_than_it_was_given_on(
    world: World, change: dict[str, object], rule: str
) -> None:
    request, _ = world.leased()
    for name, value in change.items():
        setattr(world.machine, name, value)
    with refused(world, rule):
        world.broker.renew("alice", request.id, world.evidence(request, "renew"))


def test_a_lease_is_not_renewed_with_an_old_nonce_or_under_another_policy(world: World) -> None:
    request, _ = world.leased()
    evidence = world.evidence(request, "renew")
    world.clock.advance(world.policy.nonce_s + 1)
    with refused(world, "a fresh nonce is out"):
        world.broker.renew("alice", request.id, evidence)
    world.broker.adopt(msgspec.structs.replace(world.policy, longest_s=7200))
    with refused(world, "the policy is current"):
        world.broker.renew("alice", request.id, world.evidence(request, "renew"))


def test_what_was_never_released_is_not_renewed(world: World) -> None:
    request = world.approved()
    with refused(world, "the grant is leased"):
        world.broker.renew("alice", request.id, world.evidence(request, "renew"))


def test_bytes_that_are_no_evidence_are_refused_and_written_down(world: World) -> None:
    request = world.approved()
    world.broker.challenge("alice", request.id)
    with refused(world, "bound"):
        world.broker.release("alice", request.id, b"\x00", world.machine.public)
    assert world.published()[-1]["does"]["kind"] == "refuse"  # type: ignore[index]


def test_expired_collateral_gets_no_key(world: World) -> None:
    request = world.approved()
    world.machine.until = world.clock.now() - 1
    with refused(world, "the CRL expired"):
        world.release(request)
    assert world.keys.unwrapped == []


def test_a_lease_ends_when_the_collateral_that_it_rests_on_expires(world: World) -> None:
    world.machine.until = world.clock.now() + 60
    _, package = world.leased()
    assert package.lease == 60_000


def test_a_revoked_wrapping_key_releases_nothing_and_costs_the_grant(
    world: World, tmp_path: Path
) -> None:
    kms = LocalKms.create(tmp_path / "kms.json")
    wrapped = kms.wrap(bytes(32), b"shard 0")
    world.keys.unwrap = lambda *_: ((0, kms.unwrap(wrapped, b"shard 0")),)  # type: ignore[method-assign]
    world.leased(shards=(0,))
    request = world.approved(shards=(0,))
    kms.rotate()
    kms.revoke(1)
    with pytest.raises(RevokedKeyError):
        world.release(request)
    with refused(world, "approved and unused"):
        world.release(request)


def test_a_package_opens_for_no_other_key_and_no_other_request(world: World) -> None:
    request, other = world.approved(), world.ask()
    package = world.release(request)
    for private, digest in [
        (Machine().private, request.digest),
        (world.machine.private, other.digest),
    ]:
        with pytest.raises(GrantError):
            opened(private, digest, package)


@pytest.mark.parametrize("shards", [(), (2, 0), (1, 1), (SHARDS,), (-1,)])
def test_only_shards_that_exist_can_be_asked_for(world: World, shards: tuple[int, ...]) -> None:
    with refused(world, "shards"):
        world.ask(shards=shards)


def test_a_host_that_the_policy_does_not_know_can_not_be_asked_for(world: World) -> None:
    with refused(world, "the host is known"):
        world.ask(host="gpu9")


def test_only_the_shards_that_were_approved_are_released(world: World) -> None:
    _, package = world.leased(shards=(1,))
    assert [number for number, _ in package.keys] == [1]
    assert world.keys.unwrapped == [1]


def test_a_stale_manifest_is_refused_at_request_and_at_release(world: World) -> None:
    request = world.approved()
    world.broker.set_current("oscar", MODEL, "99" * 32, SHARDS)
    with refused(world, "the manifest is current"):
        world.release(request)
    with refused(world, "the manifest is current"):
        world.ask(manifest=MANIFEST)
    assert world.keys.unwrapped == []


# Approvers


def test_one_approver_does_not_count_twice(world: World) -> None:
    world = World(
        teams=(Team(name="security", needs=2, members=("ann", "sam")),),
    )
    request = world.ask()
    world.approve("ann", request)
    with refused(world, "it is his first"):
        world.approve("ann", request)
    assert world.broker.grant(request.id).status is Status.PENDING


def test_one_approver_does_not_count_for_two_teams(world: World) -> None:
    world = World(
        teams=(
            Team(name="security", needs=1, members=("ann",)),
            Team(name="research", needs=1, members=("ann", "ron")),
        ),
    )
    request = world.ask()
    world.approve("ann", request, "security")
    with refused(world, "it is his first"):
        world.approve("ann", request, "research")


def test_a_requester_does_not_approve_his_own(world: World) -> None:
    request = world.ask(by="rob")
    with refused(world, "it is not the approver's own"):
        world.approve("rob", request)


def test_one_team_does_not_approve_for_the_other(world: World) -> None:
    request = world.ask()
    with refused(world, "the approver is in the team"):
        world.approve("ann", request, "research")
    world.approve("ann", request)
    with refused(world, "the team still owes one"):
        world.approve("sam", request)
    assert world.broker.grant(request.id).status is Status.PENDING


def test_one_hardware_key_under_two_names_is_no_policy() -> None:
    world = World()
    shared = world.policy.people[0].credentials
    people = (Person(name="ann", credentials=shared), Person(name="ron", credentials=shared))
    with pytest.raises(ConfigError, match="twice"):
        msgspec.structs.replace(world.policy, people=people).checked()


def test_another_persons_hardware_key_does_not_approve(world: World) -> None:
    request = world.ask()
    with refused(world, "his hardware key signed this request"):
        world.broker.judge("ann", request.id, "approve", "security", world.signed("ron", request))


def test_a_stranger_with_a_token_does_not_approve(world: World) -> None:
    request = world.ask()
    with refused(world, "the approver is in the team"):
        world.broker.judge(
            "mallory", request.id, "approve", "security", world.signed("ann", request)
        )


def test_a_copied_hardware_key_is_noticed(world: World) -> None:
    first, second = world.ask(), world.ask()
    copy = SoftwareKey.decode(world.people["ann"].encode())
    world.approve("ann", first)
    assertion = copy.sign(challenge_of("approve", second.digest), RP, ORIGIN)
    with refused(world, "the key's counter moved"):
        world.broker.judge("ann", second.id, "approve", "security", assertion)


@pytest.mark.parametrize("origin", ["https://evil.example", "http://vault.example", "null"])
def test_an_approval_made_on_another_site_is_refused(world: World, origin: str) -> None:
    request = world.ask()
    signed = world.people["ann"].sign(challenge_of("approve", request.digest), RP, origin)
    with refused(world, "his hardware key signed this request"):
        world.broker.judge("ann", request.id, "approve", "security", signed)


@pytest.mark.parametrize("flags", [0x00, 0x01, 0x04])
def test_an_approval_without_touch_and_pin_is_refused(world: World, flags: int) -> None:
    request = world.ask()
    signed = world.signed("ann", request)
    altered = signed.authenticator[:32] + bytes([flags]) + signed.authenticator[33:]
    with refused(world, "his hardware key signed this request"):
        world.broker.judge(
            "ann",
            request.id,
            "approve",
            "security",
            msgspec.structs.replace(signed, authenticator=altered),
        )


def test_a_changed_policy_voids_what_was_approved_under_the_old_one(world: World) -> None:
    pending, approved = world.ask(), world.approved()
    world.broker.adopt(msgspec.structs.replace(world.policy, lease_s=601))
    with refused(world, "the policy is current"):
        world.approve("ann", pending)
    with refused(world, "the policy is current"):
        world.release(approved)
    assert world.keys.unwrapped == []


# Clocks


@pytest.mark.parametrize("jump", [-86_400, -60, 60, 86_400])
def test_a_clock_that_is_set_stops_every_decision(world: World, jump: float) -> None:
    request = world.approved()
    evidence = world.evidence(request)
    world.clock.jump(jump)
    with pytest.raises(ClockMovedError):
        world.broker.release("alice", request.id, evidence, world.machine.public)
    with pytest.raises(ClockMovedError):
        world.ask()
    assert world.keys.unwrapped == []


def test_small_steps_back_and_forth_do_not_add_up_unseen(world: World) -> None:
    for _ in range(2):
        world.clock.jump(-2)
        world.clock.advance(1)
        world.ask()
    world.clock.jump(-2)
    with pytest.raises(ClockMovedError):
        world.ask()


def test_a_clock_set_back_while_the_broker_is_down_decides_nothing(world: World) -> None:
    request = world.approved()
    world.clock.jump(-3600)
    with pytest.raises(ClockMovedError):
        world.restart().challenge("alice", request.id)
    world.clock.advance(3600)
    world.restart()
    assert world.release(request)


def test_a_leap_second_is_no_attack(world: World) -> None:
    world.clock.advance(30 * 86_400)
    world.clock.jump(-1)
    world.ask()


def test_a_clock_that_is_set_after_a_month_is_seen_as_on_the_first_day(world: World) -> None:
    world.clock.advance(30 * 86_400)
    world.clock.jump(-6)
    with pytest.raises(ClockMovedError):
        world.ask()


def test_a_clock_put_back_gives_an_ended_grant_no_second_life(world: World) -> None:
    request = world.approved(seconds=60)
    world.clock.advance(61)
    world.broker.sweep()
    world.clock.jump(-61)
    with pytest.raises((ClockMovedError, RefusedError)):
        world.restart().challenge("alice", request.id)


def test_keys_leave_in_a_time_window_of_the_policy_only() -> None:
    # The world's clock starts on a Tuesday at 22:13 UTC.
    world = World(windows=(Window(days=("tue",), start=8 * 60, end=18 * 60),))
    request = world.approved()
    with refused(world, "a time window is open"):
        world.release(request)
    for days, opens in [(("tue",), True), (("mon", "wed"), False)]:
        world = World(windows=(Window(days=days, start=22 * 60, end=23 * 60),))
        request = world.approved()
        if opens:
            assert world.release(request)
        else:
            with refused(world, "a time window is open"):
                world.release(request)


# Stores


def test_a_journal_rolled_back_to_before_the_release_releases_nothing(world: World) -> None:
    request = world.approved()
    size = world.store.tip().size
    world.release(request)
    older = MemoryStore()
    for row in world.store.read(0, size):
        older.append(older.tip(), [row])
    world.store = older
    with pytest.raises(GrantError, match="rolled back"):
        world.opened()
    assert world.keys.unwrapped == [0, 2]


def test_a_journal_that_was_edited_does_not_open(world: World) -> None:
    world.ask()
    forged = MemoryStore()
    for row in world.store.read(0, 99):
        forged.append(forged.tip(), [Row(row.entry.replace(b"alice", b"mallo"), row.head)])
    world.store = forged
    with pytest.raises(GrantError, match="chain"):
        world.opened()


def test_refusals_are_in_the_log(world: World) -> None:
    request = world.approved()
    world.machine = Machine(pcr=False)
    with pytest.raises(RefusedError) as caught:
        world.release(request)
    last = world.published()[-1]["does"]
    assert isinstance(last, dict)
    assert (last["kind"], last["by"], last["check"]) == ("refuse", "alice", caught.value.check)
    assert last["grant"] == request.id


def test_the_reference_values_are_the_hosts_of_the_policy(world: World) -> None:
    assert world.ask().reference == REFERENCE
