"""The one port to a meter, and what a meter says.

A meter counts frames on the gate's outside wire, from when it was opened. Whatever it is made of,
it says the same things in the same terms, so that `reconcile` can hold several against each other:

* a **frame** is what crosses the wire: a super-packet counts as the frames it is cut into, each
  with its own headers;
* `wire_bytes` are the frames' bytes from the Ethernet header on, without preamble and checksum;
* of an IP packet, `ip_bytes` are all bytes after the Ethernet header, trailer included;
* `wire_bytes = ip_bytes + 14·packets + non_ip_bytes`, in every reading by itself.

Two readings of one meter bracket what it would have said at any instant between them: `Span`. All
spans of one boundary bracket a common instant; what lies between a span's ends was in flight.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from tidegate.errors import GateError

ETHERNET: Final = 14
"""Bytes of an Ethernet header without a VLAN tag."""

FIELDS: Final = (
    "frames",
    "packets",
    "ip_bytes",
    "wire_bytes",
    "non_ip_packets",
    "non_ip_bytes",
)
"""What a meter can count, as `Counted` names it; a meter that knows only `frames`, and not which of
them are IP, puts them into `packets`."""

PROTOCOLS: Final = (
    "ip4.tcp",
    "ip4.udp",
    "ip4.icmp",
    "ip4.fragment",
    "ip4.other",
    "ip6.tcp",
    "ip6.udp",
    "ip6.icmp",
    "ip6.fragment",
    "ip6.other",
    "arp",
    "other",
)
"""The rows that a meter which reads headers sorts frames into. IPv6 extension headers are not
followed; a frame is IP by its EtherType alone, whatever comes after it."""

NON_IP: Final = frozenset({"arp", "other"})


class MeterError(GateError):
    """A meter cannot count, or what it counted can no longer be trusted: close the gate."""

    code = "meter_error"


@dataclass(frozen=True, slots=True)
class Boundary:
    """An instant that readings are asked for: its number, and the gate's monotonic clock.

    A monotonic clock starts anew with the machine, hence `boot_id`.
    """

    number: int
    monotonic_ns: int
    boot_id: str


@dataclass(frozen=True, slots=True)
class Counted:
    """Frames and bytes since the meter was opened."""

    packets: int = 0
    ip_bytes: int = 0
    wire_bytes: int = 0
    non_ip_packets: int = 0
    non_ip_bytes: int = 0

    def __add__(self, other: Counted) -> Counted:
        return Counted(
            self.packets + other.packets,
            self.ip_bytes + other.ip_bytes,
            self.wire_bytes + other.wire_bytes,
            self.non_ip_packets + other.non_ip_packets,
            self.non_ip_bytes + other.non_ip_bytes,
        )

    def __sub__(self, other: Counted) -> Counted:
        return Counted(
            self.packets - other.packets,
            self.ip_bytes - other.ip_bytes,
            self.wire_bytes - other.wire_bytes,
            self.non_ip_packets - other.non_ip_packets,
            self.non_ip_bytes - other.non_ip_bytes,
        )

    @property
    def frames(self) -> int:
        """Frames of any kind."""
        return self.packets + self.non_ip_packets

    @property
    def unexplained(self) -> int:
        """`wire_bytes` less what the other fields say they are; 0 in an honest reading."""
        explained = self.ip_bytes + ETHERNET * self.packets + self.non_ip_bytes
        return self.wire_bytes - explained


Rows = tuple[tuple[str, Counted], ...]
"""Counts by name, in order of name; names that counted nothing may be missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one meter had counted when it was asked for `boundary`.

    `knows` names the fields that it counts; the others are 0 and mean nothing. `since` says what it
    counts from (an interface, a program, a socket), and changes where counting began anew.
    `queued` and `dropped` are of what it counted: bytes that still wait in a queue behind it, and
    packets that this queue dropped, ever. `device` is what the interface itself should have
    counted, as (packets, bytes), super-packets whole. Of `classes`, frames and wire bytes
    are known.
    """

    meter: str
    boundary: Boundary
    since: str
    total: Counted
    protocols: Rows = ()
    classes: Rows = ()
    knows: tuple[str, ...] = FIELDS
    queued: int = 0
    dropped: int = 0
    device: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Two readings of one meter, before and after an instant."""

    before: Reading
    after: Reading

    @property
    def meter(self) -> str:
        """The meter's name."""
        return self.after.meter


class Meter(Protocol):
    """Counts what leaves, from when it was opened."""

    @property
    def name(self) -> str:
        """What evidence calls it."""
        ...

    def read(self, boundary: Boundary) -> Reading:
        """What it has counted by now; at least all that left before the call.

        Raises:
            MeterError: it cannot say, or can no longer say the truth. Nothing may be assumed.
        """
        ...


def summed(rows: Iterable[tuple[str, Counted]]) -> Counted:
    """The sum of rows."""
    total = Counted()
    for _, counted in rows:
        total += counted
    return total


def sorted_rows(rows: dict[str, Counted]) -> Rows:
    """`rows` without those that counted nothing."""
    return tuple((name, rows[name]) for name in sorted(rows) if rows[name] != Counted())
