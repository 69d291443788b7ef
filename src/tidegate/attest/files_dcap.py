"""DCAP quotes as files: which are, and how they are appraised with the files beside them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tidegate.attest.appraisal import Appraisal, Setting
from tidegate.attest.dcap import appraise
from tidegate.attest.dcap_checks import DcapPolicy
from tidegate.attest.dcap_collateral import parse_collateral
from tidegate.attest.dcap_quote import INTEL_QE, KIND, TEES, Tee, parse
from tidegate.attest.errors import EvidenceError


def tee_of(data: bytes) -> Tee | None:
    """The environment that a file's first bytes say it is a quote of, or None."""
    if len(data) < 48 or data[0] not in (3, 4, 5) or data[1] or data[12:28] != INTEL_QE:
        return None
    return TEES.get(int.from_bytes(data[4:8], "little"))


def is_collateral(data: bytes) -> bool:
    return data.lstrip()[:1] == b"{" and b'"qe_identity_signature"' in data


def appraise_quote(
    data: bytes, others: Sequence[bytes], policy: DcapPolicy, setting: Setting
) -> Appraisal:
    """A quote with the collateral among the files beside it. Raises `EvidenceError`."""
    found = [parse_collateral(other) for other in others if is_collateral(other)]
    if len(found) > 1:
        raise EvidenceError(KIND, "collateral", f"{len(found)} files of it, for one quote")
    return appraise(parse(data), policy, setting, found[0] if found else None)
