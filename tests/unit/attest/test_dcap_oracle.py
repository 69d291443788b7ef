"""Another verifier of DCAP quotes, dcap-qvl, says the same of made-up and of genuine ones."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import dcap_qvl
import make_evidence_vectors as tool
import msgspec
import pytest
from evidence_intel import ROOT
from evidence_vectors import Case, EvidenceFile, evidence_of, files_of

from tidegate.attest import roots
from tidegate.attest.appraisal import Appraisal, Setting
from tidegate.attest.dcap import appraise
from tidegate.attest.dcap_checks import DcapPolicy
from tidegate.attest.dcap_collateral import parse_collateral
from tidegate.attest.dcap_quote import parse
from tidegate.attest.kinds import Companions, kind_named
from tidegate.attest.outcome import Pass

FILE = msgspec.json.decode((tool.VECTORS / "evidence-dcap.json").read_bytes(), type=EvidenceFile)
COMPARED = [case for case in FILE.cases if case.others and case.outcome != "malformed"]

NOT_ITS_BUSINESS = {
    "measurements are reference values",
    "binds the nonce",
    "nothing follows the quote",
    "collateral is not older than the policy's",
    "TCB level is taken",
}
"""Checks that the other verifier leaves to its caller."""
STRICTER_HERE = {
    "collateral signed by a key that the root certified for another end",
    "collateral signed below the PCK authority",
}
"""The other verifier takes collateral from any key below the root."""
STRICTER_THERE = {
    "SGX in version 4",
    "a service domain that the policy names",
    "a PCK certificate alone, of type 5, the authorities with the collateral",
    "a domain whose host may inject #VE, which the policy takes",
}
"""What it refuses whatever the policy, or looks for in the quote alone."""


def other(quote: bytes, collateral: bytes, root: bytes | None, now: datetime) -> str | None:
    """The status that dcap-qvl finds, or None where it refuses."""
    along = dcap_qvl.QuoteCollateralV3.from_json(collateral.decode())
    at = int(now.timestamp())
    try:
        if root is None:
            return str(dcap_qvl.verify(quote, along, at).status)
        return str(dcap_qvl.verify_with_root_ca(quote, along, root, at).status)
    except ValueError:
        return None


def appraised(case: Case) -> Appraisal:
    kind = kind_named(case.kind)
    assert kind is not None
    setting = Setting(
        now=datetime.fromisoformat(case.now),
        nonce=None if case.nonce is None else bytes.fromhex(case.nonce),
        roots=frozenset(map(bytes.fromhex, case.roots)),
        revocation=case.revocation,
    )
    along = Companions(others=files_of(FILE, case.others))
    return kind.appraise(evidence_of(FILE, case), along, case.policy, setting)


@pytest.mark.parametrize("case", COMPARED, ids=lambda case: case.note)
def test_another_verifier_agrees_on_a_made_up_quote(case: Case) -> None:
    (collateral,) = files_of(FILE, case.others)
    now = datetime.fromisoformat(case.now)
    status = other(evidence_of(FILE, case), collateral, ROOT.certificate, now)
    here = appraised(case)
    if case.outcome == "pass":
        assert status == (None if case.note in STRICTER_THERE else here.claim("tcb_status"))
    elif status is not None:
        assert set(case.checks) <= NOT_ITS_BUSINESS or case.note in STRICTER_HERE
        assert here.claim("tcb_status") in (status, None)


@pytest.mark.parametrize(
    ("name", "along", "day"),
    [
        ("tdx_quote", "tdx_quote", datetime(2025, 6, 20, tzinfo=UTC)),
        ("tdx_quote", "tdx_quote", datetime(2026, 11, 21, tzinfo=UTC)),
        ("sgx_quote", "sgx_quote", datetime(2025, 6, 20, tzinfo=UTC)),
        ("tdx_quote_outdated", "tdx_quote_outdated", datetime(2026, 3, 1, tzinfo=UTC)),
        ("tdx_quote", "sgx_quote", datetime(2025, 6, 20, tzinfo=UTC)),
    ],
)
def test_another_verifier_agrees_on_a_genuine_quote(
    evidence_folder: Path, name: str, along: str, day: datetime
) -> None:
    folder = evidence_folder / "tdx-dcap-qvl"
    quote = (folder / name).read_bytes()
    collateral = (folder / f"{along}_collateral.json").read_bytes()
    body = parse(quote).body
    every = DcapPolicy(
        statuses=frozenset({"UpToDate", "ConfigurationAndSWHardeningNeeded", "OutOfDate"})
    )
    setting = Setting(now=day, nonce=body.report_data, roots=roots.INTEL)
    found = appraise(parse(quote), every, setting, parse_collateral(collateral))
    refused = [
        check.name
        for check in found.checks
        if not isinstance(check.outcome, Pass) and check.name != "measurements are reference values"
    ]
    status = other(quote, collateral, None, day)
    assert (status is None) == bool(refused)
    assert status is None or found.claim("tcb_status") == status
