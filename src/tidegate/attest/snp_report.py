"""AMD SEV-SNP attestation reports, taken apart. Pure.

After "SEV Secure Nested Paging Firmware ABI Specification" (AMD 56860), section 7.3; versions 2, 3
and 5 of the report, which has 1184 bytes in all of them. Numbers are little-endian.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from tidegate.attest.cursor import Cursor

KIND: Final = "snp"
SIZE: Final = 1184
SIGNED: Final = 0x2A0
"""The signature covers the bytes before it."""
VERSIONS: Final = (2, 3, 5)
ECDSA_P384: Final = 1

Product = Literal["Milan", "Genoa", "Turin"]
Signer = Literal["vcek", "vlek", "none"]
_SIGNERS: Final[dict[int, Signer]] = {0: "vcek", 1: "vlek", 7: "none"}

POLICY: Final = {
    16: "smt",
    18: "migration",
    19: "debug",
    20: "single_socket",
    21: "cxl",
    22: "aes_256_xts",
    23: "rapl_off",
    24: "ciphertext_hiding",
    25: "page_swap_off",
}
"""What the guest's owner allowed or demanded at launch, by bit."""
POLICY_ONE: Final = 17
"""A bit that is always set."""
PLATFORM: Final = {
    0: "smt",
    1: "tsme",
    2: "ecc",
    3: "rapl_off",
    4: "ciphertext_hiding",
    5: "alias_check",
    7: "tio",
}
"""How the machine is set up, by bit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tcb:
    """Security version numbers of a processor's firmware; `fmc` exists from Turin on."""

    bootloader: int
    tee: int
    snp: int
    microcode: int
    fmc: int = 0

    def at_least(self, other: Tcb) -> bool:
        """Whether no component is older than the other's."""
        mine, theirs = self.numbers, other.numbers
        return all(own >= wanted for own, wanted in zip(mine, theirs, strict=True))

    @property
    def numbers(self) -> tuple[int, int, int, int, int]:
        return (self.fmc, self.bootloader, self.tee, self.snp, self.microcode)

    def __str__(self) -> str:
        front = f"fmc {self.fmc}, " if self.fmc else ""
        return (
            f"{front}bootloader {self.bootloader}, tee {self.tee}, "
            f"snp {self.snp}, microcode {self.microcode}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report: `raw` as it was signed and every field. The four TCB versions stay as bytes, since
    what each byte means depends on the processor; see `tcb_of`.
    """

    raw: bytes
    version: int
    guest_svn: int
    policy: frozenset[str]
    abi: tuple[int, int]
    family_id: bytes
    image_id: bytes
    vmpl: int
    current_tcb: bytes
    platform: frozenset[str]
    author_key: bool
    chip_masked: bool
    signer: Signer
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    migration_agent: bytes
    reported_tcb: bytes
    cpu: tuple[int, int, int]
    chip_id: bytes
    committed_tcb: bytes
    current_firmware: tuple[int, int, int]
    committed_firmware: tuple[int, int, int]
    launch_tcb: bytes
    mitigations: tuple[bytes, bytes]
    r: int
    s: int

    @property
    def signed(self) -> bytes:
        return self.raw[:SIGNED]

    @property
    def product(self) -> Product | None:
        """The processor's family as the report tells it; None below version 3 or where unknown."""
        family, model, _ = self.cpu
        if family == 0x1A and model <= 0x11:
            return "Turin"
        if family == 0x19 and model <= 0x0F:
            return "Milan"
        if family == 0x19 and (0x10 <= model <= 0x1F or 0xA0 <= model <= 0xAF):
            return "Genoa"
        return None


def parse_report(data: bytes) -> Report:
    """A report from its 1184 bytes. Raises `EvidenceError` for anything else."""
    cursor = Cursor(KIND, data)
    version = cursor.number(4, "VERSION")
    if version not in VERSIONS:
        raise cursor.error("VERSION", f"{version}; known are 2, 3 and 5")
    guest_svn = cursor.number(4, "GUEST_SVN")
    policy = cursor.number(8, "POLICY")
    family_id, image_id = cursor.take(16, "FAMILY_ID"), cursor.take(16, "IMAGE_ID")
    vmpl = cursor.number(4, "VMPL")
    if cursor.number(4, "SIGNATURE_ALGO") != ECDSA_P384:
        raise cursor.error("SIGNATURE_ALGO", "is not ECDSA on P-384 with SHA-384")
    current_tcb = cursor.take(8, "CURRENT_TCB")
    platform = cursor.number(8, "PLATFORM_INFO")
    keys = cursor.number(4, "KEY_INFO")
    signer = _SIGNERS.get(keys >> 2 & 7)
    if signer is None or keys >> 5:
        raise cursor.error("KEY_INFO", f"{keys:#x} names no key that is known")
    cursor.within(4, "reserved after KEY_INFO").padding("reserved after KEY_INFO")
    report_data, measurement = cursor.take(64, "REPORT_DATA"), cursor.take(48, "MEASUREMENT")
    host_data = cursor.take(32, "HOST_DATA")
    id_key, author_key = cursor.take(48, "ID_KEY_DIGEST"), cursor.take(48, "AUTHOR_KEY_DIGEST")
    report_id, agent = cursor.take(32, "REPORT_ID"), cursor.take(32, "REPORT_ID_MA")
    reported_tcb = cursor.take(8, "REPORTED_TCB")
    cpu = (cursor.number(1, "FAMILY"), cursor.number(1, "MODEL"), cursor.number(1, "STEPPING"))
    if version < 3 and any(cpu):
        raise cursor.error("FAMILY", "a report of version 2 does not name the processor")
    cursor.within(21, "reserved after STEPPING").padding("reserved after STEPPING")
    chip_id = cursor.take(64, "CHIP_ID")
    committed_tcb = cursor.take(8, "COMMITTED_TCB")
    current = _firmware(cursor, "CURRENT")
    committed = _firmware(cursor, "COMMITTED")
    launch_tcb = cursor.take(8, "LAUNCH_TCB")
    mitigations = (cursor.take(8, "LAUNCH_MIT_VECTOR"), cursor.take(8, "CURRENT_MIT_VECTOR"))
    if version < 5 and any(mitigations[0] + mitigations[1]):
        raise cursor.error("LAUNCH_MIT_VECTOR", f"a report of version {version} has none")
    cursor.within(SIGNED - cursor.at, "reserved").padding("reserved")
    r, s = cursor.number(72, "SIGNATURE.R"), cursor.number(72, "SIGNATURE.S")
    cursor.within(SIZE - cursor.at, "SIGNATURE.reserved").padding("SIGNATURE.reserved")
    cursor.end()
    return Report(
        raw=data,
        version=version,
        guest_svn=guest_svn,
        policy=_names(cursor, "POLICY", policy >> 16 << 16, POLICY, POLICY_ONE),
        abi=(policy >> 8 & 0xFF, policy & 0xFF),
        family_id=family_id,
        image_id=image_id,
        vmpl=vmpl,
        current_tcb=current_tcb,
        platform=_names(cursor, "PLATFORM_INFO", platform, PLATFORM, None),
        author_key=bool(keys & 1),
        chip_masked=bool(keys & 2),
        signer=signer,
        report_data=report_data,
        measurement=measurement,
        host_data=host_data,
        id_key_digest=id_key,
        author_key_digest=author_key,
        report_id=report_id,
        migration_agent=agent,
        reported_tcb=reported_tcb,
        cpu=cpu,
        chip_id=chip_id,
        committed_tcb=committed_tcb,
        current_firmware=current,
        committed_firmware=committed,
        launch_tcb=launch_tcb,
        mitigations=mitigations,
        r=r,
        s=s,
    )


def _firmware(cursor: Cursor, which: str) -> tuple[int, int, int]:
    """Major, minor and build."""
    build, minor, major = (
        cursor.number(1, f"{which}_{part}") for part in ("BUILD", "MINOR", "MAJOR")
    )
    cursor.within(1, f"reserved after {which}").padding(f"reserved after {which}")
    return major, minor, build


def _names(
    cursor: Cursor, field: str, bits: int, known: dict[int, str], always: int | None
) -> frozenset[str]:
    """The names of the bits that are set. A bit of unknown meaning cannot be judged."""
    if always is not None:
        if not bits >> always & 1:
            raise cursor.error(field, f"bit {always} is always set, and is not")
        bits &= ~(1 << always)
    names = frozenset(name for bit, name in known.items() if bits >> bit & 1)
    unknown = bits & ~sum(1 << bit for bit in known)
    if unknown:
        raise cursor.error(field, f"{unknown:#x} are bits of unknown meaning")
    return names


def tcb_of(raw: bytes, product: Product) -> Tcb | None:
    """What the eight bytes of a TCB version say there; None if reserved ones are set."""
    if product == "Turin":
        fmc, bootloader, tee, snp, *reserved, microcode = raw
        if any(reserved):
            return None
        return Tcb(fmc=fmc, bootloader=bootloader, tee=tee, snp=snp, microcode=microcode)
    bootloader, tee, *reserved, snp, microcode = raw
    if any(reserved):
        return None
    return Tcb(bootloader=bootloader, tee=tee, snp=snp, microcode=microcode)
