"""What the meters ask the kernel about an interface, in the namespace of the calling thread.

pyroute2 speaks netlink; here its answers become plain values, and its errors ours.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tidegate.gate.meter_port import MeterError

EGRESS = 0xFFFFFFF3
"""The hook of a clsact qdisc for what leaves."""

METER_PRIORITY = 2
"""The quota's program goes before: a meter counts what was let out."""

_ROOT = 0xFFFFFFFF
_ANY_PROTOCOL = 3


@dataclass(frozen=True, slots=True)
class Link:
    """An interface: its number, which a re-created one does not inherit, and what it counted."""

    index: int
    address: str
    sent_packets: int
    sent_bytes: int
    received_dropped: int


@dataclass(frozen=True, slots=True)
class Queue:
    """An interface's root qdisc. `packets` has 32 bits; a super-packet counts as its segments."""

    kind: str
    handle: int
    bytes: int
    packets: int
    backlog: int
    drops: int


class Links:
    """Interfaces of one namespace; made by `opened`."""

    def __init__(self, netlink: Any) -> None:
        self._netlink = netlink

    def link(self, interface: str) -> Link:
        """What the kernel says of `interface`. Raises MeterError where there is none."""
        with _translated(interface):
            found = list(self._netlink.get_links(ifname=interface))
            link = found[0]
            counted = link.get_attr("IFLA_STATS64") or link.get_attr("IFLA_STATS")
            return Link(
                index=link["index"],
                address=link.get_attr("IFLA_ADDRESS") or "",
                sent_packets=counted["tx_packets"],
                sent_bytes=counted["tx_bytes"],
                received_dropped=counted["rx_dropped"],
            )

    def root_queue(self, interface: str, index: int) -> Queue:
        """The root qdisc of an interface.

        Raises:
            MeterError: there is none, or none that counts.
        """
        with _translated(interface):
            for qdisc in self._netlink.get_qdiscs(index=index):
                if qdisc["parent"] == _ROOT and qdisc.get_attr("TCA_KIND") != "noqueue":
                    counted = qdisc.get_attr("TCA_STATS2")
                    basic = counted.get_attr("TCA_STATS_BASIC")
                    queue = counted.get_attr("TCA_STATS_QUEUE")
                    return Queue(
                        kind=qdisc.get_attr("TCA_KIND"),
                        handle=qdisc["handle"],
                        bytes=basic["bytes"],
                        packets=basic["packets"],
                        backlog=queue["backlog"],
                        drops=queue["drops"],
                    )
        raise MeterError(
            f"{interface} has no queue that counts: give it a root qdisc, such as pfifo or htb",
            interface=interface,
        )

    def has_clsact(self, index: int) -> bool:
        """Whether filters can be attached to an interface."""
        return any(
            qdisc.get_attr("TCA_KIND") == "clsact"
            for qdisc in self._netlink.get_qdiscs(index=index)
        )

    def add_queue(self, interface: str, index: int, limit: int) -> None:
        """Give an interface a plain first-in first-out queue of `limit` packets as its root."""
        with _translated(interface):
            # Two numbers, major and minor: the kernel gives no counts of a qdisc without a handle.
            self._netlink.tc("replace", "pfifo", index, 0x8A0000, limit=limit)

    def attach(
        self,
        interface: str,
        index: int,
        hook: int,
        program: int,
        name: str,
        priority: int = METER_PRIORITY,
    ) -> None:
        """Run a loaded program on every frame at a hook, before filters of a higher `priority`."""
        with _translated(interface):
            if not self.has_clsact(index):
                self._netlink.tc("add", "clsact", index)
            self._netlink.tc(
                "add-filter",
                "bpf",
                index,
                fd=program,
                name=name,
                parent=hook,
                prio=priority,
                protocol=_ANY_PROTOCOL,
                direct_action=True,
            )

    def attached(self, index: int, hook: int, name: str) -> bool:
        """Whether a program of this name still runs there."""
        with _translated(str(index)):
            rows = tuple(self._netlink.get_filters(index=index, parent=hook))
        for row in rows:
            options = row.get_attr("TCA_OPTIONS")
            if options is not None and options.get_attr("TCA_BPF_NAME") == name:
                return True
        return False

    def detach(self, interface: str, index: int, hook: int, priority: int = METER_PRIORITY) -> None:
        """Take our filter away again; other filters and the qdisc stay."""
        with _translated(interface):
            self._netlink.tc(
                "del-filter", "bpf", index, parent=hook, prio=priority, protocol=_ANY_PROTOCOL
            )


def index_of(interface: str) -> int:
    """An interface's number, without netlink. Raises MeterError where there is none."""
    try:
        return socket.if_nametoindex(interface)
    except OSError as error:
        raise MeterError(f"there is no interface {interface}", interface=interface) from error


@contextmanager
def opened() -> Iterator[Links]:
    """Netlink to the namespace of the calling thread.

    Raises:
        MeterError: pyroute2 is not installed, or the kernel does not answer.
    """
    try:
        from pyroute2 import IPRoute
    except ImportError as error:
        raise MeterError("the meters need pyroute2: install tidegate[gate]") from error
    with _translated("the gate's interfaces"), IPRoute() as netlink:
        yield Links(netlink)


@contextmanager
def _translated(interface: str) -> Iterator[None]:
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        yield
    except NetlinkError as error:
        raise MeterError(
            f"the kernel refuses what the meter asks about {interface}: {error}",
            interface=interface,
        ) from error
    except OSError as error:
        raise MeterError(f"netlink does not answer: {error.strerror or error}") from error
    except (IndexError, KeyError, TypeError) as error:
        raise MeterError(
            f"there is no interface {interface}, or the kernel tells too little about it",
            interface=interface,
        ) from error
