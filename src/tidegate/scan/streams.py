"""Packets to the byte streams they carry, with memory that is bounded whatever is sent.

TCP is put in order by sequence number. Bytes sent again are a stream of their own, of kind
`tcp-repeated`: a sender whose retransmissions say something new is seen saying it. Whatever is not
TCP is taken in order of arrival. A hole that stays open is skipped and counted, never waited for.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tidegate.scan.packets import Flow, Packet

REPEATED: Final = "tcp-repeated"
_MOST_SEGMENTS: Final = 1024
"""Segments of one flow that may wait for a hole, however small they are."""
_SPACE = 1 << 32
_HALF = 1 << 31


class Piece(NamedTuple):
    """Bytes `offset` to `offset + len(data)` of a flow's stream. `missed`: bytes of the stream, so
    far, that were never seen; they have no place in `offset`."""

    flow: Flow
    offset: int
    data: bytes
    missed: int = 0


@dataclass(slots=True)
class _Stream:
    offset: int = 0
    expected: int | None = None
    waiting: dict[int, bytes] = field(default_factory=dict)
    held: int = 0
    missed: int = 0


class Streams:
    """Puts streams together.

    Args:
        most_flows: beyond it the flow that was silent longest is forgotten.
        most_held: bytes of one flow that may wait for a hole before it is skipped.
    """

    def __init__(self, *, most_flows: int = 4096, most_held: int = 1 << 18) -> None:
        self._streams: OrderedDict[Flow, _Stream] = OrderedDict()
        self._most_flows = most_flows
        self._most_held = most_held
        self.forgotten: list[Flow] = []

    def feed(self, packet: Packet) -> tuple[Piece, ...]:
        """What can be said of the packet's flow now; empty while its bytes wait for earlier ones.

        Flows that had to be forgotten for it are appended to `forgotten`, for whoever keeps
        something for each.
        """
        stream = self._stream(packet.flow)
        if packet.sequence is None:
            return self._take(packet.flow, stream, packet.payload)
        first = (packet.sequence + packet.begins) % _SPACE
        if stream.expected is None or packet.begins:
            stream.expected = first
        if not packet.payload:
            return ()
        ahead = _ahead(first, stream.expected)
        if ahead > 0:
            again = self._hold(packet.flow, stream, first, packet.payload)
            full = stream.held > self._most_held or len(stream.waiting) > _MOST_SEGMENTS
            return again + (self._skip(packet.flow, stream) if full else ())
        again = self._again(packet.flow, packet.payload[:-ahead]) if ahead < 0 else ()
        taken = self._take(packet.flow, stream, packet.payload[-ahead:])
        return again + taken + self._drain(packet.flow, stream)

    def close(self) -> tuple[Piece, ...]:
        """What still waits behind holes, hole by hole."""
        pieces: list[Piece] = []
        for flow, stream in tuple(self._streams.items()):
            while stream.waiting:
                pieces += self._skip(flow, stream)
        return tuple(pieces)

    def _stream(self, flow: Flow) -> _Stream:
        stream = self._streams.get(flow)
        if stream is None:
            stream = self._streams[flow] = _Stream()
            if len(self._streams) > self._most_flows:
                self.forgotten.append(self._streams.popitem(last=False)[0])
        self._streams.move_to_end(flow)
        return stream

    def _again(self, flow: Flow, data: bytes) -> tuple[Piece, ...]:
        """Bytes for places of the stream that had theirs."""
        repeated = flow._replace(kind=REPEATED)
        return self._take(repeated, self._stream(repeated), data) if data else ()

    def _hold(self, flow: Flow, stream: _Stream, first: int, data: bytes) -> tuple[Piece, ...]:
        before = stream.waiting.get(first, b"")
        if len(data) > len(before):
            stream.waiting[first] = before + data[len(before) :]
            stream.held += len(data) - len(before)
        return self._again(flow, data[: len(before)])

    def _skip(self, flow: Flow, stream: _Stream) -> tuple[Piece, ...]:
        expected = stream.expected or 0
        nearest = min(stream.waiting, key=lambda first: _ahead(first, expected))
        stream.missed += max(0, _ahead(nearest, expected))
        stream.expected = nearest
        return self._drain(flow, stream)

    def _drain(self, flow: Flow, stream: _Stream) -> tuple[Piece, ...]:
        pieces: list[Piece] = []
        while stream.waiting:
            expected = stream.expected or 0
            nearest = min(stream.waiting, key=lambda first: _ahead(first, expected))
            ahead = _ahead(nearest, expected)
            if ahead > 0:
                break
            data = stream.waiting.pop(nearest)
            stream.held -= len(data)
            if ahead < 0:
                pieces += self._again(flow, data[:-ahead])
            pieces += self._take(flow, stream, data[-ahead:])
        return tuple(pieces)

    @staticmethod
    def _take(flow: Flow, stream: _Stream, data: bytes) -> tuple[Piece, ...]:
        if not data:
            return ()
        piece = Piece(flow, stream.offset, data, stream.missed)
        stream.offset += len(data)
        if stream.expected is not None:
            stream.expected = (stream.expected + len(data)) % _SPACE
        return (piece,)


def _ahead(first: int, expected: int) -> int:
    """How far `first` lies beyond `expected`, modulo 2**32: negative where it lies before."""
    return (first - expected + _HALF) % _SPACE - _HALF
