"""One captured frame, taken apart: who sends what to whom. Bytes in, values out.

Nothing is refused for being odd: a frame of an unknown kind, a fragment or a header that lies about
its length still carries bytes out, so each becomes a `Packet` whose flow says what it is. (IEEE
802.3 and 802.1Q, RFC 791, RFC 8200, RFC 9293, RFC 768.)
"""

from __future__ import annotations

import ipaddress
from typing import Final, NamedTuple

from tidegate.scan.headers import behind, odd_of_ipv4, odd_of_ipv6, odd_of_tcp

TCP: Final = "tcp"
UDP: Final = "udp"
ICMP: Final = "icmp"
FRAGMENT: Final = "fragment"
"""Pieces of IP datagrams; ports and sequence numbers are in the first one only."""
MALFORMED: Final = "malformed"

_PROTOCOLS: Final = {1: ICMP, 6: TCP, 17: UDP, 58: ICMP}
NUMBERS: Final = {ICMP: 1, TCP: 6, UDP: 17}
"""IANA protocol numbers of the kinds with a name (ICMPv6 is 58)."""

_IPV4, _IPV6, _VLAN = 0x0800, 0x86DD, (0x8100, 0x88A8)
_EXTENSIONS: Final = frozenset({0, 43, 60, 135, 139, 140})
"""IPv6 headers of the form next, length/8 - 1: hop-by-hop, routing, destination, mobility, host
identity, shim6."""
_OPTIONS: Final = frozenset({0, 60})
_AUTHENTICATION: Final = 51
"""Its form is next, length/4 - 2."""
_MOST_HEADERS: Final = 16
_FIN, _SYN, _RST = 0x01, 0x02, 0x04


class Flow(NamedTuple):
    """One direction of a conversation. Addresses as they are on the wire: 4, 16 or 6 bytes."""

    kind: str
    source: bytes
    source_port: int
    destination: bytes
    destination_port: int

    def __str__(self) -> str:
        ends = (
            (self.source, self.source_port),
            (self.destination, self.destination_port),
        )
        return f"{self.kind} " + " → ".join(
            f"{address(raw)} port {port}" if port else address(raw) for raw, port in ends
        )


class Packet(NamedTuple):
    """What one frame carries. `sequence` is None unless it is TCP; `begins` and `ends` are TCP's
    SYN and FIN or RST. `odd`: what its headers hold, or what lies behind its stated end, that
    honest stacks do not send; `odd_ip` bytes of it are not TCP's options."""

    flow: Flow
    payload: bytes
    sequence: int | None = None
    begins: bool = False
    ends: bool = False
    odd: bytes = b""
    odd_ip: int = 0


def address(raw: bytes) -> str:
    """An address as people write it; anything but 4 or 16 bytes is taken for a link address."""
    if len(raw) in (4, 16):
        return str(ipaddress.ip_address(raw))
    return raw.hex(":") or "?"


def dissect(frame: bytes) -> Packet:
    """An Ethernet frame. Never raises: what cannot be read is of kind `malformed`, or named by its
    number (`ether-0x0806`, `ip-47`), with all that follows the last header that made sense."""
    if len(frame) < 14:
        return Packet(Flow(MALFORMED, b"", 0, b"", 0), frame)
    kind, at = int.from_bytes(frame[12:14]), 14
    while kind in _VLAN and len(frame) >= at + 4:
        kind, at = int.from_bytes(frame[at + 2 : at + 4]), at + 4
    if kind in (_IPV4, _IPV6):
        return dissect_ip(frame[at:])
    return Packet(Flow(f"ether-0x{kind:04x}", frame[6:12], 0, frame[:6], 0), frame[at:])


def dissect_ip(datagram: bytes) -> Packet:
    """An IP datagram, as captures without link headers hold them. As `dissect` otherwise."""
    version = datagram[0] >> 4 if datagram else 0
    if version == 4 and len(datagram) >= 20:
        return _dissect_v4(datagram)
    if version == 6 and len(datagram) >= 40:
        return _dissect_v6(datagram)
    return Packet(Flow(MALFORMED, b"", 0, b"", 0), datagram)


def _dissect_v4(datagram: bytes) -> Packet:
    header = 4 * (datagram[0] & 15)
    total = int.from_bytes(datagram[2:4])
    source, destination = datagram[12:16], datagram[16:20]
    # Offloaded super-packets above 64 KiB say 0; what was captured is what there is.
    if header < 20 or header > len(datagram) or (0 < total < header):
        return Packet(Flow(MALFORMED, source, 0, destination, 0), datagram[20:])
    body = datagram[header : total or len(datagram)]
    odd = odd_of_ipv4(datagram[20:header]) if header > 20 else b""
    odd += behind(datagram, total)
    if int.from_bytes(datagram[6:8]) & 0x3FFF:
        return _with(odd, Packet(Flow(FRAGMENT, source, 0, destination, 0), body))
    return _with(odd, _transport(datagram[9], source, destination, body))


def _dissect_v6(datagram: bytes) -> Packet:
    source, destination = datagram[8:24], datagram[24:40]
    total = int.from_bytes(datagram[4:6])
    body, following = datagram[40 : 40 + total if total else len(datagram)], datagram[6]
    odd = behind(datagram, 40 + total if total else 0)
    for _ in range(_MOST_HEADERS):
        if following == 44 and len(body) >= 8:
            # Reserved bits; a fragment's offset and number everybody sends.
            odd += body[1:2].strip(b"\0") + bytes([body[3] & 6]).strip(b"\0")
            if int.from_bytes(body[2:4]) & 0xFFF9:
                return _with(odd, Packet(Flow(FRAGMENT, source, 0, destination, 0), body[8:]))
            following, body = body[0], body[8:]
        elif following in _EXTENSIONS and len(body) >= 8:
            header = body[: 8 * (body[1] + 1)]
            odd += odd_of_ipv6(header) if following in _OPTIONS else header[2:]
            following, body = body[0], body[len(header) :]
        elif following == _AUTHENTICATION and len(body) >= 8:
            header = body[: 4 * (body[1] + 2)]
            odd += header[2:]
            following, body = body[0], body[len(header) :]
        else:
            break
    return _with(odd, _transport(following, source, destination, body))


def _with(odd: bytes, packet: Packet) -> Packet:
    return packet._replace(odd=odd + packet.odd, odd_ip=len(odd)) if odd else packet


def _transport(number: int, source: bytes, destination: bytes, body: bytes) -> Packet:
    kind = _PROTOCOLS.get(number, f"ip-{number}")
    if kind == TCP and len(body) >= 20:
        header = 4 * (body[12] >> 4)
        if 20 <= header <= len(body):
            flow = _with_ports(kind, source, destination, body)
            flags = body[13]
            return Packet(
                flow,
                body[header:],
                int.from_bytes(body[4:8]),
                begins=bool(flags & _SYN),
                ends=bool(flags & (_FIN | _RST)),
                odd=odd_of_tcp(body[20:header]) if header > 20 else b"",
            )
    if kind == UDP and len(body) >= 8:
        return Packet(_with_ports(kind, source, destination, body), body[8:])
    if kind in (TCP, UDP):
        return Packet(Flow(MALFORMED, source, 0, destination, 0), body)
    return Packet(Flow(kind, source, 0, destination, 0), body)


def _with_ports(kind: str, source: bytes, destination: bytes, body: bytes) -> Flow:
    ports = int.from_bytes(body[:2]), int.from_bytes(body[2:4])
    return Flow(kind, source, ports[0], destination, ports[1])
