"""The broker's appraiser takes hosts whose evidence needs what makers publish."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime
from typing import Any

import make_evidence_vectors as tool
import msgspec
import pytest
from evidence_cases_host import ALL, host
from evidence_intel import Collateral, quote
from evidence_vectors import Case, EvidenceFile, evidence_of, files_of

from tidegate.attest.appraisal import Appraisal
from tidegate.vault.grant_policy import Host
from tidegate.vault.release_appraise import FileAppraiser


def first(name: str) -> tuple[EvidenceFile, Case]:
    path = tool.VECTORS / f"evidence-{name}.json"
    file = msgspec.json.decode(path.read_bytes(), type=EvidenceFile)
    return file, file.cases[0]


def appraised(file: EvidenceFile, case: Case, evidence: bytes, **more: Any) -> Appraisal:
    """The evidence under a reference file that says what the case says."""
    reference = {
        "kind": case.kind,
        "section": case.policy,
        "roots": case.roots,
        "others": [data.decode() for data in files_of(file, case.others)],
        "revocation": case.revocation,
    } | more
    raw = json.dumps(reference).encode()
    known = Host(
        name="one", kind=case.kind, device="any", reference=hashlib.sha256(raw).hexdigest()
    )
    bound = bytes.fromhex(case.nonce or "")
    now = datetime.fromisoformat(case.now)
    return FileAppraiser([raw]).appraise(known, evidence, bound, now).appraisal


@pytest.mark.parametrize("name", ["dcap", "host"])
def test_evidence_passes_with_what_its_makers_publish(name: str) -> None:
    file, case = first(name)
    found = appraised(file, case, evidence_of(file, case))
    assert found.passed, found.outcome.text
    assert found.bound == bytes.fromhex(case.nonce or "")
    assert not appraised(file, case, evidence_of(file, case), others=[]).passed


def test_a_host_may_bring_along_what_its_makers_signed() -> None:
    file, case = first("host")
    others = [base64.b64encode(data).decode() for data in files_of(file, case.others)]
    held = json.loads(evidence_of(file, case))
    whole = json.dumps(held | {"others": others}).encode()
    found = appraised(file, case, whole, others=[])
    assert found.passed, found.outcome.text


def test_collateral_that_a_host_forged_is_refused() -> None:
    file, case = first("host")
    forged = Collateral(info_signer="forger").written()
    rims = [data for data in files_of(file, case.others) if data[:1] == b"<"]
    others = [base64.b64encode(data).decode() for data in (forged, *rims)]
    held = json.loads(evidence_of(file, case))
    found = appraised(file, case, json.dumps(held | {"others": others}).encode(), others=[])
    assert not found.passed


def test_another_hosts_binding_does_not_release() -> None:
    file, case = first("host")
    other = host(quote(), [one.saved() for one in ALL])
    assert not appraised(file, case, other).passed
