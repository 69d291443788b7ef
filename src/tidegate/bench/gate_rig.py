"""What trials of the gate stand on: a policy, a gate held open, floods, a count outside."""

from __future__ import annotations

import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tidegate.bench import gate_flood, gate_hold
from tidegate.clock import SystemClock
from tidegate.errors import GateError
from tidegate.gate import host, nft, worlds
from tidegate.gate.controller import Gate
from tidegate.gate.heartbeat import hold
from tidegate.gate.policy import Policy, parse
from tidegate.gate.state import Store
from tidegate.gate.worlds import DOWN, GATE, INNER, OUT, OUTSIDE, UP, World, world

API, DNS, FORBIDDEN = 443, 53, 9_999
"""Ports: two that a class of the trials' policy allows, and one that none does."""

PATIENCE_S = 60.0
"""What a gate has to open, from when its controller runs."""
STARTING_S = 600.0
"""What Python may take to start a controller: that is the machine's, not the gate's."""

Told = Callable[[int], None]
"""Hears how many rounds of a trial are done."""


def silent(_: int) -> None:
    """Tells nobody."""


def policy(
    folder: Path,
    *,
    api: int = 2**40,
    dns: int = 2**40,
    lifetime: int = 2**40,
    rate: int | None = None,
    grant: int | None = None,
    super_packets: str = "charge",
) -> Policy:
    """A policy for a world: TCP and UDP to `API`, UDP to `DNS`, and what IP needs to find hosts."""
    rated = f"rate = {rate}" if rate else ""
    granted = f"grant = {grant}" if grant else ""
    return parse(f"""
        lifetime = {lifetime}
        state = "{folder}"
        super_packets = "{super_packets}"
        {granted}
        [interfaces]
        inside = "inside"
        outside = "out"
        [classes.api]
        protocol = "tcp"
        to = ["{worlds.OUTSIDE_V4}/32", "{worlds.OUTSIDE_V6}/128"]
        to_ports = [{API}]
        quota = {api}
        {rated}
        [classes.dns]
        protocol = "udp"
        to_ports = [{DNS}]
        quota = {dns}
        [classes.neighbours]
        protocol = "icmp"
        to = ["fd81:2::/64", "fe80::/10", "ff02::/16"]
        quota = 1_000_000
        [classes.arp]
        protocol = "arp"
        quota = 1_000_000
    """)


@dataclass(slots=True)
class Held:
    """A gate that a thread of this process keeps open."""

    gate: Gate
    _changes: list[Policy]
    opened: threading.Event
    failed: list[GateError]

    def change(self, other: Policy) -> None:
        """Have the gate change to another policy, and wait until it is open under it."""
        self.opened.clear()
        self._changes.append(other)
        self.wait()

    def wait(self) -> None:
        """Return once it is open. Raises GateError where it is not, in time."""
        if not self.opened.wait(PATIENCE_S):
            raise self.failed[0] if self.failed else GateError("the gate does not open")


@contextmanager
def held(made: World, chosen: Policy, *, begin: bool = True) -> Iterator[Held]:
    """Apply a policy in a world's gate, and keep it open while the context is."""
    clock, stop = SystemClock(), threading.Event()
    keeping = Held(Gate(chosen, Store(chosen.state), clock), [], threading.Event(), [])
    made.enter(GATE, lambda: keeping.gate.apply(begin=begin))
    changed_to: list[Policy] = []

    def changed() -> Policy | None:
        if changed_to:
            keeping.opened.set()
            changed_to.clear()
        if not keeping._changes:
            return None
        changed_to.append(keeping._changes.pop(0))
        return changed_to[0]

    def keep() -> None:
        try:
            hold(keeping.gate, clock, stop, changed=changed, told=lambda _: keeping.opened.set())
        except GateError as error:
            keeping.failed.append(error)

    thread = threading.Thread(target=lambda: made.enter(GATE, keep), daemon=True)
    thread.start()
    try:
        keeping.wait()
        yield keeping
    finally:
        stop.set()
        thread.join(PATIENCE_S)


@contextmanager
def closed_world(*, offload: bool, mss: int | None = None) -> Iterator[World]:
    """A world whose gate does not forward before a policy is applied, as a host that boots."""
    with world(offload=offload, mss=mss, ipv6=False) as made:
        still_neighbours(made)
        made.enter(GATE, lambda: host.forward(allowed=False))
        yield made


def crossed(made: World) -> tuple[int, int]:
    """(packets, bytes) that arrived outside so far, as the device there counts them."""

    counted = made.crossed(OUTSIDE, DOWN)
    return counted.received, counted.received_bytes


@contextmanager
def flood(
    made: World, port: int, *, size: int = 1000, pause: float = 0.0, stream: bool = False
) -> Iterator[None]:
    """Datagrams from inner to that port outside while the context is open; or one connection."""
    arguments = (worlds.OUTSIDE_V4, str(port), str(size), "stream" if stream else str(pause))
    sending = made.popen(INNER, [sys.executable, "-S", gate_flood.__file__, *arguments])
    try:
        yield
    finally:
        sending.kill()
        sending.wait()


def still_neighbours(made: World) -> None:
    """Fix who has which address, so that nothing but what a trial sends crosses the wire."""
    ends = (
        (INNER, UP, worlds.INSIDE_V4, GATE, worlds.INSIDE),
        (GATE, worlds.INSIDE, worlds.INNER_V4, INNER, UP),
        (GATE, OUT, worlds.OUTSIDE_V4, OUTSIDE, DOWN),
        (OUTSIDE, DOWN, worlds.OUT_V4, GATE, OUT),
    )
    for role, device, address, far_role, far_device in ends:
        shown = made.run(far_role, ["ip", "-br", "link", "show", "dev", far_device]).stdout
        entry = [address, "lladdr", shown.split()[2], "dev", device, "nud", "permanent"]
        made.run(role, ["ip", "neigh", "replace", *entry])


class Controller:
    """A controller in a process of its own; made by `controller`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._said = self._line(STARTING_S)

    def kill(self) -> None:
        """Kill it, with no time to say goodbye."""
        self._process.kill()
        self._process.wait()

    def require(self) -> None:
        """Raises GateError where it never began, or gave up, with what it said."""
        if self._said == gate_hold.STARTED and self._process.poll() is None:
            return
        said = self._line(0) or f"nothing, and its status is {self._process.poll()}"
        raise GateError(f"the controller gave up; it said: {said}")

    def _line(self, patience_s: float) -> str:
        out = self._process.stdout
        if out is None or not select.select([out], [], [], patience_s)[0]:
            return ""
        return out.readline().decode(errors="replace").strip()


@contextmanager
def controller(made: World, chosen: Policy, *, begin: bool) -> Iterator[Controller]:
    """A controller that runs, though its gate need not be open yet; killed in the end.

    Raises GateError where its program does not start.
    """
    how = gate_hold.BEGIN if begin else gate_hold.AGAIN
    argv = [sys.executable, "-m", gate_hold.__name__, chosen.model_dump_json(), how]
    keeping = Controller(made.popen(GATE, argv, pipe=True))
    try:
        keeping.require()
        yield keeping
    finally:
        keeping.kill()


def until_open(made: World) -> None:
    """Return once a heartbeat is in force in a world's gate. Raises GateError after a while."""
    clock = SystemClock()
    until = clock.monotonic() + PATIENCE_S
    while not ((kernel := made.enter(GATE, nft.look)) and kernel.alive):
        if clock.monotonic() > until:
            raise GateError("the gate does not open")
        threading.Event().wait(0.02)
