"""Network namespaces `inner - gate - outside` and a tap, made for a test or a demo and removed.

    inner            gate                outside
     up ──────── inside | out ──────────── down ─┐ mirrored, both directions
                                                 └ mirror ──── tap (namespace tap)

The gate routes, for IPv4 and IPv6. The mirror hangs on the far side of the gate's wire, as a
switch's monitor port does, so that nothing on the gate can hide a packet from it.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from tidegate.errors import GateError
from tidegate.gate import needs

Value = TypeVar("Value")

INNER: Final = "inner"
GATE: Final = "gate"
OUTSIDE: Final = "outside"
TAP: Final = "tap"

UP: Final = "up"
"""inner's interface, towards the gate."""
INSIDE: Final = "inside"
"""The gate's interface towards inner."""
OUT: Final = "out"
"""The gate's interface towards outside: what leaves it has left."""
DOWN: Final = "down"
"""outside's interface, towards the gate."""
MIRROR: Final = "mirror"
"""outside's end of the wire to the tap."""
TAPPED: Final = "tapped"
"""The tap's interface: every frame that crossed the wire between `out` and `down`."""

INNER_V4, INSIDE_V4 = "10.81.1.2", "10.81.1.1"
OUT_V4, OUTSIDE_V4 = "10.81.2.1", "10.81.2.2"
INNER_V6, INSIDE_V6 = "fd81:1::2", "fd81:1::1"
OUT_V6, OUTSIDE_V6 = "fd81:2::1", "fd81:2::2"

_EVERY_FRAME = "1,6 0 0 4294967295,"
"""Classic BPF `return -1`: takes frames too short for a u32 match, too."""
_CLONE_NEWNET = 0x40000000
_PATIENCE = 5.0


class Crossed(NamedTuple):
    """What crossed an interface, as the kernel counts it there."""

    received: int
    """Packets, as `sent`."""
    received_bytes: int
    sent: int


