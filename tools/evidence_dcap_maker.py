"""What cases of DCAP quotes begin from: quotes and collateral that pass, names of checks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from evidence_intel import ENCLAVE, MEASURED, NONCE, ROOT, Collateral, quote
from evidence_vectors import Blobs, Case

LATER = datetime(2035, 1, 1, tzinfo=UTC)
PAST = datetime(2025, 1, 1, tzinfo=UTC)
VENDOR, ALONE = "quoting enclave is Intel's", "nothing follows the quote"
CHAIN = "PCK certificate chains to a trusted root"
DATED, REVOKED = "PCK certificate chain is in date", "PCK certificate chain is not revoked"
PLATFORM = "PCK certificate is a platform's"
QE_SIGNED = "PCK key signed the quoting enclave's report"
NAMED = "quoting enclave's report names the attestation key"
SIGNED, AT_HAND = "attestation key signed the quote", "collateral is at hand"
ENVIRONMENT = "collateral is of this environment"
RECENT = "collateral is not older than the policy's"
QE, MODULE = "quoting enclave is as Intel describes it", "TDX module is as Intel describes it"
LEVEL, CLOSED = "TCB level is taken", "closed to debuggers and to its host"
MEASURES, FRESH = "measurements are reference values", "binds the nonce"


class Maker:
    """Gathers cases; each begins as one that passes, and says what differs."""

    def __init__(self) -> None:
        self.blobs = Blobs()
        self.cases: list[Case] = []

    def add(
        self,
        note: str,
        outcome: str,
        checks: list[str] | None = None,
        *,
        tee: str = "tdx",
        version: int = 4,
        evidence: bytes | None = None,
        collateral: bytes | Collateral | None = None,
        without: bool = False,
        policy: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        data = quote(version, tee) if evidence is None else evidence
        others = []
        if not without:
            found = Collateral(tee=tee) if collateral is None else collateral
            text = found if isinstance(found, bytes) else found.written()
            others = [self.blobs.add(f"collateral {tee}", text)]
        reference = {"mrtd": [MEASURED.hex()]} if tee == "tdx" else {"mrenclave": [ENCLAVE.hex()]}
        self.cases.append(
            Case(
                note=note,
                kind=tee,
                evidence=self.blobs.evidence(f"quote {tee} v{data[:1].hex()} {len(data)}", data),
                outcome=outcome,  # type: ignore[arg-type]
                checks=checks or [],
                others=others,
                policy=reference | (policy or {}),
                roots=[more.pop("pin", ROOT.pin).hex()],
                nonce=more.pop("nonce", NONCE.hex()),
                revocation=more.pop("revocation", True),
                **more,
            )
        )
