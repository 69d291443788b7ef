"""Policies are a closed grammar: a word that is passed over would be a check that is never made."""

from __future__ import annotations

import pytest

from tidegate.attest.sections import azure_policy, snp_policy, tpm_policy
from tidegate.attest.snp_report import Tcb
from tidegate.errors import ConfigError


def test_what_is_written_is_what_is_held_against() -> None:
    found = snp_policy(
        {
            "measurements": ["AB" * 48],
            "least_tcb": {"Milan": {"bootloader": 3, "tee": 0, "snp": 8, "microcode": 115}},
            "allowed": ["smt", "debug"],
            "vmpls": [0, 1],
            "chips": ["01" * 64],
        }
    )
    assert found.measurements == {b"\xab" * 48}
    assert found.least_tcb == (("Milan", Tcb(bootloader=3, tee=0, snp=8, microcode=115)),)
    assert found.allowed == {"smt", "debug"}
    assert found.vmpls == {0, 1}
    assert found.chips == {b"\1" * 64}
    assert found.signers == {"vcek"}


def test_nothing_written_allows_nothing_but_threads() -> None:
    found = snp_policy({})
    assert found.allowed == {"smt"}
    assert found.measurements == frozenset()
    assert azure_policy({}).secure_boot
    assert tpm_policy({}).quote.registers == ()


@pytest.mark.parametrize(
    "section",
    [
        {"measurement": ["ab" * 48]},
        {"measurements": ["ab" * 47]},
        {"measurements": ["xy" * 48]},
        {"measurements": "ab" * 48},
        {"allowed": ["debugging"]},
        {"demanded": ["everything"]},
        {"platform": ["quiet"]},
        {"least_tcb": {"Rome": {"bootloader": 3, "tee": 0, "snp": 8, "microcode": 115}}},
        {"least_tcb": {"Milan": {"bootloader": 3, "tee": 0, "snp": 8}}},
        {"least_tcb": {"Milan": {"bootloader": 256, "tee": 0, "snp": 8, "microcode": 1}}},
        {"vmpls": [4]},
        {"signers": ["none"]},
    ],
)
def test_what_does_not_belong_is_an_error(section: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        snp_policy(section)


@pytest.mark.parametrize(
    "section",
    [
        {"registers": {"sha1": {"0": ["00" * 20]}}},
        {"registers": {"sha256": {"24": ["00" * 32]}}},
        {"registers": {"sha256": {"first": ["00" * 32]}}},
        {"registers": {"sha256": {"0": []}}},
        {"enrolment": {"ek": "00"}},
        {"known": {"00": "not hex"}},
        {"boot": [1]},
    ],
)
def test_registers_and_keys_that_cannot_be_are_errors(section: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"tpm|register|Values"):
        tpm_policy(section)