@dataclass(slots=True)
class World:
    """Four namespaces and the wires between them. Made by `world`."""

    suffix: str
    offload: bool
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def name(self, role: str) -> str:
        """The namespace of `role` (inner, gate, outside, tap), as `ip netns` lists it."""
        return f"tg-{role}-{self.suffix}"

    def path(self, role: str) -> Path:
        """What to hand to setns for the namespace of `role`."""
        return Path("/run/netns") / self.name(role)

    def run(
        self, role: str, argv: Sequence[str], *, text: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in a namespace with `text` as its input, and wait for it.

        Raises GateError with what it printed where it fails and `check` is set.
        """
        return _run(["ip", "netns", "exec", self.name(role), *argv], text=text, check=check)

    def popen(
        self, role: str, argv: Sequence[str], *, pipe: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start a program in a namespace; whatever still runs is killed with the world.

        Its standard output is a pipe where `pipe` is set, and is thrown away otherwise. A program
        that is our own Python is started as `[sys.executable, ...]`.
        """
        started = subprocess.Popen(  # noqa: S603  programs of the test or the demo itself
            ["ip", "netns", "exec", self.name(role), *argv],  # noqa: S607
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipe else subprocess.DEVNULL,
            stderr=sys.stderr.fileno() if _has_descriptor() else subprocess.DEVNULL,
        )
        self._running.append(started)
        return started

    def enter(self, role: str, call: Callable[[], Value]) -> Value:
        """What `call()` returns when it runs in a namespace, in a thread of its own.

        Sockets opened there stay in that namespace. Files under `/proc/net` are the process's;
        a thread's are under `/proc/thread-self/net`. Raises what `call` raises.
        """
        return inside(self.path(role), call)

    def crossed(self, role: str, device: str) -> Crossed:
        """What an interface in a namespace has counted so far."""

        def read() -> Crossed:
            rows = Path("/proc/thread-self/net/dev").read_text().splitlines()
            row = next(row for row in rows if row.strip().startswith(f"{device}:"))
            numbers = [int(number) for number in row.partition(":")[2].split()]
            return Crossed(numbers[1], numbers[0], numbers[9])

        return self.enter(role, read)

    def close(self) -> None:
        """Kill what was started and remove the namespaces, with all that hangs on them."""
        for process in self._running:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        for role in (TAP, OUTSIDE, GATE, INNER):
            if self.path(role).exists():
                _run(["ip", "netns", "del", self.name(role)], check=False)


@contextmanager
def world(
    *, offload: bool = True, mss: int | None = None, ipv6: bool = True, mtu: int = 1500
) -> Iterator[World]:
    """Make the namespaces, and remove them when the context ends, also on failure.

    Without `offload` no interface carries a packet longer than its MTU. `mss` bounds the segments
    of TCP in both directions. Raises GateError where the host cannot.
    """
    needs.require()
    made = World(secrets.token_hex(4), offload)
    try:
        _make(made, mss=mss, ipv6=ipv6, mtu=mtu)
        yield made
    finally:
        made.close()


def inside(namespace: Path, call: Callable[[], Value]) -> Value:
    """What `call()` returns in a network namespace, in a thread of its own.

    Raises GateError where there is no such namespace, and whatever `call` raises.
    """
    results: list[Value] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            _setns(namespace)
            results.append(call())
        except BaseException as error:  # noqa: BLE001  handed to the caller, whatever it is
            errors.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _setns(namespace: Path) -> None:
    try:
        handle = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise GateError(f"there is no namespace {namespace}", path=str(namespace)) from error
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(handle, _CLONE_NEWNET) != 0:
            reason = os.strerror(ctypes.get_errno())
            raise GateError(f"cannot enter the namespace {namespace}: {reason}")
    finally:
        os.close(handle)


def _make(made: World, *, mss: int | None, ipv6: bool, mtu: int) -> None:
    for role in (INNER, GATE, OUTSIDE, TAP):
        _run(["ip", "netns", "add", made.name(role)])
        _sysctl(made, role, ipv6=ipv6)
        _batch(made, role, ["link set lo up"])
    _wire(made, INNER, UP, GATE, INSIDE, mtu)
    _wire(made, GATE, OUT, OUTSIDE, DOWN, mtu)
    _wire(made, OUTSIDE, MIRROR, TAP, TAPPED, mtu)
    addresses = {
        INNER: [(UP, INNER_V4, INNER_V6)],
        GATE: [(INSIDE, INSIDE_V4, INSIDE_V6), (OUT, OUT_V4, OUT_V6)],
        OUTSIDE: [(DOWN, OUTSIDE_V4, OUTSIDE_V6)],
        TAP: [],
    }
    for role, rows in addresses.items():
        lines = [f"address add {v4}/24 dev {device}" for device, v4, _ in rows]
        if ipv6:
            lines += [f"address add {v6}/64 dev {device} nodad" for device, _, v6 in rows]
        _batch(made, role, lines)
    # `advmss` on the way back is what the far end may send in one segment.
    bound = f" advmss {mss}" if mss else ""
    for role, v4, v6 in ((INNER, INSIDE_V4, INSIDE_V6), (OUTSIDE, OUT_V4, OUT_V6)):
        lines = [f"route add default via {v4}{bound}"]
        if ipv6:
            lines.append(f"-6 route add default via {v6}{bound}")
        for line in lines:
            _run(["ip", "-n", made.name(role), *line.split()])
    _mirror(made)


def _wire(made: World, near: str, near_if: str, far: str, far_if: str, mtu: int) -> None:
    ends = (["name", near_if, "netns", made.name(near)], ["name", far_if, "netns", made.name(far)])
    _run(["ip", "link", "add", *ends[0], "type", "veth", "peer", *ends[1]])
    # Segments of one are no super-packets, whichever kind of offload would make them.
    segments = "" if made.offload else " gso_max_segs 1"
    for role, device in ((near, near_if), (far, far_if)):
        _batch(made, role, [f"link set dev {device} mtu {mtu}{segments} up"])


def _mirror(made: World) -> None:
    tc = ["tc", "-n", made.name(OUTSIDE)]
    _run([*tc, "qdisc", "add", "dev", DOWN, "clsact"])
    for direction in ("ingress", "egress"):
        match = ["protocol", "all", "prio", "1", "bpf", "bytecode", _EVERY_FRAME]
        action = ["action", "mirred", "egress", "mirror", "dev", MIRROR]
        _run([*tc, "filter", "add", "dev", DOWN, direction, *match, *action])


def _sysctl(made: World, role: str, *, ipv6: bool) -> None:
    values = {
        "ipv4/ip_forward": int(role == GATE),
        "ipv6/conf/all/forwarding": int(role == GATE),
        "ipv6/conf/default/router_solicitations": 0,
        "ipv6/conf/default/accept_dad": 0,
        "ipv6/conf/all/disable_ipv6": int(not ipv6 or role == TAP),
        "ipv6/conf/default/disable_ipv6": int(not ipv6 or role == TAP),
    }

    def write() -> None:
        for name, value in values.items():
            Path("/proc/sys/net", name).write_text(f"{value}\n")

    made.enter(role, write)


def _batch(made: World, role: str, lines: Sequence[str]) -> None:
    if lines:
        _run(["ip", "-n", made.name(role), "-batch", "-"], text="\n".join(lines) + "\n")


def _run(
    argv: Sequence[str], *, text: str = "", check: bool = True
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(argv, input=text, capture_output=True, text=True)  # noqa: S603
    if check and done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise GateError(f"`{' '.join(argv)}` failed: {said}", status=done.returncode)
    return done


def _has_descriptor() -> bool:
    # Under a test runner that captures, standard error has none.
    try:
        sys.stderr.fileno()
    except (OSError, ValueError):
        return False
    return True
