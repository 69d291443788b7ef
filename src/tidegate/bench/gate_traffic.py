"""Mixed traffic from inner to outside, through a gate in namespaces of this machine.

Every stream is real: sockets of the kernel in their own namespaces, with the kernel's own segments,
fragments and acknowledgements.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from tidegate.gate.worlds import INNER, OUTSIDE, OUTSIDE_V4, OUTSIDE_V6, UP, World

_CHUNK: Final = bytes(1 << 16)
_TCP_CONGESTION: Final = 13
_PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Sent:
    """Bytes of payload that were handed to the kernel, and how many of them arrived."""

    sent: int
    arrived: int


def tcp(world: World, size: int, *, mss: int, ipv6: bool = False) -> Sent:
    """One connection that carries `size` bytes out, in segments of `mss` bytes with options."""
    family, address = _where(ipv6)
    arrived: list[int] = []
    with ExitStack() as stack:
        server = stack.enter_context(world.enter(OUTSIDE, lambda: _listening(family, address)))
        thread = threading.Thread(target=lambda: arrived.append(_drain(server)), daemon=True)
        thread.start()
        client = stack.enter_context(world.enter(INNER, lambda: socket.socket(family)))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss)
        # Paced congestion control waits for a timer a segment where nothing is offloaded.
        client.setsockopt(socket.IPPROTO_TCP, _TCP_CONGESTION, b"reno")
        client.settimeout(_PATIENCE_S)
        client.connect(server.getsockname()[:2])
        left = size
        while left > 0:
            client.sendall(_CHUNK[: min(left, len(_CHUNK))])
            left -= len(_CHUNK)
        client.shutdown(socket.SHUT_WR)
        thread.join(_PATIENCE_S)
    return Sent(size, sum(arrived))


def keystrokes(world: World, count: int, *, ipv6: bool = False) -> Sent:
    """Like a shell session: segments of few bytes, each answered before the next."""
    family, address = _where(ipv6)
    with ExitStack() as stack:
        server = stack.enter_context(world.enter(OUTSIDE, lambda: _listening(family, address)))
        thread = threading.Thread(target=lambda: _echo(server), daemon=True)
        thread.start()
        client = stack.enter_context(world.enter(INNER, lambda: socket.socket(family)))
        client.settimeout(_PATIENCE_S)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.connect(server.getsockname()[:2])
        echoed = 0
        for number in range(count):
            client.sendall(bytes(36 + number % 13))
            echoed += len(client.recv(100))
        client.shutdown(socket.SHUT_WR)
        thread.join(_PATIENCE_S)
    return Sent(sum(36 + number % 13 for number in range(count)), echoed)


def datagrams(world: World, sizes: tuple[int, ...], *, ipv6: bool = False) -> Sent:
    """UDP: names asked for, whole datagrams, and such that have to be fragmented."""
    family, address = _where(ipv6)
    with ExitStack() as stack:
        server = stack.enter_context(world.enter(OUTSIDE, lambda: _bound(family, address)))
        arrived: list[int] = []
        thread = threading.Thread(
            target=lambda: arrived.append(_received(server, len(sizes))), daemon=True
        )
        thread.start()
        client = stack.enter_context(
            world.enter(INNER, lambda: socket.socket(family, socket.SOCK_DGRAM))
        )
        for size in sizes:
            client.sendto(bytes(size), server.getsockname()[:2])
        thread.join(_PATIENCE_S)
    return Sent(sum(sizes), sum(arrived))


def echoes(world: World, count: int) -> None:
    """ICMP echo requests of many sizes, from a raw socket."""

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
            for number in range(count):
                body = bytes(8 * (number % 180))
                head = struct.pack("!BBHHH", 8, 0, 0, 1, number)
                sent = struct.pack("!BBHHH", 8, 0, _checksum(head + body), 1, number)
                raw.sendto(sent + body, (OUTSIDE_V4, 0))

    world.enter(INNER, send)


def forget_neighbours(world: World) -> None:
    """Make the gate ask for the far side's address again: ARP and neighbour discovery."""
    for role, device in (("gate", "out"), (INNER, UP)):
        world.run(role, ["ip", "neigh", "flush", "dev", device])


def mixed(world: World, size: int, *, mss: int, told: Callable[[], None] = lambda: None) -> int:
    """About `size` bytes of everything, with segments of `mss`; the payload bytes that arrived.

    Raises nothing for what is lost on the way: the meters count what left.
    """
    got = 0
    for ipv6 in (False, True):
        forget_neighbours(world)
        got += tcp(world, size // 2 - 100_000, mss=mss, ipv6=ipv6).arrived
        told()
        got += datagrams(world, (40, 44, 512, 1200, 1452, 3000, 8000) * 4, ipv6=ipv6).arrived
        got += keystrokes(world, 100, ipv6=ipv6).arrived
        told()
    echoes(world, 60)
    return got


def _where(ipv6: bool) -> tuple[socket.AddressFamily, str]:
    return (socket.AF_INET6, OUTSIDE_V6) if ipv6 else (socket.AF_INET, OUTSIDE_V4)


def _listening(family: socket.AddressFamily, address: str) -> socket.socket:
    server = socket.create_server((address, 0), family=family)
    server.settimeout(_PATIENCE_S)
    return server


def _bound(family: socket.AddressFamily, address: str) -> socket.socket:
    server = socket.socket(family, socket.SOCK_DGRAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    server.settimeout(1.0)
    server.bind((address, 0))
    return server


def _drain(server: socket.socket) -> int:
    arrived, buffer = 0, bytearray(1 << 20)
    connection, _ = server.accept()
    with connection:
        while got := connection.recv_into(buffer):
            arrived += got
    return arrived


def _echo(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while got := connection.recv(100):
            connection.sendall(got)


def _received(server: socket.socket, count: int) -> int:
    arrived = 0
    try:
        for _ in range(count):
            arrived += len(server.recv(65_536))
    except TimeoutError:
        # Some were lost on the way, as datagrams may be.
        return arrived
    return arrived


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
