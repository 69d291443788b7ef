"""A credential opens only in the TPM and beside the key that it was made for; logs replay."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from evidence_authorities import rsa_key, spki
from evidence_machines import (
    AK_ATTRIBUTES,
    EK_ATTRIBUTES,
    EVENTS,
    Tpm,
    event_log,
    public,
    registers,
    sized,
)
from hypothesis import given
from hypothesis import strategies as st

from tidegate.attest.errors import EvidenceError
from tidegate.attest.signatures import load_key
from tidegate.attest.tpm import ek_hash
from tidegate.attest.tpm_credential import Credential, make_credential, new_secret
from tidegate.attest.tpm_log import parse_log, replay
from tidegate.attest.tpm_quote import Register
from tidegate.attest.tpm_structures import parse_public, parse_quote
from tidegate.errors import ConfigError


@pytest.fixture(params=[False, True], ids=["ECC", "RSA"])
def tpm(request: pytest.FixtureRequest) -> Tpm:
    return Tpm(rsa_keys=request.param)


def test_only_the_tpm_of_both_keys_opens_a_credential(tpm: Tpm) -> None:
    secret = new_secret()
    made = make_credential(parse_public(tpm.ek_public), tpm.ak_name, secret)
    assert tpm.activate(made.blob, made.seed) == secret
    other = make_credential(parse_public(tpm.ek_public), b"\0\x0b" + bytes(32), secret)
    with pytest.raises(ValueError, match="another key"):
        tpm.activate(other.blob, other.seed)


def test_a_credential_that_was_altered_does_not_open(tpm: Tpm) -> None:
    made = make_credential(parse_public(tpm.ek_public), tpm.ak_name, new_secret())
    blob = bytearray(made.blob)
    blob[-1] ^= 1
    with pytest.raises(ValueError, match="another key"):
        tpm.activate(bytes(blob), made.seed)


def test_no_two_credentials_are_alike(tpm: Tpm) -> None:
    ek = parse_public(tpm.ek_public)
    made = {make_credential(ek, tpm.ak_name, bytes(32)) for _ in range(3)}
    assert len({one.blob for one in made} | {one.seed for one in made}) == 6
    assert all(isinstance(one, Credential) for one in made)


def test_a_signing_key_takes_no_credential(tpm: Tpm) -> None:
    with pytest.raises(EvidenceError, match="storing"):
        make_credential(parse_public(tpm.ak_public()), tpm.ak_name, new_secret())


@pytest.mark.parametrize("size", [0, 33])
def test_a_secret_fits_the_keys_hash(tpm: Tpm, size: int) -> None:
    with pytest.raises(EvidenceError, match="secret"):
        make_credential(parse_public(tpm.ek_public), tpm.ak_name, bytes(size))


def test_a_keys_name_is_the_hash_of_its_public_area(tpm: Tpm) -> None:
    area = tpm.ak_public()
    assert parse_public(area).name == tpm.ak_name
    assert parse_public(sized(area)).name == tpm.ak_name
    assert parse_public(tpm.ak_public(AK_ATTRIBUTES ^ (1 << 6))).name != tpm.ak_name
    assert ek_hash(parse_public(tpm.ek_public)) == hashlib.sha256(spki(tpm.ek)).digest()


def test_attributes_are_named(tpm: Tpm) -> None:
    assert parse_public(tpm.ak_public()).attributes == {
        "fixedTPM",
        "fixedParent",
        "sensitiveDataOrigin",
        "userWithAuth",
        "restricted",
        "sign",
    }


def test_short_rsa_keys_are_not_taken() -> None:
    key = rsa_key("short")
    numbers = key.public_key().public_numbers()
    area = bytearray(public(key, EK_ATTRIBUTES, storage=True))
    assert parse_public(bytes(area)).key is not None
    short = rsa.RSAPublicNumbers(65537, numbers.n >> 1025 | 1).public_key()
    der = short.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert load_key(der) is None


def test_a_point_off_the_curve_is_no_key() -> None:
    area = bytearray(Tpm().ak_public())
    area[-1] ^= 1
    assert parse_public(bytes(area)).key is None


def test_a_quote_says_which_registers_it_covers() -> None:
    quote = parse_quote(Tpm().quote(bytes(32)))
    assert quote.selection == (("sha256", (0, 4, 7)),)
    assert (quote.resets, quote.restarts, quote.safe) == (7, 1, True)


def test_a_log_gives_the_registers() -> None:
    events = parse_log(event_log(EVENTS))
    assert [(one.register, one.data) for one in events] == EVENTS
    assert replay(events, "sha256") == registers()
    assert replay(events, "sha384") == {}


@given(st.integers(0, 3))
def test_the_order_of_events_counts(at: int) -> None:
    turned = [*EVENTS[at:], *EVENTS[:at]]
    found = replay(parse_log(event_log(turned)), "sha256")
    assert (found[4] == registers()[4]) == (
        [data for register, data in turned if register == 4] == [b"boot loader", b"kernel"]
    )


def test_a_start_from_another_locality_counts() -> None:
    log = bytearray(event_log([(0, b"StartupLocality\0\x03"), *EVENTS]))
    first = event_log([])
    log[len(first) + 4 : len(first) + 8] = (3).to_bytes(4, "little")
    found = replay(parse_log(bytes(log)), "sha256")
    start = bytes(31) + b"\3"
    assert found[0] == hashlib.sha256(start + hashlib.sha256(b"firmware").digest()).digest()
    assert found[7] == registers()[7]


@pytest.mark.parametrize(
    ("bank", "number", "size"), [("sha1", 0, 20), ("sha256", 24, 32), ("sha256", 0, 31)]
)
def test_registers_that_nothing_can_rest_on_are_refused(bank: str, number: int, size: int) -> None:
    with pytest.raises(ConfigError):
        Register(bank, number, frozenset({bytes(size)}))


def test_a_register_without_an_allowed_value_is_refused() -> None:
    with pytest.raises(ConfigError):
        Register("sha256", 0, frozenset())
