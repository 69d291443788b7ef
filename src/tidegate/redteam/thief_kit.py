"""What a thief has in his namespace: root there, its one interface, the secret, and some time."""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tidegate.errors import GateError
from tidegate.gate import worlds
from tidegate.redteam import thief_frames as frames
from tidegate.redteam.thief_secret import HEADER, piece, secret

BROADCAST: Final = b"\xff" * 6
MOST_SENT: Final = 24_000_000
"""Bytes of one attack, spread over its time: many times every quota."""

API, SSH, DNS = 443, 22, 53
"""Ports that the policy has classes for."""

_SOL_PACKET, _VNET_HDR = 263, 15
_RESOLVE_S = 3.0


@dataclass(slots=True)
class Kit:
    """One attack's means. Its methods may be called from several threads."""

    seconds: float
    sent: int = 0
    """Bytes offered to the kernel."""
    _of: bytes = field(default_factory=secret)
    _offset: int = 0
    _began: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def running(self) -> bool:
        """Whether there is time left. Waits where more was sent than is this attack's by now."""
        while (passed := time.monotonic() - self._began) < self.seconds:
            if self.sent <= MOST_SENT * passed / self.seconds:
                return True
            time.sleep(0.005)
        return False

    def pieces(self, length: int) -> Iterator[bytes]:
        """Ever new pieces of the secret, of `length` bytes each, while the attack runs."""
        while self.running():
            yield self.piece(length)

    def piece(self, length: int) -> bytes:
        """The next piece."""
        with self._lock:
            start, self._offset = self._offset, self._offset + length - HEADER
        return piece(self._of, start, length)

    def run(self, length: int) -> tuple[int, bytes]:
        """The next bytes of the secret without a mark, and where they belong."""
        with self._lock:
            start, self._offset = self._offset, self._offset + length
        start %= len(self._of) - length
        return start, self._of[start : start + length]

    def count(self, size: int) -> None:
        """So many bytes were offered."""
        with self._lock:
            self.sent += size

    def say(self, sender: socket.socket, data: bytes, to: tuple[str, int] | None = None) -> None:
        """Send, and do not mind being refused."""
        with suppress(OSError):
            self.count(sender.sendto(data, to) if to else sender.send(data))

    def pause(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def wait_until(self, moment: float) -> None:
        """Return as exactly at `moment` of the monotonic clock as can be."""
        time.sleep(max(0.0, moment - time.monotonic() - 0.0005))
        while time.monotonic() < moment:
            pass

    def together(self, *attacks: Callable[[Kit], None]) -> None:
        """Run several attacks at once."""
        threads = [threading.Thread(target=attack, args=(self,)) for attack in attacks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


@contextmanager
def raw(*, vnet: bool = False) -> Iterator[socket.socket]:
    """A socket for whole frames; with `vnet` each begins with a `struct virtio_net_hdr`."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as made:
        if vnet:
            made.setsockopt(_SOL_PACKET, _VNET_HDR, 1)
        made.bind((worlds.UP, 0))
        yield made


def vnet_header(kind: int, header: int, size: int, checksum_at: tuple[int, int]) -> bytes:
    """Has the kernel cut what follows into parts of `size` bytes, headers repeated."""
    return struct.pack("<BBHHHH", 1, kind, header, size, *checksum_at)


def own_address() -> bytes:
    """The hardware address of the interface."""
    text = Path("/sys/class/net", worlds.UP, "address").read_text()
    return bytes.fromhex(text.strip().replace(":", ""))


def gate_address() -> bytes:
    """The gate's hardware address, as the kernel resolves it. Raises GateError if it does not."""
    until = time.monotonic() + _RESOLVE_S
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        while time.monotonic() < until:
            asking.sendto(b"", (worlds.INSIDE_V4, 9))
            for line in Path("/proc/net/arp").read_text().splitlines()[1:]:
                address, _, flags, mac, *_ = line.split()
                if address == worlds.INSIDE_V4 and int(flags, 16) & 2:
                    return bytes.fromhex(mac.replace(":", ""))
            time.sleep(0.05)
    raise GateError("the gate does not answer ARP inside")


def add_addresses(addresses: list[str]) -> None:
    """Give the interface more addresses of its own."""
    lines = "".join(f"address add {one}/24 dev {worlds.UP}\n" for one in addresses)
    subprocess.run(["ip", "-force", "-batch", "-"], input=lines.encode(), check=False)  # noqa: S607


class Wire:
    """Frames to the gate, written by hand."""

    def __init__(self, kit: Kit, sender: socket.socket, *, vnet: bool = False) -> None:
        self._kit, self._sender = kit, sender
        self._vnet = vnet
        self.own, self.gate = own_address(), gate_address()

    def frame(
        self, kind: int, body: bytes, *, to: bytes | None = None, **options: tuple[int, ...]
    ) -> None:
        """Any frame."""
        made = frames.ethernet(to or self.gate, self.own, kind, body, **options)
        self._kit.say(self._sender, bytes(10) + made if self._vnet else made)

    def ip(self, packet: bytes) -> None:
        """An IP packet of either version."""
        self.frame(frames.IPV6 if packet[0] >> 4 == 6 else frames.IPV4, packet)

    def super_packet(self, header: bytes, packet: bytes) -> None:
        """An IP packet that the kernel is told to cut up."""
        kind = frames.IPV6 if packet[0] >> 4 == 6 else frames.IPV4
        self._kit.say(self._sender, header + frames.ethernet(self.gate, self.own, kind, packet))
