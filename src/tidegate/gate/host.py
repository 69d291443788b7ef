"""The parts of a host that are not nftables: interfaces, forwarding, queues, the boot's id."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tidegate.errors import GateError
from tidegate.gate.policy import Policy
from tidegate.gate.tc_render import UNMARKED, guarding, shaping, unguarding

_FORWARDING = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")


def boot_id() -> str:
    """The kernel's name for this boot. Raises GateError."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError as error:
        raise GateError(f"the kernel gives no boot id: {error.strerror}") from error


def indices(policy: Policy) -> tuple[tuple[str, int], ...]:
    """(interface, index) of every interface that the policy names.

    Raises GateError naming one that is not there.
    """
    named = policy.interfaces
    names = (named.inside, named.outside, *named.management)
    return tuple((name, _index(name)) for name in names)


def forward(*, allowed: bool) -> None:
    """Let the kernel route, or not. Raises GateError."""
    for name in _FORWARDING:
        path = Path("/proc/sys/net", name)
        # A kernel without IPv6 has nothing to route there.
        if path.exists():
            try:
                path.write_text(f"{int(allowed)}\n")
            except OSError as error:
                raise GateError(f"cannot set {path}: {error.strerror}") from error


def shape(policy: Policy) -> None:
    """Install the policy's rates. Raises GateError."""
    unshape(policy)
    if lines := shaping(policy):
        _run(["tc", "-batch", "-"], text="\n".join(lines) + "\n")
    if policy.super_packets == "drop":
        # The gate's own connections must not make what it would drop.
        _run(["ip", "link", "set", "dev", policy.interfaces.outside, "gso_max_segs", "1"])


def unshape(policy: Policy) -> None:
    """Take the rates off the outside interface, if there are any."""
    _run(["tc", "qdisc", "del", "dev", policy.interfaces.outside, "root"], check=False)


def guard(policy: Policy) -> None:
    """Drop what leaves without having come through nftables, if no program of ours does already.

    Raises GateError.
    """
    if lines := guarding(policy):
        # It may be there: a meter hangs on it, too.
        _run(["tc", "qdisc", "add", "dev", policy.interfaces.outside, "clsact"], check=False)
        _run(["tc", "-batch", "-"], text="\n".join(lines) + "\n")


def guarded(policy: Policy) -> bool:
    """Whether what `guard` installed is still there."""
    shown = ["tc", "filter", "show", "dev", policy.interfaces.outside, "egress"]
    return not guarding(policy) or f"bytecode '{UNMARKED}'" in _run(shown)


def unguard(policy: Policy) -> None:
    """Take it away."""
    for line in unguarding(policy):
        _run(["tc", *line.split()], check=False)


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError as error:
        raise GateError(f"there is no interface {name}", interface=name) from error


def _run(argv: Sequence[str], *, text: str = "", check: bool = True) -> str:
    done = subprocess.run(argv, input=text, capture_output=True, text=True)  # noqa: S603
    if check and done.returncode != 0:
        raise GateError(f"`{' '.join(argv)}` failed: {done.stderr.strip()}", input=text)
    return done.stdout
