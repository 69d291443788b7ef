"""The tap's capture: a ring that the kernel fills with frames (TPACKET_V3, AF_PACKET).

The socket asks for the header of super-packets (PACKET_VNET_HDR), without which one of them looks
like a single frame. Any sign that a frame was lost ends the capture for good.
"""

from __future__ import annotations

import ctypes
import mmap
import select
import socket
import struct
from collections.abc import Iterator
from typing import Final

from tidegate.gate import meter_links
from tidegate.gate.meter_port import MeterError
from tidegate.gate.tap_frames import SNAP

RETIRE_MS: Final = 8
"""A block that is not full is handed over after this long."""

BLOCK_BYTES: Final = 1 << 18
BLOCKS: Final = 384
"""96 MiB: room for 350,000 frames; and as blocks are handed over half empty where little arrives,
for three seconds in which a busy host runs others."""

_SOL_PACKET = 263
_ADD_MEMBERSHIP, _RX_RING, _STATISTICS, _VERSION, _VNET_HDR, _IGNORE_OUTGOING = 1, 5, 6, 10, 15, 23
_TPACKET_V3, _PROMISCUOUS, _EVERY_PROTOCOL = 2, 1, 3
_FRAME_BYTES = 1 << 11
_STATUS_AT, _SEQUENCE_AT = 8, 24
_TO_USER = 1
_ATTACH_FILTER = 26


class Ring:
    """Frames that reach `interface`, a block at a time. Open it in the tap's network namespace.

    With `own`, also frames that this host itself sends there.

    Raises:
        MeterError: no such interface, or the kernel refuses the ring.
    """

    def __init__(self, interface: str, *, own: bool = False) -> None:
        self._interface = interface
        self._link = self._look()
        try:
            self._socket = _capturing(interface, own=own)
            self._memory = mmap.mmap(self._socket.fileno(), BLOCK_BYTES * BLOCKS)
        except OSError as error:
            raise MeterError(
                f"the tap cannot capture on {interface}: {error.strerror}", interface=interface
            ) from error
        self._next, self._sequence = 0, 1

    def fileno(self) -> int:
        """To poll for blocks."""
        return self._socket.fileno()

    def wait(self, milliseconds: int) -> None:
        """Return once a block is ready, or after so long."""
        poll = select.poll()
        poll.register(self, select.POLLIN)
        poll.poll(milliseconds)

    def blocks(self) -> Iterator[memoryview]:
        """The blocks that are ready; each is the kernel's again when the next is asked for.

        Raises:
            MeterError: a block is missing.
        """
        for _ in range(BLOCKS):
            start = self._next * BLOCK_BYTES
            if not struct.unpack_from("<I", self._memory, start + _STATUS_AT)[0] & _TO_USER:
                return
            (sequence,) = struct.unpack_from("<Q", self._memory, start + _SEQUENCE_AT)
            if sequence != self._sequence:
                raise MeterError(f"block {self._sequence} of the tap is missing")
            with memoryview(self._memory) as whole, whole[start : start + BLOCK_BYTES] as block:
                yield block
            struct.pack_into("<I", self._memory, start + _STATUS_AT, 0)
            self._next, self._sequence = (self._next + 1) % BLOCKS, sequence + 1

    def lost(self) -> str | None:
        """How frames were lost, if any were since this was last asked.

        Raises:
            MeterError: the interface is gone.
        """
        counted = self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 12)
        drops = struct.unpack("<III", counted)[1]
        if drops:
            return f"the tap's ring was full: {drops} packets were lost"
        link = self._look()
        if link.index != self._link.index:
            return f"{self._interface} is not the interface it was"
        before = self._link.received_dropped
        if link.received_dropped != before:
            lost = link.received_dropped - before
            return f"the tap's host lost {lost} packets before they reached the ring"
        return None

    def close(self) -> None:
        """Stop capturing."""
        self._memory.close()
        self._socket.close()

    def _look(self) -> meter_links.Link:
        with meter_links.opened() as links:
            return links.link(self._interface)


def _capturing(interface: str, *, own: bool) -> socket.socket:
    # Protocol 0: nothing arrives until everything is set and the socket is bound.
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        made.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V3)
        made.setsockopt(_SOL_PACKET, _VNET_HDR, 1)
        made.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, int(not own))
        _keep_the_start_of_each(made)
        frames = BLOCK_BYTES * BLOCKS // _FRAME_BYTES
        ring = (BLOCK_BYTES, BLOCKS, _FRAME_BYTES, frames, RETIRE_MS, 0, 0)
        made.setsockopt(_SOL_PACKET, _RX_RING, struct.pack("<7I", *ring))
        index = socket.if_nametoindex(interface)
        everything = struct.pack("<iHH8s", index, _PROMISCUOUS, 0, b"")
        made.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, everything)
        made.bind((interface, _EVERY_PROTOCOL))
    except OSError:
        made.close()
        raise
    return made


def _keep_the_start_of_each(capture: socket.socket) -> None:
    """A classic BPF program of one instruction: return SNAP."""
    instruction = ctypes.create_string_buffer(struct.pack("<HBBI", 0x06, 0, 0, SNAP))
    program = struct.pack("<HxxxxxxQ", 1, ctypes.addressof(instruction))
    capture.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)
