"""Sends as fast as it may, until it is killed: `gate_flood.py ADDRESS PORT SIZE PAUSE`.

A program of its own, with nothing but the standard library, so that it starts at once in a
namespace and shares no lock with what measures it. `PAUSE` is seconds between datagrams;
`stream` in its place makes it one TCP connection.
"""

from __future__ import annotations

import socket
import sys
import time

_CONGESTION = 13
"""TCP_CONGESTION."""


def stream(address: str, port: int, size: int) -> None:
    """Never returns unless the far end hangs up."""
    data = bytes(size)
    with socket.create_connection((address, port)) as client:
        # Paced congestion control waits for a timer a segment where nothing is offloaded.
        client.setsockopt(socket.IPPROTO_TCP, _CONGESTION, b"reno")
        while True:
            client.sendall(data)


def main(address: str, port: int, size: int, pause: float) -> None:
    """Never returns; what the kernel refuses is sent again."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    data = bytes(size)
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        while True:
            try:
                client.sendto(data, (address, port))
            except OSError:
                time.sleep(0.001)
            if pause:
                time.sleep(pause)


if __name__ == "__main__":
    if sys.argv[4] == "stream":
        stream(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
