"""A host's keys end with its lease, whatever its clock or the broker does."""

from __future__ import annotations

import pytest
from grant_world import KEYS, World

from tidegate.errors import TidegateError
from tidegate.vault.errors import VaultError
from tidegate.vault.grant_entries import Request
from tidegate.vault.grant_errors import RefusedError
from tidegate.vault.lease_holder import Lease


class Calls:
    """Alice's calls, straight to the broker; `away` makes it unreachable, `slow` takes seconds."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.away = False
        self.slow = 0.0

    def challenge(self, name: str) -> str:
        self._reach()
        return self.world.broker.challenge("alice", name)

    def release(self, name: str, evidence: bytes, public: bytes) -> bytes:
        self._reach()
        return self.world.broker.release("alice", name, evidence, public)

    def renew(self, name: str, evidence: bytes) -> int:
        self._reach()
        left = self.world.broker.renew("alice", name, evidence)
        self.world.clock.advance(self.slow)
        return left

    def wipe(self, name: str) -> None:
        self._reach()
        self.world.broker.wipe("alice", name)

    def _reach(self) -> None:
        if self.away:
            raise VaultError("away")


def held(**changes: object) -> tuple[World, Calls, Lease, Request]:
    world = World(**changes)
    calls, request = Calls(world), world.approved()
    machine = world.machine
    lease = Lease(calls, request, machine.bind, world.clock)
    lease.acquire()
    return world, calls, lease, request


def test_a_lease_holds_the_keys_of_its_shards_only() -> None:
    _, _, lease, _ = held()
    assert lease.key(2) == KEYS[2]
    with pytest.raises(VaultError):
        lease.key(1)


def test_keys_are_gone_when_the_lease_ends() -> None:
    world, _, lease, _ = held()
    world.clock.advance(world.policy.lease_s)
    with pytest.raises(VaultError):
        lease.key(0)
    assert not lease.renew()


def test_setting_the_hosts_clock_back_makes_no_lease_longer() -> None:
    world, _, lease, _ = held()
    world.clock.advance(world.policy.lease_s)
    world.clock.jump(-world.policy.lease_s)
    assert not lease.check()


def test_a_renewed_lease_goes_on_until_the_grant_ends() -> None:
    world, _, lease, request = held(lease_s=600)
    while lease.check():
        world.clock.advance(300)
        if lease.due():
            lease.renew()
    grant = world.broker.grant(request.id)
    assert grant.ends == grant.until
    assert world.clock.now() * 1000 >= (grant.ends or 0)


def test_a_slow_answer_lengthens_nothing() -> None:
    _, calls, lease, _ = held(lease_s=600)
    calls.slow = 60.0
    assert lease.renew()
    assert lease.left() <= 540


def test_a_revoked_lease_is_wiped_when_it_next_asks() -> None:
    world, _, lease, request = held()
    world.broker.revoke("sam", request.id, "incident")
    assert not lease.renew()
    with pytest.raises(VaultError):
        lease.key(0)


def test_a_host_whose_registers_changed_is_not_renewed() -> None:
    world, _, lease, request = held()
    world.machine.pcr = False
    assert not lease.renew()
    kinds = [entry["does"]["kind"] for entry in world.published()]  # type: ignore[index]
    assert kinds[-1] == "refuse"
    world.clock.advance(world.policy.lease_s)
    world.broker.sweep()
    assert world.broker.grant(request.id).ending == "expired while leased"


def test_an_unreachable_broker_leaves_the_keys_until_their_time() -> None:
    world, calls, lease, _ = held()
    calls.away = True
    world.clock.advance(world.policy.lease_s - 1)
    assert lease.renew()
    world.clock.advance(1)
    assert not lease.renew()


def test_wiping_overwrites_the_keys_even_where_the_broker_is_away() -> None:
    world, calls, lease, request = held()
    package = lease._package
    assert package is not None
    calls.away = True
    with pytest.raises(VaultError):
        lease.wipe()
    assert all(key == bytes(32) for _, key in package.keys)
    calls.away = False
    lease.wipe()
    assert world.broker.grant(request.id).ending == "wiped, says alice"


def test_a_lease_is_acquired_once() -> None:
    _, _, lease, _ = held()
    with pytest.raises(TidegateError):
        lease.acquire()


def test_a_second_process_of_the_host_gets_no_keys_for_the_same_grant() -> None:
    world, calls, _, request = held()
    again = Lease(calls, request, lambda _: b"no evidence", world.clock)
    with pytest.raises(RefusedError, match="approved and unused"):
        again.acquire()
