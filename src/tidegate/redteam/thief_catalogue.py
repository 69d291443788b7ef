"""Every way the thief tries, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tidegate.redteam import thief_raw, thief_sockets
from tidegate.redteam.thief_kit import Kit


@dataclass(frozen=True, slots=True)
class Attack:
    """`classes` are those whose quotas he could use up; none: nothing of it may pass but what the
    gate itself says to find its neighbours. `reloads`: the policy is changed all the while."""

    name: str
    says: str
    classes: tuple[str, ...]
    send: Callable[[Kit], None]
    reloads: bool = False


def everything(kit: Kit) -> None:
    """All at once, in threads of their own."""
    kit.together(
        thief_sockets.bulk,
        thief_sockets.over_ipv6,
        thief_sockets.ssh,
        thief_sockets.dns,
        thief_sockets.icmp,
        thief_sockets.udp_segments,
        thief_raw.raw_l2,
        thief_raw.fragments,
        thief_raw.spoofed,
        thief_raw.super_packets,
    )


def flood(kit: Kit) -> None:
    """Every class at once, and on and on when all is spent."""
    kit.together(
        thief_sockets.bulk,
        thief_sockets.over_ipv6,
        thief_sockets.ssh,
        thief_sockets.dns,
        thief_raw.protocols,
        thief_sockets.icmp,
    )


_ALL = ("api", "ssh", "dns")

ATTACKS = (
    Attack("bulk", "one TCP connection as fast as it goes", ("api",), thief_sockets.bulk),
    Attack("ipv6", "the same over IPv6", ("api",), thief_sockets.over_ipv6),
    Attack("small_mss", "TCP in segments of 88 bytes", ("api",), thief_sockets.small_mss),
    Attack("drip", "eight bytes every two milliseconds", ("dns",), thief_sockets.drip),
    Attack("dns", "questions for names of the longest labels", ("dns",), thief_sockets.dns),
    Attack("ssh", "a session on port 22", ("ssh",), thief_sockets.ssh),
    Attack("icmp", "data in echo requests, up to 8,000 bytes", (), thief_sockets.icmp),
    Attack("clients", "forty addresses on all ports at once", _ALL, thief_sockets.many_clients),
    Attack("udp_segments", "datagrams cut up by UDP offload", ("dns",), thief_sockets.udp_segments),
    Attack("super_packets", "super-packets made by hand", _ALL, thief_raw.super_packets),
    Attack("raw_l2", "frames that are not IP, ARP with data, VLANs", ("dns",), thief_raw.raw_l2),
    Attack("protocols", "IP protocols without a class, bytes behind the end", ("dns",),
           thief_raw.protocols),
    Attack("ipv6_headers", "extension headers full of data", _ALL, thief_raw.ipv6_headers),
    Attack("fragments", "fragments, overlapping and too short", _ALL, thief_raw.fragments),
    Attack("spoofed", "others' addresses, and data in addresses", _ALL, thief_raw.spoofed),
    Attack("reflected", "errors and answers that the gate itself sends", (), thief_raw.reflected),
    Attack("asking", "whom the gate asks for", ("dns",), thief_raw.asking),
    Attack("timing", "when datagrams come", ("dns",), thief_sockets.timing),
    Attack("after_cap", "every class at once, on and on", _ALL, flood),
    Attack("reloads", "the same while the policy is changed", _ALL, flood, reloads=True),
    Attack("everything", "all of it at once", _ALL, everything),
)  # fmt: skip


def named(name: str) -> Attack:
    """The attack of that name. Raises KeyError."""
    return next(attack for attack in ATTACKS if attack.name == name)
