"""Measurement reports of NVIDIA GPUs and NVSwitches, taken apart. Pure.

A report is an SPDM 1.1 GET_MEASUREMENTS request and its MEASUREMENTS response (DMTF DSP0274), the
last 96 bytes of which are an ECDSA signature over everything before. The response carries NVIDIA's
own fields, whose numbers are those of NVIDIA's attestation SDK. All numbers are little-endian.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tidegate.attest.cursor import Cursor

KIND: Final = "nvidia"
SIGNATURE: Final = 96
"""Bytes: r and s of ECDSA over P-384."""
MOST_BYTES: Final = 1 << 16
"""Of a report: genuine ones have 4 KiB."""

VERSION: Final = 0x11
GET_MEASUREMENTS: Final = 0xE0
MEASUREMENTS: Final = 0x60
SIGNED: Final = 0x01
EVERY_BLOCK: Final = 0xFF
DMTF: Final = 0x01

DRIVER_VERSION: Final = 3
VBIOS_VERSION: Final = 6
NVDEC0: Final = 11
CHIP_SKU: Final = 15
PROJECT: Final = 17
PROJECT_SKU: Final = 18
FIRMWARE_ID: Final = 20
PROTECTED_PCIE: Final = 21
PEERS: Final = 22
"""A GPU's report: the switches that its links lead to, 8 bytes each, last byte first. A switch's:
its own id, first byte first."""
POSITION: Final = 24
GPUS: Final = 26
"""A switch's report: the GPUs that its links lead to, eight ids of 8 bytes, first byte first; what
follows says which of its ports lead to which."""
CHIP: Final = 35
FEATURES: Final = 36

PDI: Final = 8
"""Bytes of a device id."""
NO_DEVICE: Final = bytes(PDI)
DISABLED: Final = 0x55
ENABLED: Final = 0xAA


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report. `measurements`: by index from 0, as reference values count (SPDM counts from 1).

    `nonce`: the requester's. `fields`: NVIDIA's own, by number. `signed`: what `signature` covers.
    `trailing`: what follows the report in its buffer, which nobody signed.
    """

    nonce: bytes
    measurements: tuple[bytes, ...]
    fields: tuple[tuple[int, bytes], ...]
    signed: bytes
    signature: bytes
    trailing: bytes

    def field(self, number: int) -> bytes | None:
        return next((value for found, value in self.fields if found == number), None)

    def text(self, number: int) -> str | None:
        """A field as text, without the zeros at its end; None where it is missing or no text."""
        value = (self.field(number) or b"").rstrip(b"\0")
        return value.decode() if value and value.isascii() and _visible(value) else None

    @property
    def driver(self) -> str | None:
        """The driver's version, which only a GPU's report has."""
        return self.text(DRIVER_VERSION)

    @property
    def vbios(self) -> str | None:
        """The firmware's version as reference values write it, such as 96.00.74.00.0D."""
        value = self.field(VBIOS_VERSION)
        if value is None or len(value) != 8:
            return self.text(VBIOS_VERSION)
        low, high = value[3::-1], value[4:]
        return ".".join(f"{byte:02X}" for byte in (*low, high[0]))

    @property
    def is_switch(self) -> bool:
        return self.field(GPUS) is not None

    @property
    def own_pdi(self) -> bytes | None:
        """The id that a switch's report gives its device; a GPU's gives none."""
        return self.field(PEERS) if self.is_switch else None

    @property
    def peers(self) -> frozenset[bytes]:
        """The ids of the devices that its links lead to: a GPU's switches, a switch's GPUs."""
        value = (self.field(GPUS) or b"")[: 8 * PDI] if self.is_switch else self.field(PEERS) or b""
        found = [value[at : at + PDI] for at in range(0, len(value) - PDI + 1, PDI)]
        ordered = found if self.is_switch else [one[::-1] for one in found]
        return frozenset(ordered) - {NO_DEVICE}


def parse(data: bytes) -> Report:
    """A report from its bytes. Raises `EvidenceError` for anything else."""
    cursor = Cursor(KIND, data)
    if len(data) > MOST_BYTES:
        raise cursor.error("report", f"longer than {MOST_BYTES} bytes")
    cursor.exactly(bytes([VERSION, GET_MEASUREMENTS]), "request")
    if not cursor.number(1, "request attributes") & SIGNED:
        raise cursor.error("request attributes", "no signature was asked for")
    cursor.exactly(bytes([EVERY_BLOCK]), "request operation")
    nonce = cursor.take(32, "nonce")
    cursor.take(1, "slot")
    cursor.exactly(bytes([VERSION, MEASUREMENTS]), "response")
    cursor.take(2, "response parameters")
    count = cursor.number(1, "number of blocks")
    record = cursor.within(cursor.number(3, "record size"), "record")
    measurements = tuple(_measurement(record, index) for index in range(1, count + 1))
    record.end("record")
    cursor.take(32, "response nonce")
    fields = _fields(cursor.within(cursor.number(2, "opaque size"), "opaque"))
    signed = data[: cursor.at]
    signature = cursor.take(SIGNATURE, "signature")
    return Report(
        nonce=nonce,
        measurements=measurements,
        fields=fields,
        signed=signed,
        signature=signature,
        trailing=cursor.rest(),
    )


def _measurement(record: Cursor, index: int) -> bytes:
    """The value of the next block, which is to have that index (DSP0274, table 41)."""
    field = f"measurement {index}"
    if record.number(1, field) != index:
        raise record.error(field, "is missing or out of order")
    record.exactly(bytes([DMTF]), field)
    block = record.within(record.number(2, field), field)
    block.take(1, field)
    value = block.take(block.number(2, field), field)
    block.end(field)
    return value


def _fields(opaque: Cursor) -> tuple[tuple[int, bytes], ...]:
    found: dict[int, bytes] = {}
    while opaque.left:
        number = opaque.number(2, "opaque type")
        if number in found:
            raise opaque.error("opaque", f"has field {number} twice")
        found[number] = opaque.take(opaque.number(2, "opaque length"), f"opaque field {number}")
    return tuple(found.items())


def _visible(value: bytes) -> bool:
    return all(0x20 < byte < 0x7F for byte in value)
