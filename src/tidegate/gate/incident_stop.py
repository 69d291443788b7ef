"""Stopping what was seen: throttles of our own in the kernel, and the gate's latch.

Throttles live in a table of their own, so that they neither disturb the gate's rules nor are
removed with a reload. They only ever drop; a packet that passes here still has the gate's quotas,
rates and heartbeat before it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Protocol

from tidegate.errors import GateError, TidegateError
from tidegate.gate import nft, nft_render

TABLE: Final = "tidegate_throttle"


class Stop(Protocol):
    """What an incident can be stopped with."""

    def throttle(self, host: str, rate: int, seconds: int) -> None:
        """Let `rate` bytes a second of `host` through, for `seconds`. Raises GateError."""
        ...

    def latch(self, reason: str) -> None:
        """Stop everything until an operator resets it. Raises TidegateError."""
        ...


@dataclass(frozen=True, slots=True)
class KernelStop:
    """The gate of this network namespace. `keep_shut` writes down why it has to stay closed, so
    that no heartbeat opens it again."""

    keep_shut: Callable[[str], None]

    def throttle(self, host: str, rate: int, seconds: int) -> None:
        """See `Stop.throttle`. Hosts that are throttled share one rate."""
        nft.load(throttled(host, rate, seconds))

    def latch(self, reason: str) -> None:
        """See `Stop.latch`."""
        # At once, then durably, then again: a heartbeat may have come in between. Whichever of the
        # three fails, the others are tried: closed for a lease is better than open.
        with ExitStack() as last:
            last.callback(nft.load, nft_render.shut())
            last.callback(self._durably, reason)
            nft.load(nft_render.shut())

    def _durably(self, reason: str) -> None:
        try:
            self.keep_shut(reason)
        except TidegateError:
            nft.load(walled())
            raise


def throttled(host: str, rate: int, seconds: int) -> str:
    """The nftables commands. Raises GateError for what is no IP address. Pure."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError as error:
        raise GateError(f"{host} is no IP address; only IP can be throttled by sender") from error
    lines = [f"add table inet {TABLE}"]
    for version in (4, 6):
        kind = f"type ipv{version}_addr; flags timeout;"
        lines.append(f"add set inet {TABLE} hosts{version} {{ {kind} }}")
    limited = f"rate over {rate} bytes/second burst {max(rate, 3000)} bytes"
    lines.append(f"add limit inet {TABLE} slow {{ {limited} }}")
    for hook in ("forward", "output"):
        where = f"inet {TABLE} {hook}"
        lines.append(
            f"add chain {where} {{ type filter hook {hook} priority -310; policy accept; }}"
        )
        lines.append(f"flush chain {where}")
        for version, header in ((4, "ip"), (6, "ip6")):
            rule = f'{header} saddr @hosts{version} limit name "slow" drop'
            lines.append(f"add rule {where} {rule}")
    lines.append(
        f"add element inet {TABLE} hosts{address.version} {{ {address} timeout {seconds}s }}"
    )
    return "\n".join(lines) + "\n"


def walled() -> str:
    """Drops all that is forwarded, for as long as this host runs: what is left where a latch cannot
    be written down, as on a full disk, and the next heartbeat would open the gate. Pure."""
    chain = f"chain inet {TABLE} wall"
    hook = "{ type filter hook forward priority -311; policy drop; }"
    return f"add table inet {TABLE}\nadd {chain} {hook}\n"
