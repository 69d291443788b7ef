"""Cases of Azure's confidential VMs, by made-up ones."""

from __future__ import annotations

from typing import Any

from evidence_authorities import drawn
from evidence_machines import NONCE, Tpm, Vm, registers
from evidence_snp_maker import CHIP, DATE, FRESH, LATER, OTHER, REVOKED, SIGNED, policy
from evidence_vectors import Blobs, Case, EvidenceFile


def azure_file() -> EvidenceFile:
    """Every case of a VM of Azure's that is not one of a report alone."""
    blobs, cases = Blobs(), []
    vm, other = Vm(), Vm(label="other")
    nonce = NONCE[:48]
    ask, ark = vm.chip.line
    quoted = {"0": [registers()[0].hex()], "7": [registers()[7].hex()]}
    plain = {"report": policy(), "registers": {"sha256": quoted}}
    binds, secure = "report binds the runtime claims", "secure boot"
    machine, quote = "machine is one of ours", "quote is signed by the attestation key"
    hashed, values = "registers are those that were quoted", "registers have reference values"

    def case(note: str, outcome: str, checks: list[str] | None = None, **more: Any) -> None:
        cases.append(
            Case(
                note=note,
                kind="azure-snp-vtpm",
                evidence=blobs.evidence("azure", more.pop("file", vm.file(nonce))),
                outcome=outcome,  # type: ignore[arg-type]
                checks=checks or [],
                certificates=[blobs.add("certificate", one.certificate) for one in (ask, ark)],
                policy=more.pop("policy", plain),
                roots=[ark.pin.hex()],
                nonce=more.pop("nonce", nonce.hex()),
                **more,
            )
        )

    case("a VM, all as it should be", "pass")
    case("a VM that is named", "pass", policy=plain | {"machines": ["VM-vm"]})
    case(
        "other host: another VM's claims behind this report",
        "fail",
        [binds, quote],
        file=vm.file(nonce, hcl=vm.hcl(claimed=other.runtime())),
    )
    case(
        "other host: another VM's quote beside this report",
        "fail",
        [quote],
        file=vm.file(nonce, tpm=other.tpm),
    )
    case(
        "other host: another VM, all its own",
        "fail",
        [machine],
        file=other.file(nonce),
        policy=plain | {"machines": ["VM-vm"]},
    )
    unsafe = Vm(secure_boot=False)
    case("secure boot is off", "fail", [secure], file=unsafe.file(nonce))
    case(
        "secure boot is off, and not asked for",
        "pass",
        file=unsafe.file(nonce),
        policy=plain | {"secure_boot": False},
    )
    case("old nonce", "fail", [FRESH], nonce=drawn("new nonce", 48).hex())
    case("nobody asked for a nonce", "cannot_verify", [FRESH], nonce=None)
    evil = registers([(7, b"secure boot off")])
    case("other PCRs, quoted", "fail", [values], file=vm.file(nonce, tpm=Tpm("vm", True, evil)))
    case(
        "other PCRs, handed in beside a good quote",
        "fail",
        [hashed, values],
        file=vm.file(nonce, values=evil),
    )
    case(
        "other PCRs: the measurement is another's",
        "fail",
        ["measurement"],
        policy=plain | {"report": policy(measurements=[drawn("other", 48).hex()])},
    )
    case("no reference value of a register", "cannot_verify", [values], policy={"report": policy()})
    case(
        "the virtual TPM's firmware is old",
        "fail",
        ["TPM's firmware is new enough"],
        policy=plain | {"least_firmware": 1 << 60},
    )
    case(
        "another chip's certificate",
        "fail",
        [SIGNED, CHIP],
        file=vm.file(nonce, vcek=OTHER.certificate()),
    )
    case("expired collateral: the chain is past its end", "fail", [DATE], now=LATER)
    case(
        "nobody is revoked",
        "pass",
        revocation=True,
        crls=[blobs.add("revocation list", ark.revoke())],
    )
    case(
        "revoked key: the intermediate's",
        "fail",
        [REVOKED],
        revocation=True,
        crls=[blobs.add("revocation list", ark.revoke(ask.serial))],
    )
    case("two attestation keys in the claims", "malformed", file=vm.file(nonce, hcl=vm.hcl(keys=2)))
    case(
        "something behind the claims",
        "malformed",
        file=vm.file(nonce, hcl=vm.hcl(padding_bytes=b"\1" * 254)),
    )
    case("a version that is not known", "malformed", file=vm.file(nonce, version=3))
    case("claims that are no JSON", "malformed", file=vm.file(nonce, hcl=vm.hcl(claimed=b"x" * 40)))
    return EvidenceFile("spec/evidence.md", blobs.encoded(), cases)
