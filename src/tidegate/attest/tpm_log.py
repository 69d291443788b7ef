"""The firmware's event log, replayed: what was measured into which register, in what order. Pure.

After "TCG PC Client Platform Firmware Profile" (revision 1.06), section 10: a first event in the
old layout that lists the hashes, then crypto-agile ones. The log itself is not signed: what it says
counts only where replaying it gives the registers that a quote vouches for.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from tidegate.attest.cursor import Cursor
from tidegate.attest.tpm_structures import BANK_SIZES, BANKS, PCRS

KIND: Final = "tpm-log"
_NO_ACTION: Final = 0x03
_SPEC: Final = b"Spec ID Event03\0"
_LOCALITY: Final = b"StartupLocality\0"
MOST_EVENTS: Final = 1 << 16
MOST_BYTES: Final = 1 << 20
"""Of one event; the longest genuine ones hold a whole boot variable."""
_DYNAMIC: Final = range(17, 23)
"""Registers that begin as ones, until a measured launch resets them (Part 1, 17.6)."""


@dataclass(frozen=True, slots=True)
class Event:
    """One measurement: the register, the event's type, its digest by bank, and its data."""

    register: int
    kind: int
    digests: tuple[tuple[str, bytes], ...]
    data: bytes


def parse_log(data: bytes) -> tuple[Event, ...]:
    """The events of a log. Raises `EvidenceError` for anything else."""
    cursor = Cursor(KIND, data)
    sizes = _first(cursor)
    events: list[Event] = []
    while cursor.left:
        if len(events) == MOST_EVENTS:
            raise cursor.error("events", f"are more than {MOST_EVENTS}")
        events.append(_event(cursor, sizes, len(events)))
    return tuple(events)


def _first(cursor: Cursor) -> dict[int, int]:
    """The first event, which says how long the digests of the others are."""
    field = "event 0"
    register, kind = cursor.number(4, field), cursor.number(4, field)
    cursor.take(20, f"{field} digest")
    inside = cursor.within(_size(cursor, field), field)
    if register or kind != _NO_ACTION or inside.take(16, field) != _SPEC:
        raise cursor.error(field, "does not say that the log is crypto-agile")
    inside.take(8, f"{field} platform and versions")
    count = inside.number(4, f"{field} hashes")
    if not 1 <= count <= 8:
        raise cursor.error(f"{field} hashes", f"are {count}")
    sizes: dict[int, int] = {}
    for _ in range(count):
        code, size = inside.number(2, f"{field} hash"), inside.number(2, f"{field} hash")
        if not 1 <= size <= 64 or BANK_SIZES.get(BANKS.get(code, ""), size) != size:
            raise cursor.error(f"{field} hash", f"{code:#06x} has {size} bytes")
        sizes[code] = size
    inside.take(inside.number(1, f"{field} vendor"), f"{field} vendor")
    inside.end(field)
    return sizes


def _size(cursor: Cursor, field: str) -> int:
    size = cursor.number(4, f"{field} size")
    if size > MOST_BYTES:
        raise cursor.error(f"{field} size", f"{size} bytes")
    return size


def _event(cursor: Cursor, sizes: dict[int, int], number: int) -> Event:
    field = f"event {number + 1}"
    register, kind = cursor.number(4, field), cursor.number(4, field)
    if register >= PCRS:
        raise cursor.error(field, f"is measured into register {register}")
    count = cursor.number(4, f"{field} digests")
    if count != len(sizes):
        raise cursor.error(f"{field} digests", f"are {count}, not {len(sizes)}")
    digests: dict[int, bytes] = {}
    for _ in range(count):
        code = cursor.number(2, f"{field} digest")
        if code not in sizes or code in digests:
            raise cursor.error(
                f"{field} digest", f"{code:#06x} was not announced, or is there twice"
            )
        digests[code] = cursor.take(sizes[code], f"{field} digest")
    data = cursor.take(_size(cursor, field), f"{field} data")
    known = tuple((BANKS[code], digest) for code, digest in digests.items() if code in BANKS)
    return Event(register, kind, known, data)


def replay(events: tuple[Event, ...], bank: str) -> dict[int, bytes]:
    """The registers of that bank after the log: number -> value, for those that were measured into.

    Registers begin as zeros (17 to 22 as ones), register 0 as the locality that the TPM was
    started from where the log says so.
    """
    size = BANK_SIZES[bank]
    values: dict[int, bytes] = {}
    first = bytes(size)
    for event in events:
        if event.kind == _NO_ACTION:
            if event.register == 0 and event.data.startswith(_LOCALITY) and 0 not in values:
                first = bytes(size - 1) + event.data[16:17].ljust(1, b"\0")
            continue
        digest = dict(event.digests).get(bank)
        if digest is None:
            continue
        start = b"\xff" * size if event.register in _DYNAMIC else bytes(size)
        before = values.get(event.register, first if event.register == 0 else start)
        values[event.register] = hashlib.new(bank, before + digest).digest()
    return values
