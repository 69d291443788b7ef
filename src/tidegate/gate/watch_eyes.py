"""Frames in, sightings out, with when their first byte was on the wire. Pure: no I/O, no clock.

Each flow has a scanner of its own. What flows leave unsaid, because they ended or fell silent
before a scanner had enough, is scanned again as one text for each pair of hosts: a payload cut into
a thousand small connections is still a payload.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from tidegate.scan.packets import Flow, Packet, dissect
from tidegate.scan.sighting import Sighting
from tidegate.scan.stream import Scanner, Settings
from tidegate.scan.streams import Piece, Streams

Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]

SMALL: Final = 1 << 14
"""Bytes; a flow that ends with fewer is scanned with its hosts' other small ones."""
QUIET_NS: Final = 2_000_000_000
"""A flow that is silent for so long is judged on what it has said."""
PIECES: Final = "pieces"
"""Kind of the text that a pair of hosts' small flows are together."""
HEADERS: Final = "headers"
"""Kind of the text that a pair of hosts' odd headers are together."""
_ODD_BYTES: Final = 4096
"""Of TCP's options: some stacks send rare ones, such as a cookie or a second path's."""
_SOURCES = 1 << 16
"""Addresses that are remembered; senders may make up more."""
_MARKS = 512
"""Arrival times kept a flow; with fewer bytes a piece the first ones are forgotten."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A sighting and its flow. `first_ns`: when its first byte was captured, at the latest;
    `at_ns`: when the frame was that showed it; `fresh`: its bytes that no earlier sighting of the
    flow was about; `missed`: bytes of the flow never seen."""

    flow: Flow
    sighting: Sighting
    first_ns: int
    at_ns: int
    fresh: int
    missed: int


@dataclass(frozen=True, slots=True)
class Odd:
    """`size` bytes went out between a flow's hosts in headers that honest stacks do not send."""

    flow: Flow
    size: int
    at_ns: int


@dataclass(slots=True)
class _Watched:
    scanner: Scanner
    at_ns: int
    size: int = 0
    missed: int = 0
    told: int = 0
    start: bytes = b""
    offsets: deque[int] = field(default_factory=lambda: deque(maxlen=_MARKS))
    times: deque[int] = field(default_factory=lambda: deque(maxlen=_MARKS))

    def when(self, offset: int) -> int:
        """When the byte at `offset` came."""
        at = bisect_right(self.offsets, offset) - 1
        return self.times[max(at, 0)]


