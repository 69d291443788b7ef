"""The kernel meter's program: counts every frame that passes a clsact hook, and lets it pass.

For each frame it adds to two rows of a map, its protocol's and its class's (the low byte of the
packet's mark): frames, bytes by its own reading of the headers, bytes by the kernel's (`wire_len`),
and packets and bytes as the device sees them. The two ways to the bytes on the wire,

    own = len + (segments - 1) * headers        segments = ceil((len - headers) / gso_size)

and the kernel's, meet in the identity that every reading has to keep.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

from tidegate.errors import GateError
from tidegate.gate import bpf_kernel
from tidegate.gate.bpf_assembler import (
    R0,
    R1,
    R2,
    R3,
    R4,
    R6,
    R7,
    R8,
    R9,
    R10,
    Label,
    Line,
    Register,
    assemble,
    call,
    compute,
    from_network,
    jump,
    jump_if,
    leave,
    load,
    load_map,
    move,
    store,
)
from tidegate.gate.meter_port import PROTOCOLS

CLASSES: Final = 256
"""Marks that are told apart: the low byte. A packet that no rule marked may carry any mark."""

ROWS: Final = len(PROTOCOLS) + CLASSES
"""Rows of the map: protocols first."""

COUNTERS: Final = ("frames", "own_bytes", "kernel_bytes", "packets", "packet_bytes")
"""What a row of the map holds, each 64 bits: a super-packet is many frames and one packet."""


# The stack, below r10.
_BUFFER, _OWN, _ROW = -16, -24, -28

_ROW_OF: Final = {name: number for number, name in enumerate(PROTOCOLS)}


@dataclass(frozen=True, slots=True)
class _Field:
    """Where bytes of a header lie in the frame, and a length that the buffer takes."""

    at: int
    length: int


_ETHER_TYPE = _Field(12, 2)
_IPV4_TO_PROTOCOL = _Field(14, 10)
_IPV6_NEXT_HEADER = _Field(20, 1)


def program(map_descriptor: int) -> bytes:
    """The program's bytes, for a map of `ROWS` rows that this process has open.

    Raises:
        GateError: on a machine whose byte order the stack's layout is not written for.
    """
    if sys.byteorder != "little":
        raise GateError("the kernel meter's program is written for little-endian machines")
    return assemble([*_classify(), *_segments(), *_count(map_descriptor)])


def _classify() -> list[Line]:
    """r6 = packet; r7 = row of the protocol; r8 = frames; r9 = bytes of headers, where known."""
    return [
        move(R6, R1),
        move(R7, _ROW_OF["other"]),
        move(R8, 1),
        load(4, R1, R6, bpf_kernel.LEN),
        store(8, R10, _OWN, R1),
        # A tag beside the data is of no class that may leave.
        load(4, R1, R6, bpf_kernel.VLAN_PRESENT),
        jump_if(R1, "!=", 0, "count"),
        *_read(_ETHER_TYPE),
        load(2, R1, R10, _BUFFER),
        from_network(R1, 16),
        jump_if(R1, "==", 0x0800, "ipv4"),
        jump_if(R1, "==", 0x86DD, "ipv6"),
        jump_if(R1, "!=", 0x0806, "count"),
        move(R7, _ROW_OF["arp"]),
        jump("count"),
        Label("ipv4"),
        move(R7, _ROW_OF["ip4.other"]),
        *_read(_IPV4_TO_PROTOCOL),
        # Headers: 14 + 4 * the low four bits of the first byte.
        load(1, R9, R10, _BUFFER),
        compute("and", R9, 0x0F),
        compute("lsh", R9, 2),
        compute("add", R9, 14),
        # More fragments to come, or not the first.
        load(2, R1, R10, _BUFFER + 6),
        from_network(R1, 16),
        compute("and", R1, 0x3FFF),
        jump_if(R1, "!=", 0, "fragment4"),
        load(1, R1, R10, _BUFFER + 9),
        *_protocol("ip4", R1, icmp=1),
        Label("fragment4"),
        move(R7, _ROW_OF["ip4.fragment"]),
        jump("count"),
        Label("ipv6"),
        move(R7, _ROW_OF["ip6.other"]),
        *_read(_IPV6_NEXT_HEADER),
        move(R9, 14 + 40),
        load(1, R1, R10, _BUFFER),
        jump_if(R1, "==", 44, "fragment6"),
        *_protocol("ip6", R1, icmp=58),
        Label("fragment6"),
        move(R7, _ROW_OF["ip6.fragment"]),
        jump("count"),
    ]


def _protocol(family: str, number: Register, *, icmp: int) -> list[Line]:
    """r7 = row of an IP protocol that has one; TCP and UDP go on to be cut into segments."""
    return [
        jump_if(number, "==", 6, f"{family}.tcp"),
        jump_if(number, "==", 17, f"{family}.udp"),
        jump_if(number, "!=", icmp, "count"),
        move(R7, _ROW_OF[f"{family}.icmp"]),
        jump("count"),
        Label(f"{family}.tcp"),
        move(R7, _ROW_OF[f"{family}.tcp"]),
        jump("tcp"),
        Label(f"{family}.udp"),
        move(R7, _ROW_OF[f"{family}.udp"]),
        jump("udp"),
    ]


def _segments() -> list[Line]:
    """r8 = frames that a super-packet is cut into, and own bytes of all of them."""
    return [
        Label("udp"),
        load(4, R1, R6, bpf_kernel.GSO_SIZE),
        jump_if(R1, "==", 0, "count"),
        compute("add", R9, 8),
        jump("cut"),
        Label("tcp"),
        load(4, R1, R6, bpf_kernel.GSO_SIZE),
        jump_if(R1, "==", 0, "count"),
        # Headers: and 4 * the high four bits of TCP's thirteenth byte.
        move(R2, R9),
        compute("add", R2, 12),
        *_read_at(R2, 1),
        load(1, R1, R10, _BUFFER),
        compute("rsh", R1, 4),
        compute("lsh", R1, 2),
        compute("add", R9, R1),
        Label("cut"),
        load(8, R1, R10, _OWN),
        compute("sub", R1, R9),
        jump_if(R1, "signed<=", 0, "count"),
        load(4, R2, R6, bpf_kernel.GSO_SIZE),
        compute("add", R1, R2),
        compute("sub", R1, 1),
        compute("div", R1, R2),
        move(R8, R1),
        compute("sub", R1, 1),
        compute("mul", R1, R9),
        load(8, R2, R10, _OWN),
        compute("add", R1, R2),
        store(8, R10, _OWN, R1),
    ]


def _count(map_descriptor: int) -> list[Line]:
    """Add to the rows r7 and protocols + class, and let the frame pass.

    A row is this processor's own, and nothing interrupts the hook there, so adding is whole.
    """
    return [
        Label("count"),
        *_add_to_row(map_descriptor),
        load(4, R7, R6, bpf_kernel.MARK),
        compute("and", R7, CLASSES - 1),
        compute("add", R7, len(PROTOCOLS)),
        *_add_to_row(map_descriptor),
        Label("pass"),
        move(R0, bpf_kernel.GO_ON),
        leave(),
    ]


def _add_to_row(map_descriptor: int) -> list[Line]:
    return [
        store(4, R10, _ROW, R7),
        *load_map(R1, map_descriptor),
        move(R2, R10),
        compute("add", R2, _ROW),
        call(bpf_kernel.MAP_LOOKUP),
        jump_if(R0, "==", 0, "pass"),
        *_add(0, R8),
        load(8, R2, R10, _OWN),
        *_add(1, R2),
        load(4, R2, R6, bpf_kernel.WIRE_LEN),
        *_add(2, R2),
        move(R2, 1),
        *_add(3, R2),
        load(4, R2, R6, bpf_kernel.LEN),
        *_add(4, R2),
    ]


def _add(counter: int, amount: Register) -> list[Line]:
    return [
        load(8, R1, R0, 8 * counter),
        compute("add", R1, amount),
        store(8, R0, 8 * counter, R1),
    ]


def _read(field: _Field) -> list[Line]:
    return [move(R2, field.at), *_read_rest(field.length)]


def _read_at(place: Register, length: int) -> list[Line]:
    # The helper takes offsets of up to 16 bits; headers are at most 14 + 60 + 60 bytes.
    return [*([] if place == R2 else [move(R2, place)]), *_read_rest(length)]


def _read_rest(length: int) -> list[Line]:
    """Copy `length` bytes from offset r2 into the buffer; a frame that ends before is counted."""
    return [
        move(R1, R6),
        move(R3, R10),
        compute("add", R3, _BUFFER),
        move(R4, length),
        call(bpf_kernel.LOAD_BYTES),
        jump_if(R0, "!=", 0, "count"),
    ]
