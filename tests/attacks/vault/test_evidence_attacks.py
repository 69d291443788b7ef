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
    for name in ("snp", "azure", "tpm")
}
ROWS = {
    "other host": ("signed", "key", "one of ours", "chip", "binds"),
    "other PCRs": ("measurement", "registers"),
    "old nonce": ("nonce",),
    "expired collateral": ("in date", "not revoked"),
    "revoked key": ("not revoked",),
}
"""Each row, and words of which one is in the name of every check that refuses it."""


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
@pytest.mark.parametrize("file", FILES)
def test_the_row_is_refused_by_the_check_that_is_for_it(file: str, row: str) -> None:
    found = cases(file, row)
    assert found, "the row has no evidence"
    for case in found:
        appraisal = appraised(FILES[file], case)
        assert isinstance(appraisal.outcome, Fail), case.note
        open_checks = [check for check in appraisal.checks if not isinstance(check.outcome, Pass)]
        for check in open_checks:
            assert any(word in check.name for word in ROWS[row]), f"{case.note}: {check.name}"


@pytest.mark.parametrize("file", FILES)
def test_evidence_kept_until_its_collateral_ends_is_refused_then(file: str) -> None:
    case = FILES[file].cases[0]
    assert case.outcome == "pass"
    found = appraised(FILES[file], case)
    assert found.until is not None
    late = msgspec.structs.replace(
        case, now=found.until.replace(year=found.until.year + 1).isoformat()
    )
    assert isinstance(appraised(FILES[file], late).outcome, Fail)


@pytest.mark.parametrize("file", FILES)
def test_one_hosts_evidence_does_not_answer_anothers_nonce(file: str) -> None:
    case = FILES[file].cases[0]
    other = msgspec.structs.replace(case, nonce="5a" * 32)
    appraisal = appraised(FILES[file], other)
    assert [check.name for check in appraisal.checks if not isinstance(check.outcome, Pass)] == [
        "nonce is bound"
    ]
