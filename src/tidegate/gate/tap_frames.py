"""What the tap makes of a block of captured frames; pure.

A block is what the kernel fills in one go (`struct tpacket_block_desc`, TPACKET_V3, linux
Documentation/networking/packet_mmap.rst): frames of any length, each with a `tpacket3_hdr`, and
before its bytes the `virtio_net_hdr` that says how a super-packet is to be cut.
"""

from __future__ import annotations

import struct
from copy import copy
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
    count, first, length = struct.unpack_from("<III", block, 12)
    if not count:
        return Tally()
    if not BLOCK_HEADER <= length <= len(block):
        raise MeterError("a block of the tap is longer than itself")
    frames = _Frames(block, _places(block[:length], count, first))
    ours = frames.from_address(address)
    inbound = int(count - ours.sum())
    frames = frames.only(ours)
    row = frames.rows()
    segments, size = frames.cut()
    return Tally(tuple(_sums(row, segments).tolist()), tuple(_sums(row, size).tolist()), inbound)


def _places(block: memoryview, count: int, first: int) -> Integers:
    """Where each frame's header starts: a chain that has to be followed."""
    words = block[: len(block) // 4 * 4].cast("I")
    places = [0] * count
    at, last = first, len(block) - BLOCK_HEADER
    for number in range(count):
        if not BLOCK_HEADER <= at <= last or at & 3:
            raise MeterError("a block of the tap names a frame outside itself")
        places[number] = at
        at += words[at >> 2]
    return np.array(places)


class _Frames:
    """Columns of a block's frames, each of shape (N,)."""

    def __init__(self, block: memoryview, places_N: Integers) -> None:
        whole = block[: len(block) // 4 * 4]
        self._words = np.frombuffer(whole, "<u4")
        self._pairs = np.frombuffer(whole, "<u2")
        self._last = len(self._pairs) - 1
        at = places_N >> 2
        self._kept = self._words[at + 3].astype(np.int64)
        self._length = self._words[at + 4].astype(np.int64)
        self._status = self._words[at + 5]
        self._start = places_N + (self._words[at + 6] & 0xFFFF)
        if (self._status & _STATUS_LOSING).any():
            raise MeterError("the tap lost frames while it was filling a block")
        if (self._start & 1).any() or (self._start + self._kept > len(whole)).any():
            raise MeterError("a block of the tap names bytes outside itself")
        self._kind = self.big(12)

    def only(self, picked_N: npt.NDArray[np.bool_]) -> _Frames:
        """Some of the frames."""
        some = copy(self)
        for name in ("_kept", "_length", "_status", "_start", "_kind"):
            setattr(some, name, getattr(self, name)[picked_N])
        return some

    def big(self, offset: int | Integers) -> Integers:
        """Two bytes of each frame, at an even offset, in network order; -1 where it ends before."""
        place = np.minimum((self._start + offset) >> 1, self._last)
        pair = self._pairs[place].byteswap().astype(np.int64)
        return np.where(self._kept >= offset + 2, pair, -1)

    def from_address(self, address: bytes) -> npt.NDArray[np.bool_]:
        """Which frames have this source."""
        ours = np.ones(len(self._kept), bool)
        for offset in (0, 2, 4):
            ours &= self.big(6 + offset) == int.from_bytes(address[offset : offset + 2], "big")
        return ours

    def rows(self) -> Integers:
        """The row of `PROTOCOLS` that each frame belongs to."""
        row = np.full(len(self._kind), _ROW_OF["other"])
        tagged = self._status & _STATUS_VLAN != 0
        row[~tagged & (self._kind == 0x0806)] = _ROW_OF["arp"]
        fourth, third = self.big(22), self.big(20)
        # A frame too short to name its protocol is no fragment either: negative, as `big` has it.
        pieces = (fourth >= 0) & (third & 0x3FFF != 0)
        self._sort(row, 4, ~tagged & (self._kind == 0x0800), fourth & 0xFF, fourth >= 0, pieces)
        # At 20 the frame may end within the pair that is read.
        last = np.where((third < 0) & (self._kept == 21), self._single(20), third >> 8)
        self._sort(row, 6, ~tagged & (self._kind == 0x86DD), last, last >= 0, last == 44)
        return row

    def cut(self) -> tuple[Integers, Integers]:
        """Frames that each packet is cut into, and their bytes with a header each."""
        vnet = (self._start - VNET_HEADER) >> 1
        kind = (self._pairs[vnet] >> 8) & ~np.uint16(_GSO_ECN)
        size = self._pairs[vnet + 2].astype(np.int64)
        tcp = (kind == _GSO_TCP4) | (kind == _GSO_TCP6)
        udp = kind == _GSO_UDP
        if not (tcp | udp | (kind == 0)).all():
            raise MeterError("a super-packet is of a kind that the tap cannot cut")
        headers = np.full(len(kind), ETHERNET + 40)
        version4 = self._kind == 0x0800
        headers[version4] = ETHERNET + 4 * (self.big(14)[version4] >> 8 & 0x0F)
        transport = 4 * (np.maximum(self.big(headers + 12), 0) >> 12)
        headers = headers + np.where(udp, 8, transport)
        data = self._length - headers
        many = (tcp | udp) & (size > 0) & (data > 0)
        segments = np.where(many, -(-data // np.maximum(size, 1)), 1)
        return segments, self._length + (segments - 1) * headers

    def _single(self, offset: int) -> Integers:
        place = np.minimum((self._start + offset) >> 1, self._last)
        first: Integers = self._pairs[place].astype(np.int64) & 0xFF
        return first

    @staticmethod
    def _sort(
        row_N: Integers,
        version: int,
        family_N: npt.NDArray[np.bool_],
        number_N: Integers,
        named_N: npt.NDArray[np.bool_],
        pieces_N: npt.NDArray[np.bool_],
    ) -> None:
        row_N[family_N] = _ROW_OF[f"ip{version}.other"]
        names = ("tcp", "udp", "icmp")
        for name, wanted in zip(names, _PROTOCOLS_OF[version], strict=True):
            row_N[family_N & named_N & (number_N == wanted)] = _ROW_OF[f"ip{version}.{name}"]
        row_N[family_N & pieces_N] = _ROW_OF[f"ip{version}.fragment"]


def _sums(row_N: Integers, values_N: Integers) -> Integers:
    # Sums of doubles are exact up to 2**53; a block holds far less.
    return np.bincount(row_N, values_N, len(PROTOCOLS)).astype(np.int64)
