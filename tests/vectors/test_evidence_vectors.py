"""The published vectors of evidence hold: every check is passed by one and failed by another."""

from __future__ import annotations

from datetime import datetime

import make_evidence_vectors as tool
import msgspec
import pytest
from evidence_vectors import Case, EvidenceFile, evidence_of, files_of

from tidegate.attest.appraisal import Appraisal, Setting
from tidegate.attest.errors import EvidenceError
from tidegate.attest.kinds import Companions, kind_named
from tidegate.attest.outcome import Pass, word

FILES = {
    path.name: msgspec.json.decode(path.read_bytes(), type=EvidenceFile)
    for path in sorted(tool.VECTORS.glob("evidence-*.json"))
}
CASES = [
    pytest.param(file, case, id=f"{name.removesuffix('.json')}: {case.note}")
    for name, file in FILES.items()
    for case in file.cases
]


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


@pytest.mark.parametrize("name", sorted(tool.build()))
def test_the_code_produces_the_published_files(name: str) -> None:
    assert (tool.VECTORS / name).read_bytes() == tool.build()[name]


@pytest.mark.parametrize(("file", "case"), CASES)
def test_evidence_gives_the_published_result(file: EvidenceFile, case: Case) -> None:
    if case.outcome == "malformed":
        with pytest.raises(EvidenceError):
            appraised(file, case)
        return
    found = appraised(file, case)
    open_checks = [check.name for check in found.checks if not isinstance(check.outcome, Pass)]
    assert open_checks == case.checks, found.outcome.text
    assert word(found.outcome) == case.outcome
    assert found.passed == (case.outcome == "pass")
    assert [check.number for check in found.checks] == list(range(1, len(found.checks) + 1))


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_check_that_is_made_is_also_refused_somewhere(name: str) -> None:
    file = FILES[name]
    parsed = [(case, appraised(file, case)) for case in file.cases if case.outcome != "malformed"]
    made = {check.name for _, found in parsed for check in found.checks}
    passed = {
        check.name
        for _, found in parsed
        for check in found.checks
        if isinstance(check.outcome, Pass)
    }
    refused = {check for case, _ in parsed for check in case.checks}
    assert made - passed == NEVER_PASS.get(name, set())
    missed = made - refused
    assert missed - BY_REPORT_ALONE.get(name, set()) == set()


NEVER_PASS = {"evidence-nvidia.json": {"the service signed the token"}}
"""Checks that nobody can make offline."""

BY_REPORT_ALONE = {
    "evidence-azure.json": {
        name
        for case in FILES["evidence-snp.json"].cases
        for name in case.checks
        if case.outcome != "malformed"
    },
    "evidence-snp.json": {
        name.replace("VCEK", "VLEK")
        for name in ("VCEK chains to a trusted root", "VCEK chain is in date")
    },
    "evidence-tpm.json": {"attestation key was activated before"},
}
"""Checks that another file's cases refuse: those of a VM's report are the report's own. A key that
was activated before is known, or the check is not made."""
