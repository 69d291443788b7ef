"""Attacks on a host that proves itself by a live TPM (swtpm: the protocol, and no hardware)."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from tidegate.attest.certificates import parse_certificates
from tidegate.attest.outcome import Fail, Outcome, Pass
from tidegate.errors import ConfigError
from tidegate.vault.errors import VaultError
from tidegate.vault.grant_policy import Host
from tidegate.vault.release_appraise import FileAppraiser
from tidegate.vault.tpm_enrol import Challenge, challenged, enrolled
from tidegate.vault.tpm_live import Tpm
from tidegate.vault.tpm_live_software import SWTPM, SoftwareTpm, software_tpm

pytestmark = pytest.mark.skipif(
    not SWTPM.exists(), reason="SWTPM IS NOT INSTALLED (Debian: swtpm): NO LIVE TPM IS TESTED HERE"
)
NONCE = bytes(range(32))


@pytest.fixture(scope="module")
def soft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftwareTpm]:
    with software_tpm(tmp_path_factory.mktemp("tpm")) as running:
        yield running


class Enrolment:
    """What an owner and a host do once; the parts can be tampered with in between."""

    def __init__(self, soft: SoftwareTpm) -> None:
        self.soft = soft
        self.made = challenged(soft.tpm.ek_public, soft.tpm.ak_name)
        self.secret = soft.tpm.activate(self.made.credential)
        self.chain = [one.der for pem in soft.certificates for one in parse_certificates(pem)]
        self.evidence = soft.tpm.enrolment(self.secret, self.chain, NONCE)

    def admit(
        self,
        evidence: bytes | None = None,
        made: Challenge | None = None,
        nonce: bytes = NONCE,
        roots: tuple[bytes, ...] | None = None,
        year: int = 2027,
    ) -> tuple[Host, bytes]:
        host, file, _ = enrolled(
            "gpu1",
            evidence or self.evidence,
            made or self.made,
            nonce,
            self.soft.certificates[-1:] if roots is None else roots,
            datetime(year, 1, 1, tzinfo=UTC),
            registers=self.soft.tpm.registers(),
            revocation=False,
        )
        return host, file


@pytest.fixture(scope="module")
def first(soft: SoftwareTpm) -> Enrolment:
    return Enrolment(soft)


def outcome(host: Host, file: bytes, evidence: bytes, bound: bytes = NONCE) -> Outcome:
    now = datetime(2027, 1, 1, tzinfo=UTC)
    return FileAppraiser([file]).appraise(host, evidence, bound, now).appraisal.outcome


def test_an_honest_host_is_admitted_and_then_passes_with_quotes_alone(first: Enrolment) -> None:
    host, file = first.admit()
    assert isinstance(outcome(host, file, first.soft.tpm.evidence(NONCE)), Pass)


def test_a_host_is_not_admitted_with_the_answer_to_another_credential(first: Enrolment) -> None:
    another = challenged(first.soft.tpm.ek_public, first.soft.tpm.ak_name)
    with pytest.raises(VaultError, match="another secret"):
        first.admit(made=another)


def test_a_tpm_opens_no_credential_for_another_key(first: Enrolment) -> None:
    name = first.soft.tpm.ak_name
    other = challenged(first.soft.tpm.ek_public, name[:-1] + bytes([name[-1] ^ 1]))
    with pytest.raises(VaultError, match="refuses activatecredential"):
        first.soft.tpm.activate(other.credential)


def test_a_host_is_not_admitted_with_a_quote_of_another_day(first: Enrolment) -> None:
    with pytest.raises(VaultError, match="nonce"):
        first.admit(nonce=bytes(32))


def test_a_host_is_not_admitted_under_a_maker_that_nobody_trusts(first: Enrolment) -> None:
    with pytest.raises(VaultError):
        first.admit(roots=())


def test_a_host_is_not_admitted_when_its_makers_certificates_are_out_of_date(
    first: Enrolment,
) -> None:
    # The software's maker dates its certificates from today to the year 9999.
    with pytest.raises(VaultError, match="valid only from"):
        first.admit(year=2020)


def test_registers_that_are_claimed_but_were_not_quoted_are_refused(first: Enrolment) -> None:
    host, file = first.admit()
    wanted = first.soft.tpm.registers()
    first.soft.tpm.extend(5, hashlib.sha256(b"another boot loader").digest())
    evidence = first.soft.tpm.evidence(NONCE)
    assert isinstance(outcome(host, file, evidence), Fail)
    body = msgspec.json.decode(evidence)
    body["registers"]["sha256"] = {str(number): value.hex() for number, value in wanted.items()}
    found = outcome(host, file, msgspec.json.encode(body))
    assert isinstance(found, Fail)
    assert "registers" in found.text or "quoted" in found.text


def test_a_quote_for_one_binding_is_none_for_another(first: Enrolment) -> None:
    host, file = first.admit(first.soft.tpm.enrolment(first.secret, first.chain, NONCE))
    evidence = first.soft.tpm.evidence(NONCE)
    assert isinstance(outcome(host, file, evidence), Pass)
    found = outcome(host, file, evidence, secrets.token_bytes(32))
    assert isinstance(found, Fail)


def test_another_key_of_the_same_tpm_speaks_for_nobody(first: Enrolment, tmp_path: Path) -> None:
    host, file = first.admit(first.soft.tpm.enrolment(first.secret, first.chain, NONCE))
    thief = Tpm(tmp_path / "thief", first.soft.tpm._where)
    thief.make_keys()
    assert not isinstance(outcome(host, file, thief.evidence(NONCE)), Pass)


def test_reference_values_that_were_changed_are_no_reference_values(first: Enrolment) -> None:
    host, file = first.admit(first.soft.tpm.enrolment(first.secret, first.chain, NONCE))
    evidence = first.soft.tpm.evidence(NONCE)
    with pytest.raises(ConfigError, match="no reference values"):
        outcome(host, file + b" ", evidence)


def test_a_tpm_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(VaultError):
        Tpm(tmp_path / "none", "swtpm:host=127.0.0.1,port=1").make_keys()
