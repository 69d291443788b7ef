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
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from tidegate.clock import Clock
from tidegate.errors import GateError
from tidegate.gate.incident import Incident
from tidegate.gate.incident_respond import Responder
from tidegate.gate.watch_eyes import Eyes, Odd, Seen
from tidegate.gate.watch_record import Looked, away, read, write
from tidegate.scan.alerts import Alert, blinded, odd_headers, of_sighting, unscanned
from tidegate.scan.packets import Flow, dissect
from tidegate.units import Timestamp

BUFFER: Final = 32 << 20
"""Bytes of frames that may wait to be looked at."""
RECENT: Final = 8 << 20
"""Bytes of frames kept for evidence."""
_BEFORE_NS: Final = 1_000_000_000
"""How long before a first byte a slice of traffic begins."""
_KEEP_S: Final = 5.0
"""How often it is written down how far the watch has looked."""
_LAST_STEPS: Final = 256
"""In the end, to look at what waits; a flood that never lets up is left to the next watch."""
_MOST_SAID: Final = 200
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
        self._cut = 0
        self.drained = False
        """Whether `frames` last ended because no frame was left."""
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
        self.drained = False
        select.select([self._socket], [], [], patience_ms / 1000)
        for _ in range(_AT_ONCE):
            try:
                size, extra, flags, sender = self._socket.recvmsg_into([self._memory], 64)
            except BlockingIOError:
                self.drained = True
                return
            except OSError as error:
                raise GateError(f"lost sight of {self.interface}: {error.strerror}") from error
            if self._outgoing and sender[2] != _OUTGOING:
                continue
            self._cut += bool(flags & socket.MSG_TRUNC)
            seconds, rest = struct.unpack("qq", extra[0][2])
            yield seconds * _NS + rest, bytes(memoryview(self._memory)[:size])

    def lost(self) -> int:
        """Frames that were not looked at, or not to their end, since this was last asked."""
        counted = self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 8)
        cut, self._cut = self._cut, 0
        return int(struct.unpack("II", counted)[1]) + cut

    def counted(self) -> tuple[int, int]:
        """The interface's index, and packets that it counted in the direction that is watched; ask
        in the interface's namespace. Raises GateError where it is gone."""
        try:
            rows = Path("/proc/thread-self/net/dev").read_text().splitlines()
            row = next(row for row in rows if row.strip().startswith(f"{self.interface}:"))
            numbers = row.partition(":")[2].split()
            index = socket.if_nametoindex(self.interface)
            return index, int(numbers[9 if self._outgoing else 1])
        except (OSError, StopIteration, IndexError, ValueError) as error:
            raise GateError(f"lost sight of {self.interface}: nobody counts it") from error

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
    """One interface being watched. Use it as a context manager.

    Args:
        capture: open already, so that what passes while the watch begins waits to be looked at.
        eyes: look at the frames.
        responder: handles what they see, and what they could not look at.
        clock: `now()` is the time of alarms that no frame has.
        folder: remembers how far the watch has looked; None where nobody needs to know.
        boot: the kernel's name for this boot, which its counts belong to.
    """

    def __init__(
        self,
        capture: Capture,
        eyes: Eyes,
        responder: Responder,
        clock: Clock,
        *,
        folder: Path | None = None,
        boot: str = "",
    ) -> None:
        self._capture = capture
        self._eyes = eyes
        self._responder = responder
        self._clock = clock
        self._folder, self._boot = folder, boot
        self._recent = Recent()
        self._kept = -_KEEP_S
        self.missed = 0
        self.failed = 0
        """Frames, and turns of judging silent flows, that broke the scan."""

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.close()

    def run(self, stop: Callable[[], bool], told: Callable[[Incident], None]) -> None:
        """Watch until `stop()`, then judge what is still open; each alert's incident is told.

        Raises GateError where the interface can no longer be watched.
        """
        self._begin(told)
        while not stop():
            self.step(told)
        last = self._count()
        for _ in range(_LAST_STEPS):
            self.step(told)
            if self._capture.drained:
                self._keep(last, ended=True)
                break
        self._look(self._eyes.close, None, told)

    def step(self, told: Callable[[Incident], None]) -> None:
        """Look at what is there. What breaks the scan is counted, alarmed on, and not looked at
        again; the watch goes on."""
        now = self._clock.monotonic()
        due = self._folder is not None and now - self._kept >= _KEEP_S
        before = self._count() if due else None
        for at_ns, frame in self._capture.frames():
            self._recent.add(at_ns, frame)
            self._look(partial(self._eyes.feed, frame, at_ns), frame, told)
        if before is not None and self._capture.drained:
            # What had been counted by then has been looked at by now.
            self._keep(before)
            self._kept = now
        self._look(partial(self._eyes.settle, int(self._clock.now() * _NS)), None, told)
        if lost := self._capture.lost():
            self.missed += lost
            self._raise(blinded(self._capture.interface, lost, self._clock.now()), told)

    def _begin(self, told: Callable[[Incident], None]) -> None:
        if self._folder is None or (now := self._count()) is None:
            return
        if (before := read(self._folder)) is not None and (alert := away(before, now)) is not None:
            self.missed += alert.facts["frames"] or 0
            self._raise(alert, told)
        self._keep(now)

    def _look(
        self,
        look: Callable[[], tuple[Seen, ...]],
        frame: bytes | None,
        told: Callable[[Incident], None],
    ) -> None:
        incidents: list[Incident] = []
        try:
            for seen in look():
                incidents += self._handle(seen)
            while self._eyes.odd:
                incidents += self._handle_odd(self._eyes.odd.pop(0))
        except Exception as error:  # noqa: BLE001  whatever a sender found, the watch goes on
            incidents += self._broken(error, frame)
        for incident in incidents:
            told(incident)

    def _broken(self, error: Exception, frame: bytes | None) -> tuple[Incident, ...]:
        self.failed += 1
        now, flow = self._clock.now(), None
        if frame is not None:
            # Taking the frame apart may be what failed.
            with suppress(Exception):
                flow = self._eyes.drop(frame)
        why = f"{type(error).__name__}: {error}"[:_MOST_SAID]
        alert = unscanned(flow, len(frame or b""), why, now)
        kept = () if frame is None else ((int(now * _NS), frame),)
        return self._responder.handle(alert, now, lambda: kept)

    def _raise(self, alert: Alert, told: Callable[[Incident], None]) -> None:
        for incident in self._responder.handle(alert, Timestamp(alert.time), lambda: ()):
            told(incident)

    def _handle(self, seen: Seen) -> tuple[Incident, ...]:
        alert = of_sighting(seen.sighting, seen.flow, Timestamp(seen.at_ns / _NS))
        # Several things may be said of the same bytes; they leaked once.
        alert = msgspec.structs.replace(alert, bytes=seen.fresh)

        def frames() -> Sequence[tuple[int, bytes]]:
            return self._recent.of(seen.flow, seen.first_ns - _BEFORE_NS)

        return self._responder.handle(alert, Timestamp(seen.first_ns / _NS), frames)

    def _handle_odd(self, odd: Odd) -> tuple[Incident, ...]:
        at = Timestamp(odd.at_ns / _NS)
        alert = odd_headers(odd.flow, odd.size, at)
        return self._responder.handle(alert, at, lambda: self._recent.of(odd.flow, 0))

    def _count(self) -> Looked | None:
        if self._folder is None:
            return None
        index, packets = self._capture.counted()
        interface, now = self._capture.interface, self._clock.now()
        return Looked(boot=self._boot, interface=interface, index=index, packets=packets, at=now)

    def _keep(self, looked: Looked | None, *, ended: bool = False) -> None:
        if self._folder is None or looked is None:
            return
        # Where it cannot be kept, the next watch takes more for unseen than was.
        with suppress(GateError):
            write(self._folder, msgspec.structs.replace(looked, ended=ended))
