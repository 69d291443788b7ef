"""The kernel's meter: our program on the outside interface's clsact hook."""

from __future__ import annotations

import os
from typing import Final

import numpy as np
import numpy.typing as npt

from tidegate.gate import bpf_program, bpf_syscall, meter_links
from tidegate.gate.meter_port import (
    ETHERNET,
    NON_IP,
    PROTOCOLS,
    Boundary,
    Counted,
    MeterError,
    Reading,
    sorted_rows,
    summed,
)

_NAME: Final = "tidegate"
_ATTEMPTS: Final = 5


class KernelMeter:
    """Counts what passes `interface`, with every super-packet as the frames it is cut into.

    It sits before the interface's queue: what the queue holds back or drops is in its count, and
    its readings say how much that may be. Open it and read it in the gate's network namespace.

    Args:
        interface: the gate's, towards outside.

    Raises:
        MeterError: no BPF here, no such interface, or the hook is taken. Use `QueueMeter` then.
    """

    def __init__(self, interface: str) -> None:
        self.name = "kernel"
        self._interface = interface
        self.map = bpf_syscall.CounterMap(bpf_program.ROWS, len(bpf_program.COUNTERS))
        code = bpf_program.program(self.map.descriptor)
        loaded = bpf_syscall.load_classifier(code, _NAME)
        try:
            self._since = f"program {bpf_syscall.identity(loaded)}"
            with meter_links.opened() as links:
                self._index = links.link(interface).index
                links.attach(interface, self._index, meter_links.EGRESS, loaded, _NAME)
        finally:
            # The hook keeps the program from here on.
            os.close(loaded)

    def read(self, boundary: Boundary) -> Reading:
        """As `Meter.read`; by protocol and by class.

        Classes are named by their mark, and of them only frames and bytes are known.
        """
        with meter_links.opened() as links:
            index = meter_links.index_of(self._interface)
            if index != self._index or not links.attached(index, meter_links.EGRESS, _NAME):
                raise MeterError(
                    f"{self._interface} is not the interface it was, or the meter was taken off it",
                    interface=self._interface,
                )
            try:
                queue = links.root_queue(self._interface, index)
                queued, dropped = queue.backlog, queue.drops
            except MeterError:
                queued = dropped = 0
        rows = self._whole_rows()
        kinds = dict(zip(PROTOCOLS, rows.tolist(), strict=False))
        protocols = {name: _counted(name, *row[:3]) for name, row in kinds.items()}
        classes = {
            f"mark {mark}": Counted(packets=frames, wire_bytes=sent)
            for mark, (frames, _, sent, *_) in enumerate(rows[len(PROTOCOLS) :].tolist())
            if frames
        }
        return Reading(
            meter=self.name,
            boundary=boundary,
            since=self._since,
            total=summed(protocols.items()),
            protocols=sorted_rows(protocols),
            classes=sorted_rows(classes),
            queued=queued,
            dropped=dropped,
            device=(sum(row[3] for row in kinds.values()), sum(row[4] for row in kinds.values())),
        )

    def close(self) -> None:
        """Take the program off the interface."""
        with meter_links.opened() as links:
            if links.attached(self._index, meter_links.EGRESS, _NAME):
                links.detach(self._interface, self._index, meter_links.EGRESS)
        self.map.close()

    def _whole_rows(self) -> npt.NDArray[np.int64]:
        # A row that is read while the kernel adds to it may lack a part of the last frame.
        rows = self.map.read()
        for _ in range(_ATTEMPTS):
            if (rows[:, 1] == rows[:, 2]).all():
                break
            rows = self.map.read()
        return rows


def _counted(protocol: str, frames: int, own_bytes: int, kernel_bytes: int) -> Counted:
    """Bytes on the wire as the kernel has them, their parts as the program has them."""
    if protocol in NON_IP:
        return Counted(0, 0, kernel_bytes, frames, own_bytes)
    return Counted(frames, own_bytes - ETHERNET * frames, kernel_bytes, 0, 0)
