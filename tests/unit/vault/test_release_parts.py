"""The parts of a release: hardware keys, sealed packages, clocks, hooks, sockets."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from grant_world import KEYS, ORIGIN, RP, Machine, World
from hypothesis import given, settings
from hypothesis import strategies as st
from postgres_server import server

from tidegate.clock import ManualClock
from tidegate.errors import ConfigError
from tidegate.ledger.store_postgres import PostgresStore
from tidegate.vault.api_keys import Tokens, mint
from tidegate.vault.broker_clock import BrokerClock
from tidegate.vault.errors import VaultError
from tidegate.vault.grant_decide import Notify
from tidegate.vault.grant_entries import Assertion
from tidegate.vault.grant_errors import ClockMovedError, GrantError, RefusedError
from tidegate.vault.grant_policy import Credential
from tidegate.vault.lease_holder import Lease, OwnCalls
from tidegate.vault.lease_socket import LeaseCalls, LeaseServer
from tidegate.vault.notify import Hook
from tidegate.vault.release_seal import opened, sealed
from tidegate.vault.webauthn_check import AssertionRefusedError, verified
from tidegate.vault.webauthn_software import SoftwareKey

WORLD = World()
CHALLENGE = bytes(range(32))


def person() -> tuple[SoftwareKey, Assertion]:
    key = SoftwareKey.decode(WORLD.people["ann"].encode())
    return key, key.sign(CHALLENGE, RP, ORIGIN)


# Hardware keys


@given(st.sampled_from(["authenticator", "client", "signature"]), st.integers(0, 255))
def test_an_assertion_cut_anywhere_does_not_hold(part: str, at: int) -> None:
    _, signed = person()
    raw = getattr(signed, part)
    changed = msgspec.structs.replace(signed, **{part: raw[: at % len(raw)]})
    with pytest.raises(AssertionRefusedError):
        verified(WORLD.policy, WORLD.policy.people[0], CHALLENGE, changed)


@given(
    st.sampled_from(["authenticator", "client", "signature"]),
    st.integers(0, 255),
    st.integers(1, 255),
)
def test_an_assertion_with_any_byte_changed_does_not_hold(part: str, at: int, flip: int) -> None:
    key, signed = person()
    raw = bytearray(getattr(signed, part))
    raw[at % len(raw)] ^= flip
    changed = msgspec.structs.replace(signed, **{part: bytes(raw)})
    ann = WORLD.policy.people[0]
    assert ann.credentials == (key.credential,)
    assert verified(WORLD.policy, ann, CHALLENGE, signed) == key.counter
    with pytest.raises(AssertionRefusedError):
        verified(WORLD.policy, ann, CHALLENGE, changed)


@settings(max_examples=25)
@given(st.binary(min_size=1, max_size=200), st.binary(min_size=1, max_size=200))
def test_bytes_that_are_no_assertion_are_refused_and_nothing_else(one: bytes, other: bytes) -> None:
    _, signed = person()
    ann = WORLD.policy.people[0]
    for part in ("authenticator", "client", "signature", "credential"):
        changed = msgspec.structs.replace(signed, **{part: one, "signature": other})
        with pytest.raises(AssertionRefusedError):
            verified(WORLD.policy, ann, CHALLENGE, changed)


@pytest.mark.parametrize("key", [b"\xa0", b"\x01", b"\xff", bytes(77)])
def test_a_malformed_enrolled_key_verifies_nothing(key: bytes) -> None:
    _, signed = person()
    ann = msgspec.structs.replace(
        WORLD.policy.people[0], credentials=(Credential(id=signed.credential, key=key),)
    )
    with pytest.raises(AssertionRefusedError):
        verified(WORLD.policy, ann, CHALLENGE, signed)


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"id":"00","counter":0,"private":"x"}', b"[1]"])
def test_a_software_keys_file_that_is_none_is_refused(raw: bytes) -> None:
    with pytest.raises(ConfigError):
        SoftwareKey.decode(raw)


# Packages


@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(min_size=32, max_size=32)), max_size=9),
    st.integers(0, 2**63),
    st.data(),
)
def test_a_package_holds_what_was_put_in_and_opens_unaltered_only(
    keys: list[tuple[int, bytes]], lease: int, data: st.DataObject
) -> None:
    private = X25519PrivateKey.generate()
    package = sealed(private.public_key().public_bytes_raw(), CHALLENGE, lease, keys)
    found = opened(private, CHALLENGE, package)
    assert (found.lease, [(n, bytes(k)) for n, k in found.keys]) == (lease, keys)
    altered = bytearray(package)
    altered[data.draw(st.integers(0, len(package) - 1))] ^= 1
    with pytest.raises(GrantError):
        opened(private, CHALLENGE, bytes(altered))


def test_nothing_is_sealed_to_a_key_that_gives_no_secret() -> None:
    with pytest.raises(GrantError):
        sealed(bytes(32), CHALLENGE, 1, [(0, bytes(32))])
    with pytest.raises(GrantError):
        sealed(Machine().public, CHALLENGE, 1, [(0, bytes(31))])


# Clocks


def test_the_broker_time_is_never_before_the_journals() -> None:
    clock = ManualClock(1000.0)
    time = BrokerClock(clock)
    assert time.now(0) == 1_000_000
    assert time.now(1_003_000) == 1_003_000
    with pytest.raises(ClockMovedError, match="behind the journal"):
        time.now(1_006_000)


# Hooks


def test_a_hook_is_told_once_and_in_json(tmp_path: Path) -> None:
    out = tmp_path / "heard"
    program = f"import sys; open({str(out)!r}, 'a').write(sys.stdin.read())"
    Hook([sys.executable, "-c", program]).tell(Notify("alarm", "request", "ab", "text"))
    assert json.loads(out.read_text()) == {
        "level": "alarm",
        "event": "request",
        "grant": "ab",
        "text": "text",
    }


@pytest.mark.parametrize("command", [["false"], ["/nowhere/at-all"]])
def test_a_hook_that_fails_stops_nothing(command: list[str]) -> None:
    Hook(command).tell(Notify("info", "approve", "ab", "text"))


# Tokens


def test_a_file_of_tokens_gives_no_token_away() -> None:
    token = mint()
    known = Tokens().with_token("alice", token)
    assert known.principal(token) == "alice"
    assert Tokens.decode(known.encode()) == known
    assert token.removeprefix("tgv-").encode() not in known.encode()
    for wrong in ("", token[:-1], token + "x", token * 9):
        assert known.principal(wrong) is None
    with pytest.raises(ConfigError):
        known.with_token('a"b', token)
    with pytest.raises(ConfigError):
        Tokens.decode(b"[]")


# Sockets


def test_a_lease_hands_keys_to_its_own_user_and_is_gone_with_it(tmp_path: Path) -> None:
    world = World()
    request = world.approved()
    machine = world.machine
    lease = Lease(OwnCalls(world.broker, "alice"), request, machine.bind, world.clock)
    lease.acquire()
    path = tmp_path / "lease.sock"
    calls = LeaseCalls(path)
    with LeaseServer(lease, path):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert calls.key(2) == KEYS[2]
        with pytest.raises(VaultError, match="No key of shard 1"):
            calls.key(1)
        assert calls.renew() == world.policy.lease_s == calls.left()
        calls.wipe()
        with pytest.raises(VaultError):
            calls.key(2)
    assert not path.exists()
    with pytest.raises(VaultError, match="No lease is held"):
        calls.key(2)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_of_the_host_gets_no_answer_from_a_lease() -> None:
    world = World()
    request = world.approved()
    lease = Lease(OwnCalls(world.broker, "alice"), request, world.machine.bind, world.clock)
    lease.acquire()
    program = """
import socket, sys
there = socket.socket(socket.AF_UNIX)
there.connect(sys.argv[1])
try:
    there.sendall(b'{"do":"key","shard":0}\\n')
    print(there.recv(99) or "no answer")
except ConnectionError:
    print("no answer")
"""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lease.sock"
        with LeaseServer(lease, path):
            # Even where permissions were loosened.
            Path(folder).chmod(0o755)
            path.chmod(0o666)
            command = ["/usr/bin/env", "python3", "-c", program, str(path)]
            for user, answer in ((0, b"key"), (65534, b"no answer")):
                said = subprocess.run(command, user=user, capture_output=True).stdout
                assert answer in said


# PostgreSQL


def test_brokers_on_one_postgres_release_once_between_them() -> None:
    with server() as running:
        world = World(PostgresStore(running.url, "tidegate_grants"))
        request = world.approved()
        world.store = PostgresStore(running.url, "tidegate_grants")
        other = world.opened()
        evidence = world.evidence(request)
        assert other.release("alice", request.id, evidence, world.machine.public)
        with pytest.raises(RefusedError, match="approved and unused"):
            world.broker.release("alice", request.id, evidence, world.machine.public)
        assert world.keys.unwrapped == [0, 2]
