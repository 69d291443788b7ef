"""What AMD's certificates say of the keys that sign reports (AMD 57230, section 3). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tidegate.attest.certificates import Certificate
from tidegate.attest.chain import Chain
from tidegate.attest.der import INTEGER, Der
from tidegate.attest.errors import EvidenceError
from tidegate.attest.snp_report import KIND, Product, Signer, Tcb

_ARC: Final = "1.3.6.1.4.1.3704.1"
PRODUCT_NAME: Final = f"{_ARC}.2"
HARDWARE_ID: Final = f"{_ARC}.4"
CSP_ID: Final = f"{_ARC}.5"
VERSIONS: Final = {
    "bootloader": f"{_ARC}.3.1",
    "tee": f"{_ARC}.3.2",
    "snp": f"{_ARC}.3.3",
    "microcode": f"{_ARC}.3.8",
}
FMC: Final = f"{_ARC}.3.9"
PRODUCTS: Final[tuple[Product, ...]] = ("Milan", "Genoa", "Turin")
_IA5: Final = 0x16


@dataclass(frozen=True, slots=True)
class Endorsed:
    """What AMD's certificate says of the key: for which product, firmware, and chip or cloud."""

    signer: Signer
    product: Product
    tcb: Tcb
    hardware_id: bytes | None
    csp_id: str | None


def endorsed(leaf: Certificate) -> Endorsed:
    """What a VCEK or VLEK certificate says (AMD 57230, section 3). Raises `EvidenceError`."""
    name = _value(leaf, PRODUCT_NAME, "productName")
    reader = Der(name, KIND, "productName")
    text = reader.bytes_of(_IA5).decode("ascii", "replace")
    reader.end()
    product = next((one for one in PRODUCTS if text == one or text.startswith(one + "-")), None)
    if product is None:
        raise EvidenceError(KIND, "productName", f"{text[:40]!a} is no product that is known")
    parts = {part: _version(leaf, oid, part) for part, oid in VERSIONS.items()}
    fmc = _version(leaf, FMC, "fmc") if leaf.extension(FMC) else 0
    hardware, csp = leaf.extension(HARDWARE_ID), leaf.extension(CSP_ID)
    if (hardware is None) == (csp is None):
        raise EvidenceError(KIND, "hwID", "a key is either a chip's or a cloud's")
    csp_id = None
    if csp is not None:
        wrapped = Der(csp.value, KIND, "cspID")
        csp_id = wrapped.any().body.decode("ascii", "replace")[:80]
        wrapped.end()
    return Endorsed(
        signer="vlek" if hardware is None else "vcek",
        product=product,
        tcb=Tcb(fmc=fmc, **parts),
        hardware_id=None if hardware is None else hardware.value,
        csp_id=csp_id,
    )


def _value(leaf: Certificate, oid: str, field: str) -> bytes:
    extension = leaf.extension(oid)
    if extension is None:
        raise EvidenceError(KIND, field, "is missing from the certificate")
    return extension.value


def _version(leaf: Certificate, oid: str, field: str) -> int:
    reader = Der(_value(leaf, oid, field), KIND, field)
    number = reader.integer(INTEGER)
    reader.end()
    if not 0 <= number <= 255:
        raise EvidenceError(KIND, field, f"{number} is no version of firmware")
    return number


def issued_by_its_line(key: Endorsed, chain: Chain) -> bool:
    """Whether AMD's intermediate and root are those of the product and of that kind of key."""
    line = "SEV" if key.signer == "vcek" else "SEV-VLEK"
    names = [one.name for one in chain.certificates]
    return names == [
        f"SEV-{key.signer.upper()}",
        f"{line}-{key.product}",
        f"ARK-{key.product}",
    ]
