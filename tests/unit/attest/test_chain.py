"""What chains of made-up authorities do not show in the published vectors."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from evidence_authorities import (
    UNTIL,
    Authority,
    certificate,
    ec_key,
    extension,
    oid,
    root,
    rsa_key,
    tlv,
)

from tidegate.attest.appraisal import Setting
from tidegate.attest.certificates import (
    parse_certificate,
    parse_certificates,
    parse_revocation_list,
    pem_blocks,
)
from tidegate.attest.chain import Chain, find_chain, lists_end, signed_by
from tidegate.attest.errors import EvidenceError
from tidegate.attest.outcome import CannotVerify, Fail
from tidegate.attest.signatures import algorithm_of

TOP = root("Test Root")
LEAF = parse_certificate(TOP.certify("Device", ec_key("device")))
ROOT = parse_certificate(TOP.certificate)


def with_pss(salt: int, digest: hashes.HashAlgorithm) -> x509.Certificate:
    """A certificate of a library's, signed as AMD signs."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "PSS")])
    key = rsa_key("pss")
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2024, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2034, 1, 1, tzinfo=UTC))
        .sign(key, digest, rsa_padding=padding.PSS(padding.MGF1(digest), salt))
    )


def test_a_librarys_certificate_reads_the_same_here() -> None:
    made = with_pss(48, hashes.SHA384())
    found = parse_certificate(made.public_bytes(Encoding.DER))
    assert found.serial == made.serial_number
    assert found.not_after == made.not_valid_after_utc
    assert found.tbs == made.tbs_certificate_bytes
    assert found.name == "PSS"
    assert algorithm_of(found.algorithm, "test") == ("rsa-pss", "sha384")
    assert signed_by(found, found.algorithm, found.signature, found.tbs)
    assert parse_certificates(made.public_bytes(Encoding.PEM)) == (found,)


def test_a_shorter_salt_than_the_hash_is_not_taken() -> None:
    found = parse_certificate(with_pss(20, hashes.SHA384()).public_bytes(Encoding.DER))
    assert not signed_by(found, found.algorithm, found.signature, found.tbs)


def test_sha1_is_not_taken() -> None:
    with pytest.raises(EvidenceError, match="not taken"):
        algorithm_of(tlv(0x30, oid("1.2.840.113549.1.1.5"), tlv(0x05)), "test")


def test_rsa_authorities_are_followed() -> None:
    key = rsa_key("authority")
    der = certificate("RSA Root", key, "RSA Root", key, serial=1)
    with pytest.raises(EvidenceError):
        parse_certificate(der + b"\0")
    made = parse_certificate(der)
    assert signed_by(made, made.algorithm, made.signature, made.tbs)


def test_without_a_root_nobody_can_tell() -> None:
    assert isinstance(find_chain(LEAF, [ROOT], frozenset()), CannotVerify)


def test_certificates_may_come_in_any_order_and_twice() -> None:
    lower = TOP.authority("Lower", "Lower", serial=3)
    leaf = parse_certificate(lower.certify("Device", ec_key("device")))
    middle = parse_certificate(lower.certificate)
    found = find_chain(leaf, [ROOT, leaf, middle, ROOT, middle], frozenset({TOP.pin}))
    assert isinstance(found, Chain)
    assert found.certificates == (leaf, middle, ROOT)
    assert found.until == UNTIL


def test_two_authorities_of_one_name_are_told_apart_by_their_keys() -> None:
    twin = Authority(TOP.common, ec_key("twin"), b"")
    false = parse_certificate(twin.certify(TOP.common, ec_key("twin"), serial=1))
    assert isinstance(find_chain(LEAF, [false, ROOT], frozenset({TOP.pin})), Chain)
    assert isinstance(find_chain(LEAF, [false], frozenset({TOP.pin})), Fail)


def test_authorities_that_certify_each_other_end() -> None:
    one, two = ec_key("one"), ec_key("two")
    rounds = [
        parse_certificate(certificate("One", one, "Two", two, serial=1)),
        parse_certificate(certificate("Two", two, "One", one, serial=1)),
    ]
    assert isinstance(find_chain(rounds[0], rounds, frozenset({TOP.pin})), Fail)


def test_a_roots_own_signature_is_looked_at() -> None:
    turned = bytearray(TOP.certificate)
    turned[-1] ^= 1
    broken = parse_certificate(bytes(turned))
    assert isinstance(find_chain(LEAF, [broken], frozenset({TOP.pin})), Fail)


def test_a_root_alone_is_no_device() -> None:
    assert isinstance(find_chain(ROOT, [], frozenset({TOP.pin})), Fail)


def test_an_extension_twice_is_refused() -> None:
    double = extension("1.2.3", b"\5\0") * 2
    with pytest.raises(EvidenceError, match="twice"):
        parse_certificate(TOP.certify("Device", ec_key("device"), double))


def test_inner_and_outer_algorithm_must_be_one() -> None:
    rsa = rsa_key("authority")
    der = certificate("A", rsa, "A", rsa, serial=1)
    weaker = (
        der[:-256].replace(b"\x01\x01\x0b\x05\x00\x03", b"\x01\x01\x05\x05\x00\x03") + der[-256:]
    )
    assert weaker != der
    with pytest.raises(EvidenceError, match="another signature algorithm"):
        parse_certificate(weaker)


def test_the_end_of_the_first_list_counts() -> None:
    chain = find_chain(LEAF, [ROOT], frozenset({TOP.pin}))
    assert isinstance(chain, Chain)
    early, late = datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
    crls = (TOP.revoke(end=late), TOP.revoke(end=early), root("Stranger").revoke())
    asked = Setting(now=early, nonce=None, roots=frozenset({TOP.pin}), crls=crls)
    assert lists_end(chain, asked) == early


def test_a_list_says_whom_it_revokes() -> None:
    found = parse_revocation_list(TOP.revoke(5, 2**70))
    assert found.revoked == {5, 2**70}


@pytest.mark.parametrize(
    "text",
    [
        b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nAA=A\n-----END CERTIFICATE-----\n",
    ],
)
def test_base64_that_is_none_is_refused(text: bytes) -> None:
    with pytest.raises(EvidenceError, match="base64"):
        pem_blocks(text, b"CERTIFICATE", "test")


def test_a_file_without_certificates_is_refused() -> None:
    with pytest.raises(EvidenceError, match="0 certificates"):
        parse_certificates(b"nothing here")
