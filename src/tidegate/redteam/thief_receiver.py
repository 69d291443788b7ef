"""The thief's friend outside: takes whatever comes, and says how much of it was the secret.

Runs as a program in the namespace `outside` (`python -m tidegate.redteam.thief_receiver`): says
`ready`, counts until it is told to end, and prints what it has.
"""

from __future__ import annotations

import selectors
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise

import msgspec

from tidegate.gate.arrivals import Arrivals
from tidegate.gate.worlds import DOWN
from tidegate.redteam.thief_kit import API, DNS, SSH
from tidegate.redteam.thief_secret import Puzzle, information
from tidegate.redteam.thief_sockets import STEP_S, STEPS, TICK_S, symbol, ticking

_SOLICITATION = 135
_TARGET = slice(70, 78)
"""The last eight bytes of whom a neighbour solicitation asks for, in its frame."""
_TICK = ticking(0)[:4]


class Haul(msgspec.Struct, frozen=True):
    """What came out. `frames`, `wire_bytes`: everything that arrived, with all its headers.
    `secret_bytes`: distinct bytes of the secret that were right. `timing_bits`: said by when
    datagrams came, beside what they held."""

    frames: int
    wire_bytes: int
    secret_bytes: int
    timing_bits: float


class Listener:
    """Puts the secret together from frames; streams are told to it as they are read."""

    def __init__(self) -> None:
        self.puzzle = Puzzle()
        self.lock = threading.Lock()
        self._ticks: list[tuple[int, int]] = []

    def frame(self, frame: bytes, stamp_ns: int) -> None:
        """One frame off the wire."""
        with self.lock:
            self.puzzle.frame(frame)
            if frame[12:14] == b"\x86\xdd" and frame[54:55] == bytes((_SOLICITATION,)):
                asked = frame[_TARGET]
                self.puzzle.stream(int.from_bytes(asked[:3], "big"), asked[3:])
        at = frame.find(_TICK)
        if at >= 0 and len(frame) >= at + 8:
            self._ticks.append((int.from_bytes(frame[at + 4 : at + 8], "big"), stamp_ns))

    def stream(self) -> Stream:
        """A new connection."""
        return Stream(self)

    def timing_bits(self) -> float:
        """What the datagrams' times said."""
        read = tuple(read_symbols(self._ticks))
        wrong = sum(said != meant for said, meant in read)
        return information(len(read), wrong, STEPS)


class Stream:
    """One connection: perhaps a greeting, then four bytes of place, then the secret."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._held = b""
        self._offset: int | None = None

    def take(self, data: bytes) -> None:
        """Bytes as they came."""
        if self._offset is None:
            self._held += data
            if self._held.startswith(b"SSH-"):
                _, newline, rest = self._held.partition(b"\n")
                if not newline:
                    return
                self._held = rest
            if len(self._held) < 4:
                return
            self._offset, data = int.from_bytes(self._held[:4], "big"), self._held[4:]
        with self._listener.lock:
            self._listener.puzzle.stream(self._offset, data)
        self._offset += len(data)


def read_symbols(ticks: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """(read, meant) of every two datagrams that came one after the other."""
    for (before, sooner), (number, later) in pairwise(ticks):
        if number == before + 1:
            steps = ((later - sooner) * 1e-9 - TICK_S) / STEP_S
            yield round(min(STEPS - 1, max(0.0, steps))), symbol(number)


def _serve(listener: Listener, stop: threading.Event) -> None:
    waiting = selectors.DefaultSelector()
    streams: dict[socket.socket, Stream] = {}
    for port in (API, SSH):
        server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        server.setblocking(False)
        waiting.register(server, selectors.EVENT_READ)
    datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    # Bound so that nobody answers "port unreachable"; what comes is read off the wire.
    datagrams.bind(("::", DNS))
    while not stop.is_set():
        for key, _ in waiting.select(0.05):
            one = key.fileobj
            if not isinstance(one, socket.socket):
                continue
            if one not in streams and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                made, _ = one.accept()
                made.setblocking(False)
                streams[made] = listener.stream()
                waiting.register(made, selectors.EVENT_READ)
            elif not _read(one, streams[one]):
                waiting.unregister(one)
                streams.pop(one)
                one.close()


def _read(one: socket.socket, stream: Stream) -> bool:
    try:
        data = one.recv(1 << 18)
    except BlockingIOError:
        return True
    except OSError:
        return False
    stream.take(data)
    return bool(data)


def main() -> None:
    """Count until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    listener = Listener()
    server = threading.Thread(target=_serve, args=(listener, stop))
    with Arrivals(DOWN, listener.frame) as arrivals:
        server.start()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        stop.wait()
        server.join()
    haul = Haul(
        arrivals.frames,
        arrivals.wire_bytes,
        listener.puzzle.bytes_known(),
        listener.timing_bits(),
    )
    sys.stdout.write(msgspec.json.encode(haul).decode() + "\n")


if __name__ == "__main__":
    main()
