"""The queue's meter: statistics that the root qdisc keeps of what it handed to the device.

Another code path than the kernel meter's, behind the queue instead of before it: it counts what
really left. It knows frames and bytes on the wire, and neither protocols nor classes. It feeds the
ledger, and stands in for the kernel's meter where there is no BPF.
"""

from __future__ import annotations

from tidegate.gate import meter_links
from tidegate.gate.meter_counters import Running
from tidegate.gate.meter_port import Boundary, Counted, MeterError, Reading

KNOWS = ("frames", "wire_bytes")


class QueueMeter:
    """Counts what the root qdisc of `interface` sent since the meter was opened.

    Read it at least once in 2**31 frames. Open and read it in the gate's network namespace.

    Raises:
        MeterError: no such interface, or it has no queue that counts.
    """

    def __init__(self, interface: str, *, name: str = "queue") -> None:
        self.name = name
        self._interface = interface
        self._index, queue = self._look()
        self._handle, self._kind = queue.handle, queue.kind
        self._frames = Running(32, queue.packets)
        self._bytes = Running(64, queue.bytes)

    def read(self, boundary: Boundary) -> Reading:
        """As `Meter.read`."""
        index, queue = self._look()
        if (index, queue.handle, queue.kind) != (self._index, self._handle, self._kind):
            raise MeterError(
                f"{self._interface} or its queue is not what it was", interface=self._interface
            )
        self._frames = self._frames.moved_to(queue.packets)
        self._bytes = self._bytes.moved_to(queue.bytes)
        return Reading(
            meter=self.name,
            boundary=boundary,
            since=f"{self._kind} {self._handle:x} of interface {self._index}",
            total=Counted(packets=self._frames.total, wire_bytes=self._bytes.total),
            knows=KNOWS,
        )

    def _look(self) -> tuple[int, meter_links.Queue]:
        with meter_links.opened() as links:
            index = meter_links.index_of(self._interface)
            return index, links.root_queue(self._interface, index)


class DeviceMeter:
    """Counts what the interface says it sent: a diagnostic, and no judge.

    Devices differ in whether a super-packet counts once, and whether checksums are counted.
    """

    def __init__(self, interface: str) -> None:
        self.name = "device"
        self._interface = interface
        link = self._look()
        self._index = link.index
        self._packets = Running(64, link.sent_packets)
        self._bytes = Running(64, link.sent_bytes)

    def read(self, boundary: Boundary) -> Reading:
        """As `Meter.read`; fills `device` and knows no other field."""
        link = self._look()
        if link.index != self._index:
            raise MeterError(
                f"{self._interface} is not the interface it was", interface=self._interface
            )
        self._packets = self._packets.moved_to(link.sent_packets)
        self._bytes = self._bytes.moved_to(link.sent_bytes)
        return Reading(
            meter=self.name,
            boundary=boundary,
            since=f"interface {self._index}",
            total=Counted(),
            knows=(),
            device=(self._packets.total, self._bytes.total),
        )

    def _look(self) -> meter_links.Link:
        with meter_links.opened() as links:
            return links.link(self._interface)
