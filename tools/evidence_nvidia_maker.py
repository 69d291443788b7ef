"""What cases of NVIDIA devices begin from: devices, reference values, names of checks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from evidence_nvidia import DEVICES, NONCE, RIMS, Device, driver_rim, firmware_rim
from evidence_vectors import Blobs, Case

LATER = datetime(2035, 1, 1, tzinfo=UTC).isoformat()
PAST = datetime(2025, 1, 1, tzinfo=UTC)
HOPPER, BLACKWELL = Device("one"), Device("three", "GB100", "575.01", "97.00.01.00.04")
SWITCH = Device("switch one", "LS_10", firmware="96.10.01.00.03")
CHIP, ALONE = "chip is known", "nothing follows the report"
CHAIN, DATED = "device key chains to a trusted root", "device key chain is in date"
ORDER = "certificates are that chain alone"
REVOKED, SIGNED = "device key chain is not revoked", "device key signed the report"
RUNS, MEASURES = "firmware is the certificate's", "measurements are reference values"
FRESH = "binds the nonce"


def taken(what: str) -> str:
    return f"{what} version is taken"


def theirs(what: str) -> str:
    return f"{what} reference values are NVIDIA's"


def rooted(what: str) -> str:
    return f"{what} reference values' key chains to a trusted root"


class Maker:
    """Gathers cases; each begins as one that passes, and says what differs."""

    def __init__(self) -> None:
        self.blobs = Blobs()
        self.cases: list[Case] = []

    def device(
        self,
        note: str,
        outcome: str,
        checks: list[str] | None = None,
        *,
        device: Device = HOPPER,
        report: bytes | None = None,
        chain: bytes | None = None,
        rims: list[bytes] | None = None,
        policy: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """A report with its certificates and reference values beside it."""
        found = [firmware_rim(device)] if rims is None else rims
        if rims is None and not device.switch:
            found.insert(0, driver_rim(device))
        self.file(
            note,
            outcome,
            checks,
            name=f"report {device.label}",
            data=device.report() if report is None else report,
            certificates=[device.chain() if chain is None else chain],
            others=found,
            policy={"rim_roots": [RIMS.pin.hex()]} | (policy or {}),
            **more,
        )

    def file(
        self,
        note: str,
        outcome: str,
        checks: list[str] | None = None,
        *,
        name: str,
        data: bytes,
        kind: str = "nvidia",
        certificates: list[bytes] | None = None,
        others: list[bytes] | None = None,
        crls: list[bytes] | None = None,
        pin: bytes = DEVICES.pin,
        nonce: str | None = NONCE.hex(),
        **more: Any,
    ) -> None:
        self.cases.append(
            Case(
                note=note,
                kind=kind,
                evidence=self.blobs.evidence(name, data),
                outcome=outcome,  # type: ignore[arg-type]
                checks=checks or [],
                certificates=[self.blobs.add("certificates", one) for one in certificates or []],
                others=[self.blobs.add("reference values", one) for one in others or []],
                crls=[self.blobs.add("revocation list", one) for one in crls or []],
                roots=[pin.hex()],
                nonce=nonce,
                **more,
            )
        )
