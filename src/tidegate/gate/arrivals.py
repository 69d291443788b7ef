"""What arrives at the far end of a gate's wire: counted where it arrives, for whoever tests a gate.

Unlike the tap it is no meter that anything is decided on: it is told the frames of one direction
by the receiving host's own kernel, and hands each of them to whoever wants to read it.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from tidegate.errors import GateError

Frame = Callable[[bytes, int], None]
"""Takes a frame (a super-packet whole) and the kernel's stamp of its arrival, in ns since 1970."""

_SOL_PACKET = 263
_STATISTICS, _AUXDATA, _VNET_HDR, _IGNORE_OUTGOING = 6, 8, 15, 23
_STAMP_NS, _BUFFER_FORCE = 35, 33
_EVERY_PROTOCOL = 3
_VLAN_VALID = 0x10
_BUFFER = 1 << 27
_LARGEST = 1 << 17

VNET: Final = 10
"""Bytes of `struct virtio_net_hdr`."""

_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
_TCP = 6


def wire_bytes(vnet: bytes, frame: bytes) -> tuple[int, int]:
    """(frames, bytes) that a packet is on a wire: a super-packet cut up, each part with headers."""
    checksummed, kind, _, size, start, _ = struct.unpack("<BBHHHH", vnet)
    if not kind or not size:
        return 1, len(frame)
    if not checksummed & 1:
        start = 14 + (4 * (frame[14] & 15) if frame[12:14] == _IPV4 else 40)
    protocol = frame[23] if frame[12:14] == _IPV4 else frame[20]
    headers = start + (4 * (frame[start + 12] >> 4) if protocol == _TCP else 8)
    frames = -(-(len(frame) - headers) // size)
    return frames, len(frame) + (frames - 1) * headers


class Arrivals:
    """Counts frames that enter `interface`, in a thread, from when it is made until it is closed.

    Make it in the network namespace of the interface. `each` runs in the thread.

    Raises:
        GateError: no such interface, or no right to capture.
    """

    def __init__(self, interface: str, each: Frame | None = None) -> None:
        self.frames = 0
        self.wire_bytes = 0
        self.last_ns = 0
        """The kernel's stamp of the last arrival."""
        self._each = each
        self._stop = threading.Event()
        try:
            self._socket = _capturing(interface)
        except OSError as error:
            raise GateError(
                f"cannot capture on {interface}: {error.strerror}", interface=interface
            ) from error
        self._thread = threading.Thread(target=self._count, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Count what has arrived by now, and stop.

        Raises GateError if frames were lost: then the counts mean nothing.
        """
        self._stop.set()
        self._thread.join()
        lost: int = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 8))[1]
        self._socket.close()
        if lost:
            raise GateError(f"the receiver lost {lost} frames: the machine is too busy", lost=lost)

    def _count(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while poll.poll(20) or not self._stop.is_set():
            try:
                self._take()
            except OSError:
                # The interface went away; nothing arrives any more.
                return

    def _take(self) -> None:
        while True:
            try:
                data, told, _, _ = self._socket.recvmsg(_LARGEST, 256, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            vnet, frame = data[:VNET], data[VNET:]
            frames, size = wire_bytes(vnet, frame)
            for level, kind, value in told:
                if (level, kind) == (socket.SOL_SOCKET, _STAMP_NS):
                    seconds, nanoseconds = struct.unpack("qq", value)
                    self.last_ns = seconds * 10**9 + nanoseconds
                elif (level, kind) == (_SOL_PACKET, _AUXDATA):
                    # The kernel takes a VLAN's tag out of the frame.
                    size += 4 * bool(struct.unpack_from("I", value)[0] & _VLAN_VALID)
            self.frames += frames
            self.wire_bytes += size
            if self._each is not None:
                self._each(frame, self.last_ns)


def _capturing(interface: str) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        made.setsockopt(_SOL_PACKET, _VNET_HDR, 1)
        made.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        made.setsockopt(_SOL_PACKET, _AUXDATA, 1)
        made.setsockopt(socket.SOL_SOCKET, _STAMP_NS, 1)
        made.setsockopt(socket.SOL_SOCKET, _BUFFER_FORCE, _BUFFER)
        made.bind((interface, _EVERY_PROTOCOL))
    except OSError:
        made.close()
        raise
    return made