class Eyes:
    """Watches frames.

    Args:
        settings: of the scanners; take a block of 16 KiB or less to see soon.
        inside: only frames whose source is in these networks, or which have no IP source, are
            looked at. Empty: all are.
        most_flows: beyond it the one that was silent longest is judged and forgotten.
    """

    def __init__(
        self, settings: Settings, inside: Networks = (), *, most_flows: int = 1024
    ) -> None:
        self._settings = settings
        self._inside = inside
        self._most_flows = most_flows
        self._streams = Streams(most_flows=most_flows)
        self._flows: OrderedDict[Flow, _Watched] = OrderedDict()
        self._sources: dict[bytes, bool] = {}
        self._odd: dict[tuple[bytes, bytes], tuple[int, int]] = {}
        self.odd: list[Odd] = []
        """What is to be told of headers; for whoever watches to take out."""
        self.frames = 0
        self.bytes = 0

    def feed(self, frame: bytes, at_ns: int) -> tuple[Seen, ...]:
        """A frame that was captured at `at_ns`, which should not go back."""
        packet = dissect(frame)
        if not self._leaves(packet):
            return ()
        self.frames += 1
        self.bytes += len(packet.payload)
        seen: list[Seen] = []
        for piece in self._streams.feed(packet):
            seen += self._take(piece, at_ns)
        if packet.odd:
            seen += self._headers(packet, at_ns)
        seen += self._forget()
        if packet.ends:
            seen += self._end(packet.flow)
        return tuple(seen)

    def settle(self, now_ns: int) -> tuple[Seen, ...]:
        """What flows say that have been silent for `QUIET_NS`; call it now and then."""
        # What small flows are together has no end: a drip of them is meant to add up.
        quiet = [
            flow
            for flow, watched in self._flows.items()
            if now_ns - watched.at_ns > QUIET_NS and flow.kind != PIECES
        ]
        return tuple(seen for flow in quiet for seen in self._end(flow))

    def drop(self, frame: bytes) -> Flow | None:
        """Begin a frame's flow anew, after scanning it failed; None where it has none."""
        flow = dissect(frame).flow
        self._flows.pop(flow, None)
        return flow

    def close(self) -> tuple[Seen, ...]:
        """What all flows say in the end; first those behind holes."""
        seen: list[Seen] = []
        latest = max((watched.at_ns for watched in self._flows.values()), default=0)
        for piece in self._streams.close():
            seen += self._take(piece, latest)
        # Ending a flow may begin the text of its hosts' small ones, which is then ended too.
        while self._flows:
            seen += self._end(next(iter(self._flows)))
        return tuple(seen)

    def _leaves(self, packet: Packet) -> bool:
        source = packet.flow.source
        if not self._inside or len(source) not in (4, 16):
            return True
        if (known := self._sources.get(source)) is not None:
            return known
        host = ipaddress.ip_address(source)
        leaves = any(host in network for network in self._inside)
        if len(self._sources) < _SOURCES:
            self._sources[source] = leaves
        return leaves

    def _headers(self, packet: Packet, at_ns: int) -> list[Seen]:
        """Count a packet's odd bytes, tell of them where they are too many, and scan them."""
        flow = packet.flow._replace(kind=HEADERS, source_port=0, destination_port=0)
        pair = (flow.source, flow.destination)
        if pair not in self._odd and len(self._odd) >= _SOURCES:
            # Whoever makes up addresses is counted together.
            pair = (b"", b"")
        size, told = self._odd.get(pair, (0, 0))
        size += len(packet.odd)
        if size > 2 * told and (packet.odd_ip or told or size > _ODD_BYTES):
            told = size
            self.odd.append(Odd(flow, size, at_ns))
        self._odd[pair] = size, told
        pieces = self._streams.feed(Packet(flow, packet.odd))
        return [one for piece in pieces for one in self._take(piece, at_ns)]

    def _take(self, piece: Piece, at_ns: int) -> list[Seen]:
        watched = self._flows.get(piece.flow)
        if watched is None:
            watched = self._flows[piece.flow] = _Watched(Scanner(self._settings), at_ns)
        self._flows.move_to_end(piece.flow)
        watched.offsets.append(watched.size)
        watched.times.append(at_ns)
        watched.size += len(piece.data)
        watched.at_ns, watched.missed = at_ns, piece.missed
        if len(watched.start) < SMALL and piece.flow.kind != PIECES:
            watched.start += piece.data[: SMALL - len(watched.start)]
        return _told(piece.flow, watched, watched.scanner.feed(piece.data))

    def _forget(self) -> list[Seen]:
        seen: list[Seen] = []
        gone = [flow for flow in self._streams.forgotten if flow in self._flows]
        self._streams.forgotten.clear()
        for flow in gone:
            seen += self._end(flow)
        while len(self._flows) > self._most_flows:
            seen += self._end(next(iter(self._flows)))
        return seen

    def _end(self, flow: Flow) -> list[Seen]:
        watched = self._flows.pop(flow, None)
        if watched is None:
            return []
        seen = _told(flow, watched, watched.scanner.close())
        if flow.kind != PIECES and watched.size < SMALL and not seen:
            pair = flow._replace(kind=PIECES, source_port=0, destination_port=0)
            seen += self._take(Piece(pair, 0, watched.start, watched.missed), watched.at_ns)
        return seen


def _told(flow: Flow, watched: _Watched, sightings: Iterable[Sighting]) -> list[Seen]:
    seen = []
    for one in sightings:
        end = one.offset + one.length
        fresh = max(0, end - max(one.offset, watched.told))
        watched.told = max(watched.told, end)
        first_ns = watched.when(one.offset)
        seen.append(Seen(flow, one, first_ns, watched.at_ns, fresh, watched.missed))
    return seen
