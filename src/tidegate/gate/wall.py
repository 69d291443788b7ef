"""No forwarding to management interfaces, whatever becomes of nftables' rules.

A program on each one's clsact hook drops what came in through another interface; what the gate
itself sends there passes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from tidegate.gate import bpf_kernel, bpf_syscall, meter_links
from tidegate.gate.bpf_assembler import R0, R1, R2, Label, assemble, jump_if, leave, load, move

_NAME: Final = "tidegate_wall"
_PRIORITY = 1


def build(interfaces: Iterable[str]) -> None:
    """Put a wall before each interface that has none. Raises MeterError."""
    for interface in interfaces:
        if stands(interface):
            continue
        loaded = bpf_syscall.load_classifier(program(), _NAME)
        try:
            with meter_links.opened() as links:
                index = meter_links.index_of(interface)
                links.attach(interface, index, meter_links.EGRESS, loaded, _NAME, _PRIORITY)
        finally:
            os.close(loaded)


def stands(interface: str) -> bool:
    """Whether the interface has its wall. Raises MeterError where there is no interface."""
    with meter_links.opened() as links:
        return links.attached(meter_links.index_of(interface), meter_links.EGRESS, _NAME)


def remove(interfaces: Iterable[str]) -> None:
    """Take the walls away. Raises MeterError where there is no interface."""
    for interface in interfaces:
        if stands(interface):
            with meter_links.opened() as links:
                index = meter_links.index_of(interface)
                links.detach(interface, index, meter_links.EGRESS, _PRIORITY)


def program() -> bytes:
    """The program's bytes."""
    return assemble(
        [
            load(4, R2, R1, bpf_kernel.CAME_IN_BY),
            move(R0, bpf_kernel.GO_ON),
            jump_if(R2, "==", 0, "own"),
            move(R0, bpf_kernel.DROP),
            Label("own"),
            leave(),
        ]
    )
