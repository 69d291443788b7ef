"""Quotas in bytes on the wire: a program on the outside interface's clsact hook, before the meter.

nftables sees a super-packet as one packet with one header. This program asks the kernel what it
will be once it is cut up (`wire_len`), charges that to the packet's class and to the lifetime, and
drops the packet whole where either would pass its limit; a dropped packet is charged to neither.
What carries no class's mark is dropped: it did not come through nftables.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Final

from tidegate.gate import bpf_kernel, bpf_syscall, meter_links
from tidegate.gate.bpf_assembler import (
    R0,
    R1,
    R2,
    R6,
    R7,
    R8,
    R9,
    R10,
    Instruction,
    Label,
    Line,
    Register,
    assemble,
    call,
    compute,
    jump_if,
    leave,
    load,
    load_map,
    move,
    store,
)

ROWS: Final = 16
"""Accounts: the lifetime, then the classes by number."""

_NAME = "tidegate_quota"
_PRIORITY = 1
_KEY, _USED = -4, -16
"""On the stack: a map's key; where the used bytes of the packet's class are."""
_ATOMIC_64, _ADD, _ADD_AND_FETCH = 0xDB, 0x00, 0x01
"""RFC 9669, section 5.3: the immediate says what is done in one step."""


class WireQuota:
    """The limits of an interface's accounts, in force from when it is made until it is closed.

    Raises:
        MeterError: no BPF here, or no such interface.
    """

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._rows = bpf_syscall.SharedArray(2 * ROWS)
        loaded = bpf_syscall.load_classifier(program(self._rows.descriptor), _NAME)
        try:
            with meter_links.opened() as links:
                self._index = links.link(interface).index
                if links.attached(self._index, meter_links.EGRESS, _NAME):
                    links.detach(interface, self._index, meter_links.EGRESS, _PRIORITY)
                links.attach(interface, self._index, meter_links.EGRESS, loaded, _NAME, _PRIORITY)
        finally:
            os.close(loaded)

    def set_limits(self, limits: Mapping[int, int]) -> None:
        """Let each account go up to so many bytes, those that it has used included."""
        for account, limit in limits.items():
            self._rows.put(2 * account, limit)

    def set_used(self, used: Iterable[tuple[int, int]]) -> None:
        """Begin accounts with so many bytes used."""
        for account, count in used:
            self._rows.put(2 * account + 1, count)

    def used(self) -> tuple[int, ...]:
        """Bytes that each account's packets had on the wire."""
        return tuple(self._rows.get(2 * account + 1) for account in range(ROWS))

    def attached(self) -> bool:
        """Whether the program still runs on the interface."""
        with meter_links.opened() as links:
            return links.attached(self._index, meter_links.EGRESS, _NAME)

    def close(self) -> None:
        """Take the program off the interface."""
        detach(self._interface)
        self._rows.close()


def detach(interface: str) -> None:
    """Take a program that an earlier controller left off the interface, if there is one."""
    with meter_links.opened() as links:
        index = links.link(interface).index
        if links.attached(index, meter_links.EGRESS, _NAME):
            links.detach(interface, index, meter_links.EGRESS, _PRIORITY)


def program(map_descriptor: int) -> bytes:
    """The program's bytes, for a `SharedArray` of 2 * `ROWS` that this process has open."""
    lines: list[Line] = [
        move(R6, R1),
        load(4, R8, R6, bpf_kernel.WIRE_LEN),
        load(4, R9, R6, bpf_kernel.MARK),
        compute("and", R9, ROWS - 1),
        jump_if(R9, "==", 0, "drop"),
        compute("lsh", R9, 1),
        *_charge(map_descriptor, R9, "class"),
        store(8, R10, _USED, R7),
        move(R9, 0),
        *_charge(map_descriptor, R9, "lifetime"),
        move(R0, bpf_kernel.GO_ON),
        leave(),
        Label("over lifetime"),
        *_take_back(),
        load(8, R7, R10, _USED),
        Label("over class"),
        *_take_back(),
        Label("drop"),
        move(R0, bpf_kernel.DROP),
        leave(),
    ]
    return assemble(lines)


def _take_back() -> list[Line]:
    """Used bytes at r7 less r8."""
    return [
        move(R1, 0),
        compute("sub", R1, R8),
        Instruction(_ATOMIC_64, R7.number, R1.number, 0, _ADD),
    ]


def _charge(map_descriptor: int, row: Register, name: str) -> list[Line]:
    """Add r8 to the account at `row`; r7 = where its used bytes are. r9 ends as its limit."""
    return [
        *_looked_up(map_descriptor, row, 1),
        move(R7, R0),
        *_looked_up(map_descriptor, row, 0),
        load(8, R9, R0, 0),
        move(R1, R8),
        # r1 = what was used before; adding and reading are one step, on all processors.
        Instruction(_ATOMIC_64, R7.number, R1.number, 0, _ADD_AND_FETCH),
        compute("add", R1, R8),
        jump_if(R1, ">", R9, f"over {name}"),
    ]


def _looked_up(map_descriptor: int, row: Register, offset: int) -> list[Line]:
    """r0 = the array's value at row + offset."""
    return [
        move(R2, row),
        compute("add", R2, offset),
        store(4, R10, _KEY, R2),
        *load_map(R1, map_descriptor),
        move(R2, R10),
        compute("add", R2, _KEY),
        call(bpf_kernel.MAP_LOOKUP),
        jump_if(R0, "==", 0, "drop"),
    ]
