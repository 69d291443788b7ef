"""The attack table's rows that evidence has to refuse, on made-up machines of every kind.

The evidence itself is in `spec/vectors/evidence-*.json`, whose notes begin with the row's name.
"""

from __future__ import annotations

import re
from datetime import datetime

import make_evidence_vectors as tool
import msgspec
import pytest
from evidence_vectors import Case, EvidenceFile, evidence_of, files_of

from tidegate.attest.appraisal import Appraisal, Setting
from tidegate.attest.kinds import Companions, kind_named
from tidegate.attest.outcome import Fail, Pass

FILES = {
    name: msgspec.json.decode(
        (tool.VECTORS / f"evidence-{name}.json").read_bytes(), type=EvidenceFile
    )
    for name in ("snp", "azure", "tpm", "dcap", "nvidia", "host")
}
OURS = ("snp", "azure", "tpm")
ROWS = {
    "other host": ("signed", "key", "one of ours", "chip", "binds"),
    "other PCRs": ("measurement", "registers"),
    "old nonce": ("nonce",),
    "expired collateral": ("in date", "not revoked"),
    "revoked key": ("not revoked",),
}
"""Each row, and words of which one is in the name of every check that refuses it."""


NAMED = {
    ("dcap", "other host"): [
        "signed by another key",
        "a quoting enclave's report by another platform's key",
    ],
    ("dcap", "other PCRs"): ["another domain", "a register that is another"],
    ("dcap", "old nonce"): ["an old nonce"],
    ("dcap", "expired collateral"): [
        "a PCK certificate that has ended",
        "an expired list",
        "TCB info that has expired",
        "QE identity that has expired",
    ],
    ("dcap", "revoked key"): [
        "a PCK certificate that Intel revoked",
        "a PCK authority that Intel revoked",
        "a quoting enclave that Intel revoked",
    ],
    ("nvidia", "other host"): ["signed by another key"],
    ("nvidia", "other PCRs"): [
        "another driver than its reference values",
        "another firmware than its reference values",
    ],
    ("nvidia", "old nonce"): ["an old nonce"],
    ("nvidia", "expired collateral"): [
        "a leaf that has ended",
        "reference values whose signer's certificate has ended",
    ],
    ("nvidia", "revoked key"): ["a burnt-in key that was revoked", "a revoked document"],
    ("host", "other host"): [
        "a GPU of another host",
        "a CPU of another host, asked with the same nonce",
    ],
    ("host", "other PCRs"): ["a CPU whose domain is another"],
    ("host", "old nonce"): ["a GPU's report of another day", "everything of another day"],
}
"""The rows in files whose notes do not begin with the row's name."""


@pytest.mark.parametrize(("file", "row"), NAMED)
def test_the_row_is_refused_for_devices_too(file: str, row: str) -> None:
    found = {case.note: case for case in FILES[file].cases}
    for note in NAMED[file, row]:
        assert isinstance(appraised(FILES[file], found[note]).outcome, Fail), note


def cases(file: str, row: str) -> list[Case]:
    return [case for case in FILES[file].cases if re.match(rf"{row}(?:[:,]|$)", case.note)]


def appraised(file: EvidenceFile, case: Case) -> Appraisal:
    kind = kind_named(case.kind)
    assert kind is not None
    setting = Setting(
        now=datetime.fromisoformat(case.now),
        nonce=None if case.nonce is None else bytes.fromhex(case.nonce),
        roots=frozenset(map(bytes.fromhex, case.roots)),
        crls=files_of(file, case.crls),
        revocation=case.revocation,
    )
    along = Companions(files_of(file, case.certificates), files_of(file, case.others))
    return kind.appraise(evidence_of(file, case), along, case.policy, setting)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("file", OURS)
def test_the_row_is_refused_by_the_check_that_is_for_it(file: str, row: str) -> None:
    found = cases(file, row)
    assert found, "the row has no evidence"
    for case in found:
        appraisal = appraised(FILES[file], case)
        assert isinstance(appraisal.outcome, Fail), case.note
        open_checks = [check for check in appraisal.checks if not isinstance(check.outcome, Pass)]
        for check in open_checks:
            assert any(word in check.name for word in ROWS[row]), f"{case.note}: {check.name}"


@pytest.mark.parametrize("file", OURS)
def test_evidence_kept_until_its_collateral_ends_is_refused_then(file: str) -> None:
    case = FILES[file].cases[0]
    assert case.outcome == "pass"
    found = appraised(FILES[file], case)
    assert found.until is not None
    late = msgspec.structs.replace(
        case, now=found.until.replace(year=found.until.year + 1).isoformat()
    )
    assert isinstance(appraised(FILES[file], late).outcome, Fail)


@pytest.mark.parametrize("file", OURS)
def test_one_hosts_evidence_does_not_answer_anothers_nonce(file: str) -> None:
    case = FILES[file].cases[0]
    other = msgspec.structs.replace(case, nonce="5a" * 32)
    appraisal = appraised(FILES[file], other)
    assert [check.name for check in appraisal.checks if not isinstance(check.outcome, Pass)] == [
        "nonce is bound"
    ]
