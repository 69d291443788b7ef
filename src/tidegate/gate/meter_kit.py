"""The gate's meters, opened together: which stands for which, and what is used where one lacks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from tidegate.clock import Clock
from tidegate.gate import meter_links
from tidegate.gate.meter_group import Group
from tidegate.gate.meter_kernel import KernelMeter
from tidegate.gate.meter_ledger import LedgerMeter
from tidegate.gate.meter_port import Boundary, MeterError
from tidegate.gate.meter_queue import DeviceMeter, QueueMeter
from tidegate.gate.meter_tap import TapMeter
from tidegate.ledger import Ledger

PRINCIPAL, EDGE = "wire", "gate→outside"
"""The ledger's names for what leaves the gate, and where."""

_QUEUE_PACKETS = 10_000
_PROGRAM = "tidegate.gate.tap_program"


@dataclass(frozen=True, slots=True)
class Kit:
    """Meters that judge (`group`), and one that only tells (`device`).

    `lacking` says why the kernel's meter is not its program; None where it is.
    """

    kernel: KernelMeter | QueueMeter
    ledger: LedgerMeter
    tap: TapMeter
    device: DeviceMeter
    group: Group
    lacking: str | None
    capture: TapMeter | None

    def close(self) -> None:
        """Stop counting. Raises MeterError or LedgerError where the last reading cannot be charged;
        the rest is closed all the same."""
        with ExitStack() as stack:
            if isinstance(self.kernel, KernelMeter):
                stack.callback(self.kernel.close)
            if self.capture is not None:
                stack.callback(self.capture.close)
            stack.callback(self.tap.close)
            # First of all: it reads its source, which may be the capture, once more.
            stack.callback(self.ledger.close)


def opened(
    interface: str,
    tap_command: Sequence[str],
    ledger: Ledger,
    clock: Clock,
    boot: str,
    *,
    bpf: bool = True,
) -> Kit:
    """Open every meter of the gate's outside `interface`, in its network namespace.

    The kernel's program counts before the queue, the queue's statistics feed the ledger, the tap
    counts elsewhere. Where there is no BPF, the queue's statistics are the kernel's meter, and a
    capture on the gate itself feeds the ledger.

    Args:
        interface: the gate's, towards outside; given a plain queue where it has none that counts.
        tap_command: starts the tap's program on its host.
        ledger: has the edge `EDGE`.
        clock: stamps boundaries.
        boot: as `meter_group.boot_id` tells.
        bpf: whether to try the kernel's program at all.

    Raises:
        MeterError: the interface or the tap cannot be metered.
        LedgerError: the ledger cannot be used.
    """
    address = _with_a_queue(interface)
    kernel, lacking = _kernel(interface, bpf=bpf)
    capture = None
    if lacking is not None:
        own = [sys.executable, "-m", _PROGRAM, interface, address, "own"]
        capture = TapMeter(own, name="capture")
    start = Boundary(0, int(1e9 * clock.monotonic()), boot)
    source = capture or QueueMeter(interface)
    charged = LedgerMeter(
        ledger,
        source,
        principal=PRINCIPAL,
        edge=EDGE,
        boundary=start,
        waiting=lambda: _waiting(interface),
    )
    tap = TapMeter(tap_command)
    device = DeviceMeter(interface)
    group = Group((kernel, charged, tap), clock, boot)
    return Kit(kernel, charged, tap, device, group, lacking, capture)


def address_of(interface: str) -> str:
    """The Ethernet address that the tap knows the gate's frames by. Raises MeterError."""
    with meter_links.opened() as links:
        return links.link(interface).address


def _waiting(interface: str) -> int:
    with meter_links.opened() as links:
        return links.root_queue(interface, meter_links.index_of(interface)).backlog


def _with_a_queue(interface: str) -> str:
    with meter_links.opened() as links:
        link = links.link(interface)
        try:
            links.root_queue(interface, link.index)
        except MeterError:
            links.add_queue(interface, link.index, _QUEUE_PACKETS)
        return link.address


def _kernel(interface: str, *, bpf: bool) -> tuple[KernelMeter | QueueMeter, str | None]:
    lacking = "BPF is not to be used"
    if bpf:
        try:
            return KernelMeter(interface), None
        except MeterError as error:
            lacking = error.message
    return QueueMeter(interface, name="kernel"), lacking
