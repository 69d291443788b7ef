"""What the tap makes of a block of captured frames; pure.

A block is what the kernel fills in one go (`struct tpacket_block_desc`, TPACKET_V3, linux
Documentation/networking/packet_mmap.rst): frames of any length, each with a `tpacket3_hdr`, and
before its bytes the `virtio_net_hdr` that says how a super-packet is to be cut.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from tidegate.gate.meter_port import ETHERNET, NON_IP, PROTOCOLS, Counted, MeterError

SNAP: Final = 144
"""Bytes kept of a frame: more than an Ethernet, an IP and a TCP header, with options."""

BLOCK_HEADER: Final = 48
VNET_HEADER: Final = 10

_STATUS_VLAN, _STATUS_LOSING = 1 << 4, 1 << 2
_GSO_TCP4, _GSO_TCP6, _GSO_UDP, _GSO_ECN = 1, 4, 5, 0x80
_PROTOCOLS_OF: Final = {4: (6, 17, 1), 6: (6, 17, 58)}
_ROW_OF: Final = {name: number for number, name in enumerate(PROTOCOLS)}

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Tally:
    """Frames and bytes by protocol, of frames in one direction, and the frames in the other."""

    frames: tuple[int, ...] = (0,) * len(PROTOCOLS)
    bytes: tuple[int, ...] = (0,) * len(PROTOCOLS)
    inbound: int = 0

    def plus(self, other: Tally) -> Tally:
        """Both together."""
        return Tally(
            tuple(map(int.__add__, self.frames, other.frames)),
            tuple(map(int.__add__, self.bytes, other.bytes)),
            self.inbound + other.inbound,
        )

    def rows(self) -> dict[str, Counted]:
        """By name of protocol."""
        return {
            name: Counted(0, 0, bytes_, frames, bytes_)
            if name in NON_IP
            else Counted(frames, bytes_ - ETHERNET * frames, bytes_)
            for name, frames, bytes_ in zip(PROTOCOLS, self.frames, self.bytes, strict=True)
        }


def tally_block(block: memoryview, address: bytes) -> Tally:
    """Count the frames of a block that have the source `address`: those that left the gate.

    Args:
        block: the block, at least to its last frame.
        address: the six bytes of the gate's outside interface.

    Raises:
        MeterError: frames were lost while the block was filled, a super-packet is of a kind that
            cannot be cut, or the block makes no sense.
    """
    count, first = struct.unpack_from("<II", block, 12)
    if not count:
        return Tally()
    data = np.frombuffer(block, np.uint8)
    frames = _Frames(data, _places(block, count, first))
    if (frames.status & _STATUS_LOSING).any():
        raise MeterError("the tap lost frames while it was filling a block")
    ours = np.ones(count, bool)
    for position, byte in enumerate(address):
        ours &= frames.byte(6 + position) == byte
    row = frames.rows()
    segments, size = frames.cut(row)
    picked = row[ours]
    return Tally(
        tuple(_sums(picked, segments[ours]).tolist()),
        tuple(_sums(picked, size[ours]).tolist()),
        int(count - ours.sum()),
    )


def _places(block: memoryview, count: int, first: int) -> Integers:
    places = np.empty(count, np.int64)
    words = block[: len(block) // 4 * 4].cast("I")
    at, last = first, len(block) - BLOCK_HEADER
    for number in range(count):
        if not BLOCK_HEADER <= at <= last or at & 3:
            raise MeterError("a block of the tap names a frame outside itself")
        places[number] = at
        at += words[at >> 2]
    return places


class _Frames:
    """Columns of a block's frames, each of shape (N,)."""

    def __init__(self, data: npt.NDArray[np.uint8], places_N: Integers) -> None:
        self._data = data
        self.kept = self._number(places_N + 12, 4)
        self.length = self._number(places_N + 16, 4)
        self.status = self._number(places_N + 20, 4)
        self._bytes_at = places_N + self._number(places_N + 24, 2)
        self._vnet = self._bytes_at - VNET_HEADER
        if ((self._bytes_at + self.kept) > len(data)).any():
            raise MeterError("a block of the tap names bytes outside itself")

    def byte(self, offset: int | Integers) -> Integers:
        """One byte of each frame; -1 where it has none."""
        there = self.kept > offset
        found = self._data[np.where(there, self._bytes_at + offset, 0)].astype(np.int64)
        return np.where(there, found, -1)

    def rows(self) -> Integers:
        """The row of `PROTOCOLS` that each frame belongs to."""
        kind = self._big(12)
        row = np.full(len(kind), _ROW_OF["other"])
        tagged = self.status & _STATUS_VLAN != 0
        row[~tagged & (kind == 0x0806)] = _ROW_OF["arp"]
        for version, ether_type, at in ((4, 0x0800, 23), (6, 0x86DD, 20)):
            family = ~tagged & (kind == ether_type)
            row[family] = _ROW_OF[f"ip{version}.other"]
            number = self.byte(at)
            names = ("tcp", "udp", "icmp")
            for name, wanted in zip(names, _PROTOCOLS_OF[version], strict=True):
                row[family & (number == wanted)] = _ROW_OF[f"ip{version}.{name}"]
            pieces = number == 44
            if version == 4:
                # A frame too short to name its protocol is no fragment either.
                pieces = (number >= 0) & (self._big(20) & 0x3FFF != 0)
            row[family & pieces] = _ROW_OF[f"ip{version}.fragment"]
        return row

    def cut(self, row_N: Integers) -> tuple[Integers, Integers]:
        """Frames that each packet is cut into, and their bytes with a header each."""
        kind = self._data[self._vnet + 1] & ~np.uint8(_GSO_ECN)
        size = self._number(self._vnet + 4, 2)
        tcp = (kind == _GSO_TCP4) | (kind == _GSO_TCP6)
        udp = kind == _GSO_UDP
        if not (tcp | udp | (kind == 0)).all():
            raise MeterError("a super-packet is of a kind that the tap cannot cut")
        headers = np.full(len(row_N), ETHERNET + 40)
        version4 = self._big(12) == 0x0800
        headers[version4] = ETHERNET + 4 * (self.byte(14)[version4] & 0x0F)
        headers = headers + np.where(udp, 8, 4 * (np.maximum(self.byte(headers + 12), 0) >> 4))
        data = self.length - headers
        many = (tcp | udp) & (size > 0) & (data > 0)
        segments = np.where(many, -(-data // np.maximum(size, 1)), 1)
        return segments, self.length + (segments - 1) * headers

    def _big(self, offset: int) -> Integers:
        return self.byte(offset) * 256 + self.byte(offset + 1)

    def _number(self, places: Integers, length: int) -> Integers:
        found = self._data[places].astype(np.int64)
        for position in range(1, length):
            found |= self._data[places + position].astype(np.int64) << (8 * position)
        return found


def _sums(row_N: Integers, values_N: Integers) -> Integers:
    sums = np.zeros(len(PROTOCOLS), np.int64)
    np.add.at(sums, row_N, values_N)
    return sums
