"""Looks at what leaves an interface, live: AF_PACKET into `watch_eyes`, and alarms out.

It runs on the gate, where it can also stop what it sees, or on the tap's host, where nothing on the
gate can blind it. It is no meter: frames that come faster than it looks are missed and counted,
which is an alarm of its own, and the quotas hold for them as for all others.
"""

from __future__ import annotations

import select
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from tidegate.clock import Clock
from tidegate.errors import GateError
from tidegate.gate.incident import Incident
from tidegate.gate.incident_respond import Responder
from tidegate.gate.watch_eyes import Eyes, Seen
from tidegate.scan.alerts import blinded, of_sighting
from tidegate.scan.packets import Flow, dissect
from tidegate.units import Timestamp

BUFFER: Final = 32 << 20
"""Bytes of frames that may wait to be looked at."""
RECENT: Final = 8 << 20
"""Bytes of frames kept for evidence."""
_BEFORE_NS: Final = 1_000_000_000
"""How long before a first byte a slice of traffic begins."""
_PATIENCE_MS: Final = 100
_AT_ONCE: Final = 256
_FRAME: Final = 1 << 18
_EVERY_PROTOCOL, _OUTGOING = 3, 4
_SOL_PACKET, _STATISTICS, _SO_TIMESTAMPNS, _SO_RCVBUFFORCE = 263, 6, 35, 33
_NS = 1_000_000_000


class Capture:
    """Frames of one interface, whole, with the kernel's time of each. Open it in the namespace.

    Args:
        interface: its name.
        outgoing: only those that leave; a tap's interface receives them, so there all count.

    Raises:
        GateError: no such interface, or no right to capture.
    """

    def __init__(self, interface: str, *, outgoing: bool) -> None:
        self.interface = interface
        self._outgoing = outgoing
        self._memory = bytearray(_FRAME)
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        except OSError as error:
            raise GateError(f"cannot capture: {error.strerror}; it takes CAP_NET_RAW") from error
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._socket.setblocking(False)
            self._socket.bind((interface, _EVERY_PROTOCOL))
        except OSError as error:
            self._socket.close()
            raise GateError(f"cannot capture on {interface}: {error.strerror}") from error

    def frames(self, patience_ms: int = _PATIENCE_MS) -> Iterator[tuple[int, bytes]]:
        """Frames that are there, or the first to come in that time: nanoseconds since the Unix
        epoch, and bytes. Raises GateError where the interface is gone or down."""
        select.select([self._socket], [], [], patience_ms / 1000)
        for _ in range(_AT_ONCE):
            try:
                size, extra, _, sender = self._socket.recvmsg_into([self._memory], 64)
            except BlockingIOError:
                return
            except OSError as error:
                raise GateError(f"lost sight of {self.interface}: {error.strerror}") from error
            if self._outgoing and sender[2] != _OUTGOING:
                continue
            seconds, rest = struct.unpack("qq", extra[0][2])
            yield seconds * _NS + rest, bytes(memoryview(self._memory)[:size])

    def lost(self) -> int:
        """Frames that were not looked at since this was last asked."""
        counted = self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 8)
        return int(struct.unpack("II", counted)[1])

    def close(self) -> None:
        """Stop capturing."""
        self._socket.close()


class Recent:
    """The frames of the last moments, for evidence; the oldest are forgotten."""

    def __init__(self, most_bytes: int = RECENT) -> None:
        self._frames: deque[tuple[int, bytes]] = deque()
        self._most, self._size = most_bytes, 0

    def add(self, at_ns: int, frame: bytes) -> None:
        """One more frame."""
        self._frames.append((at_ns, frame))
        self._size += len(frame)
        while self._size > self._most:
            self._size -= len(self._frames.popleft()[1])

    def of(self, flow: Flow, since_ns: int) -> list[tuple[int, bytes]]:
        """Those between the flow's hosts, either way, from `since_ns` on."""
        hosts = {flow.source, flow.destination}
        return [
            (at_ns, frame)
            for at_ns, frame in self._frames
            if at_ns >= since_ns
            and {(found := dissect(frame).flow).source, found.destination} == hosts
        ]


class Watch:
    """One interface being watched. Use it as a context manager."""

    def __init__(self, capture: Capture, eyes: Eyes, responder: Responder, clock: Clock) -> None:
        self._capture = capture
        self._eyes = eyes
        self._responder = responder
        self._clock = clock
        self._recent = Recent()
        self.missed = 0

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.close()

    def run(self, stop: Callable[[], bool], told: Callable[[Incident], None]) -> None:
        """Watch until `stop()`, then judge what is still open; each alert's incident is told.

        Raises GateError where the interface can no longer be watched.
        """
        while not stop():
            self.step(told)
        for seen in self._eyes.close():
            told(self._handle(seen))

    def step(self, told: Callable[[Incident], None]) -> None:
        """Look at what is there."""
        for at_ns, frame in self._capture.frames():
            self._recent.add(at_ns, frame)
            for seen in self._eyes.feed(frame, at_ns):
                told(self._handle(seen))
        now = self._clock.now()
        for seen in self._eyes.settle(int(now * _NS)):
            told(self._handle(seen))
        if lost := self._capture.lost():
            self.missed += lost
            alert = blinded(self._capture.interface, lost, now)
            told(self._responder.handle(alert, now, lambda: ()))

    def _handle(self, seen: Seen) -> Incident:
        alert = of_sighting(seen.sighting, seen.flow, Timestamp(seen.at_ns / _NS))
        # Several things may be said of the same bytes; they leaked once.
        alert = msgspec.structs.replace(alert, bytes=seen.fresh)

        def frames() -> Sequence[tuple[int, bytes]]:
            return self._recent.of(seen.flow, seen.first_ns - _BEFORE_NS)

        return self._responder.handle(alert, Timestamp(seen.first_ns / _NS), frames)
