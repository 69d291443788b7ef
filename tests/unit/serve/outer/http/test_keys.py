from __future__ import annotations

import hmac
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tidegate.errors import ConfigError
from tidegate.serve.outer.keys import Keyring, Principal, mint_key

RING = Keyring(salt="11" * 32)


def test_a_key_names_its_principal_and_scopes() -> None:
    ring = RING.with_key("k1", "alice").with_key("k2", "ops", scopes=("metrics",))
    assert ring.principal("k1", None) == Principal("alice", frozenset({"infer"}))
    assert ring.principal("k2", None) == Principal("ops", frozenset({"metrics"}))
    assert ring.principal("k3", None) is None
    assert ring.principals() == ("alice", "ops")


def test_a_key_file_survives_a_round_trip_and_holds_no_key(tmp_path: Path) -> None:
    key = mint_key()
    ring = Keyring.empty().with_key(key, "alice", loopback_only=True)
    path = tmp_path / "keys.json"
    path.write_bytes(ring.encode())
    assert key.encode() not in path.read_bytes()
    assert Keyring.read(path) == ring


def test_the_same_key_has_another_digest_under_another_salt() -> None:
    one, other = (ring.with_key("k", "a").keys[0] for ring in (Keyring.empty(), Keyring.empty()))
    assert one.digest != other.digest


def test_minted_keys_differ_and_cannot_be_guessed() -> None:
    keys = {mint_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key) >= 43 for key in keys)


def test_every_entry_is_compared_whichever_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = RING
    for place in range(5):
        ring = ring.with_key(f"k{place}", f"p{place}")
    compared: list[Any] = []
    compare = hmac.compare_digest

    def count(a: str, b: str) -> bool:
        compared.append(b)
        return compare(a, b)

    monkeypatch.setattr("tidegate.serve.outer.keys.hmac.compare_digest", count)
    for presented in ("k0", "k4", "none"):
        compared.clear()
        ring.principal(presented, None)
        assert len(compared) == 5


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'{"salt":"00"}',
        b'{"salt":"%s","keys":[{"principal":"a b","digest":"%s"}]}' % (b"0" * 64, b"0" * 64),
        b'{"salt":"%s","extra":1}' % (b"0" * 64),
        b"\xff",
    ],
)
def test_a_malformed_key_file_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(raw)
    with pytest.raises(ConfigError):
        Keyring.read(path)


def test_a_missing_key_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        Keyring.read(tmp_path / "none.json")


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "-a", 'a"b'])
def test_a_principal_has_a_plain_name(name: str) -> None:
    with pytest.raises(ConfigError):
        RING.with_key("k", name)


def test_the_salt_is_32_bytes_of_hex() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"salt": "zz" * 32}, Keyring)
