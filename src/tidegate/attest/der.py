"""DER (ITU-T X.690) read strictly: definite, shortest lengths, and nothing left over. Pure.

Certificates and revocation lists are taken apart here, and not by a library, for two reasons: any
bytes give a value or an `EvidenceError`; and AMD's VCEKs carry serial number 0, which RFC 5280
forbids and which libraries have announced that they will refuse.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tidegate.attest.errors import EvidenceError

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
NULL: Final = 0x05
OID: Final = 0x06
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
SET: Final = 0x31
PRIMITIVE_0: Final = 0x80
"""Context-specific and primitive, number 0; add the number for others."""
CONSTRUCTED_0: Final = 0xA0


@dataclass(frozen=True, slots=True)
class Element:
    """One element: its tag, its contents and all of its bytes."""

    tag: int
    body: bytes
    raw: bytes


class Der:
    """Reads the elements of one piece of DER in order. `kind` and `field` name it in errors."""

    __slots__ = ("_at", "_data", "_field", "_kind")

    def __init__(self, data: bytes, kind: str, field: str) -> None:
        self._data = data
        self._at = 0
        self._kind = kind
        self._field = field

    @property
    def left(self) -> bool:
        return self._at < len(self._data)

    def next_is(self, tag: int) -> bool:
        return self.left and self._data[self._at] == tag

    def any(self) -> Element:
        """The next element, of whatever tag."""
        data, start = self._data, self._at
        if len(data) - start < 2:
            raise self.wrong("ends in the middle of an element")
        tag, length, at = data[start], data[start + 1], start + 2
        if tag & 0x1F == 0x1F:
            raise self.wrong("has a tag of several bytes")
        if length >= 0x80:
            size = length & 0x7F
            if not 1 <= size <= 4 or len(data) - at < size:
                raise self.wrong("has a length that cannot be")
            length = int.from_bytes(data[at : at + size], "big")
            at += size
            if length < 0x80 or length >> (8 * (size - 1)) == 0:
                raise self.wrong("has a length that is longer than it need be")
        if len(data) - at < length:
            raise self.wrong("ends in the middle of an element")
        self._at = at + length
        return Element(tag, data[at : self._at], data[start : self._at])

    def element(self, tag: int) -> Element:
        if not self.next_is(tag):
            raise self.wrong(f"has no element of tag {tag:#04x} where one belongs")
        return self.any()

    def bytes_of(self, tag: int) -> bytes:
        return self.element(tag).body

    def enter(self, tag: int, field: str | None = None) -> Der:
        """A reader of the contents of the next element."""
        return Der(self.bytes_of(tag), self._kind, field or self._field)

    def end(self) -> None:
        if self.left:
            raise self.wrong(f"has {len(self._data) - self._at} bytes too many")

    def integer(self, tag: int = INTEGER) -> int:
        body = self.bytes_of(tag)
        if not body:
            raise self.wrong("has a number without digits")
        if len(body) > 1 and (body[0], body[1] >> 7) in ((0, 0), (0xFF, 1)):
            raise self.wrong("has a number with a digit too many")
        return int.from_bytes(body, "big", signed=True)

    def boolean(self) -> bool:
        body = self.bytes_of(BOOLEAN)
        if body not in (b"\0", b"\xff"):
            raise self.wrong("has a truth value that is neither")
        return body == b"\xff"

    def oid(self) -> str:
        """An object identifier in dots."""
        body = self.bytes_of(OID)
        if not body or body[-1] & 0x80:
            raise self.wrong("has an object identifier without end")
        arcs: list[int] = []
        value = 0
        for place, byte in enumerate(body):
            if value == 0 and byte == 0x80:
                raise self.wrong("has an object identifier with a digit too many")
            value = value << 7 | byte & 0x7F
            if value >> 64:
                raise self.wrong(f"has an object identifier beyond all bounds at byte {place}")
            if not byte & 0x80:
                arcs.append(value)
                value = 0
        first = min(arcs[0] // 40, 2)
        return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))

    def bit_string(self) -> bytes:
        """A bit string of whole bytes."""
        body = self.bytes_of(BIT_STRING)
        if not body or body[0] != 0:
            raise self.wrong("has a bit string that is no whole number of bytes")
        return body[1:]

    def flags(self) -> frozenset[int]:
        """The numbers of the bits that are set in a bit string of at most 16 bits."""
        body = self.bytes_of(BIT_STRING)
        if not 1 <= len(body) <= 3 or body[0] > 7 or (len(body) == 1 and body[0]):
            raise self.wrong("has flags that cannot be read")
        bits = body[1:]
        return frozenset(
            8 * place + bit
            for place, byte in enumerate(bits)
            for bit in range(8)
            if byte & 0x80 >> bit
        )

    def time(self) -> datetime:
        """A UTCTime or GeneralizedTime to the second, in UTC (RFC 5280, section 4.1.2.5)."""
        element = self.any()
        size = {UTC_TIME: 13, GENERALIZED_TIME: 15}.get(element.tag)
        text = element.body
        if size is None or len(text) != size or text[-1:] != b"Z" or not text[:-1].isdigit():
            raise self.wrong("has a time that is none")
        digits = text[:-1].decode("ascii")
        if element.tag == UTC_TIME:
            digits = ("20" if digits[:2] < "50" else "19") + digits
        try:
            return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        except ValueError as error:
            raise self.wrong("has a time that is none") from error

    def wrong(self, reason: str) -> EvidenceError:
        return EvidenceError(self._kind, self._field, reason)
