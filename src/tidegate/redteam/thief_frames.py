"""Frames as a thief writes them: right where the kernel looks, what he likes elsewhere. Pure."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
IPV4, IPV6, ARP, VLAN, QINQ = 0x0800, 0x86DD, 0x0806, 0x8100, 0x88A8
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS = 0, 43, 44, 60
SYN, ACK, PUSH = 2, 16, 8

_PAD_N = 1
_MOST_OPTION = 255


def checksum(data: bytes) -> int:
    """The ones' complement sum of RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1]))
    if len(data) & 1:
        total += data[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(
    to: bytes, source: bytes, kind: int, body: bytes, *, tags: tuple[int, ...] = ()
) -> bytes:
    """A frame; each tag of `tags` is a VLAN's number, outermost first."""
    inner = b"".join(struct.pack("!HH", VLAN, tag) for tag in tags)
    return to + source + inner + struct.pack("!H", kind) + body


def ipv4(
    source: str,
    to: str,
    protocol: int,
    body: bytes,
    *,
    identity: int = 0,
    ttl: int = 64,
    service: int = 0,
    fragment: tuple[int, bool] = (0, False),
    options: bytes = b"",
) -> bytes:
    """An IPv4 packet; `fragment` is (offset in bytes, whether more follow).

    `options` are a multiple of four bytes.
    """
    offset, more = fragment
    words = 5 + len(options) // 4
    flags = (offset // 8) | (0x2000 if more else 0)
    start = struct.pack(
        "!BBHHHBBH4s4s",
        0x40 | words,
        service,
        4 * words + len(body),
        identity,
        flags,
        ttl,
        protocol,
        0,
        IPv4Address(source).packed,
        IPv4Address(to).packed,
    )
    header = start + options
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + body


def ipv6(
    source: str,
    to: str,
    protocol: int,
    body: bytes,
    *,
    hops: int = 64,
    service: int = 0,
    label: int = 0,
) -> bytes:
    """An IPv6 packet whose next header is `protocol`."""
    first = 6 << 28 | service << 20 | label
    addresses = IPv6Address(source).packed + IPv6Address(to).packed
    return struct.pack("!IHBB", first, len(body), protocol, hops) + addresses + body


def options_header(after: int, carried: bytes) -> bytes:
    """A hop-by-hop or destination options header: `carried` in padding, which nobody has to read.

    The first of `carried` that fit; 2 + 8n bytes long, at most 2,048.
    """
    body, room = b"", 2040
    while carried and len(body) + 2 < room:
        part, carried = carried[: min(_MOST_OPTION, room - len(body) - 2)], b""
        body += bytes((_PAD_N, len(part))) + part
    lacking = -(len(body) + 2) % 8
    if lacking == 1:
        body += b"\0"
    elif lacking:
        body += bytes((_PAD_N, lacking - 2)) + bytes(lacking - 2)
    return bytes((after, (len(body) + 2) // 8 - 1)) + body


def fragment_header(after: int, offset: int, more: bool, identity: int) -> bytes:
    """RFC 8200, section 4.5; `offset` in bytes."""
    return struct.pack("!BBHI", after, 0, offset | int(more), identity)


def udp(source: str, to: str, ports: tuple[int, int], body: bytes) -> bytes:
    """A datagram with its checksum."""
    start = struct.pack("!HHHH", *ports, 8 + len(body), 0)
    total = checksum(pseudo_header(source, to, UDP, 8 + len(body)) + start + body)
    return start[:6] + struct.pack("!H", total or 0xFFFF) + body


def tcp(
    source: str, to: str, ports: tuple[int, int], body: bytes, *, sequence: int, flags: int
) -> bytes:
    """A segment without options, with its checksum."""
    start = struct.pack("!HHIIBBHHH", *ports, sequence & 0xFFFFFFFF, 1, 5 << 4, flags, 65535, 0, 0)
    total = checksum(pseudo_header(source, to, TCP, 20 + len(body)) + start + body)
    return start[:16] + struct.pack("!H", total) + start[18:] + body


def echo(source: str, to: str, body: bytes, *, sequence: int = 0) -> bytes:
    """An echo request, ICMP or ICMPv6 as the addresses have it."""
    six = ":" in to
    start = struct.pack("!BBHHH", 128 if six else 8, 0, 0, 0x7E1D, sequence & 0xFFFF)
    pseudo = pseudo_header(source, to, ICMPV6, len(start) + len(body)) if six else b""
    total = checksum(pseudo + start + body)
    return start[:2] + struct.pack("!H", total) + start[4:] + body


def arp(operation: int, sender: tuple[bytes, str], target: tuple[bytes, str]) -> bytes:
    """An ARP packet of Ethernet and IPv4; 1 asks, 2 answers."""
    head = struct.pack("!HHBBH", 1, IPV4, 6, 4, operation)
    rows = (mac + IPv4Address(address).packed for mac, address in (sender, target))
    return head + b"".join(rows)


def pseudo_header(source: str, to: str, protocol: int, length: int) -> bytes:
    """What a checksum covers beside the packet itself (RFC 9293, 3.1; RFC 8200, 8.1)."""
    ends = ip_address(source).packed + ip_address(to).packed
    if len(ends) == 8:
        return ends + struct.pack("!BBH", 0, protocol, length)
    return ends + struct.pack("!IBBBB", length, 0, 0, 0, protocol)
