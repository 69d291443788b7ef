"""What cases of SEV-SNP begin from: processors, a policy that they pass, names of checks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from evidence_machines import MEASURED, NONCE, TCB, Chip
from evidence_vectors import Blobs, Case

LEAST = dict(zip(("bootloader", "tee", "snp", "microcode"), TCB, strict=True))
MILAN, GENOA, TURIN = (Chip(product=name) for name in ("Milan", "Genoa", "Turin"))
CLOUD = Chip(signer="vlek")
OTHER = Chip(label="two")
LATER = datetime(2035, 1, 1, tzinfo=UTC).isoformat()

CHAIN, DATE, REVOKED = (
    "VCEK chains to a trusted root",
    "VCEK chain is in date",
    "VCEK chain is not revoked",
)
SIGNED, KIND = "report is signed by that key", "report names the kind of key that signed"
PRODUCT, CHIP = "product is one", "chip is the certificate's"
DERIVED, NEW = "key was derived for the reported firmware", "firmware is new enough"
ORDER = "reported firmware is committed, committed firmware is current"
POLICY, FRESH = "guest policy", "nonce is bound"


def policy(chip: Chip = MILAN, **more: Any) -> dict[str, Any]:
    """A policy that the chip's plain report passes."""
    least = LEAST | ({"fmc": 1} if chip.product == "Turin" else {})
    return {"measurements": [MEASURED.hex()], "least_tcb": {chip.product: least}} | more


class Maker:
    """Gathers cases; each begins as one that passes, and says what differs."""

    def __init__(self) -> None:
        self.blobs = Blobs()
        self.cases: list[Case] = []

    def snp(
        self,
        note: str,
        outcome: str,
        checks: list[str] | None = None,
        *,
        chip: Chip = MILAN,
        report: bytes | None = None,
        leaf: bytes | None = None,
        pool: tuple[bytes, ...] | None = None,
        crls: tuple[bytes, ...] = (),
        **more: Any,
    ) -> None:
        intermediate, ark = chip.line
        found = chip.certificate() if leaf is None else leaf
        certificates = (
            found,
            *((intermediate.certificate, ark.certificate) if pool is None else pool),
        )
        name = f"{chip.product} {chip.signer}"
        self.cases.append(
            Case(
                note=note,
                kind="snp",
                evidence=self.blobs.evidence(
                    f"report {name}", chip.report() if report is None else report
                ),
                outcome=outcome,  # type: ignore[arg-type]
                checks=checks or [],
                certificates=[
                    self.blobs.add(f"certificate {name}", one) for one in certificates if one
                ],
                crls=[self.blobs.add("revocation list", one) for one in crls],
                policy=more.pop("policy", policy(chip)),
                roots=[more.pop("pin", ark.pin).hex()],
                nonce=more.pop("nonce", NONCE.hex()),
                **more,
            )
        )
