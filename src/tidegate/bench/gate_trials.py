"""What the gate's policy promises, tried in namespaces with the kernel's own rules and a flood.

Each trial counts bytes on the far side of the wire, where nothing of the gate has a say.
"""

from __future__ import annotations

import secrets
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tidegate.bench.gate_meters import tap_command
from tidegate.bench.gate_rig import (
    API,
    DNS,
    FORBIDDEN,
    PATIENCE_S,
    Controller,
    Told,
    closed_world,
    controller,
    crossed,
    flood,
    held,
    policy,
    silent,
    until_open,
)
from tidegate.clock import SystemClock
from tidegate.errors import GateError
from tidegate.gate import worlds
from tidegate.gate.accounts import Account, State
from tidegate.gate.controller import Gate
from tidegate.gate.meter_group import boot_id
from tidegate.gate.meter_kit import address_of
from tidegate.gate.meter_port import Boundary
from tidegate.gate.meter_tap import TapMeter
from tidegate.gate.policy import LIFETIME, Policy
from tidegate.gate.state import Store, encode
from tidegate.gate.worlds import GATE, INNER, OUT, OUTSIDE, UP, World


@dataclass(frozen=True, slots=True)
class Spent:
    """A cap, and what crossed until it was reached."""

    cap: int
    packets: int
    left: int


def overshoot(*, cap: int, size: int = 1000) -> Spent:
    """Datagrams against a lifetime of `cap` bytes, on a line without offload.

    The grant covers the cap, so that the cap itself is what stops them.
    """
    with tempfile.TemporaryDirectory() as folder, closed_world(offload=False) as made:
        chosen = policy(Path(folder), lifetime=cap, grant=cap, super_packets="drop")
        before = crossed(made)
        with held(made, chosen), flood(made, DNS, size=size):
            _until_spent(made)
        after = crossed(made)
    return Spent(cap, after[0] - before[0], after[1] - before[1])


def overshoot_with_offload(*, cap: int) -> Spent:
    """The same for one TCP connection in super-packets of small segments, by a tap's count.

    What nftables sees of them is a third of the wire.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        closed_world(offload=True, mss=100) as made,
        made.enter(OUTSIDE, listening) as server,
        closing(TapMeter(tap_command(made, made.enter(GATE, lambda: address_of(OUT))))) as tap,
    ):
        threading.Thread(target=swallow, args=(server,), daemon=True).start()
        chosen = policy(Path(folder), lifetime=cap, grant=cap)
        before = tap.read(Boundary(0, 0, boot_id())).total
        with held(made, chosen), flood(made, API, size=1 << 16, stream=True):
            _until_spent(made)
        after = tap.read(Boundary(1, 1, boot_id())).total
    return Spent(cap, after.frames - before.frames, after.wire_bytes - before.wire_bytes)


def leak_through_reloads(rounds: int, told: Told = silent) -> tuple[int, int]:
    """(bytes that crossed while nothing was allowed any more, packets that tried).

    One flood goes to a class whose quota is spent, one to a port that no class allows. The policy
    is changed, and every fifth time applied anew, as a new controller does.
    """
    with tempfile.TemporaryDirectory() as folder, closed_world(offload=False) as made:
        first, second = (
            policy(Path(folder), dns=20_000, rate=rate, super_packets="drop", grant=20_000)
            for rate in (1_000_000, 2_000_000)
        )
        with flood(made, DNS), flood(made, FORBIDDEN), held(made, first) as keeping:
            _until_spent(made)
            spent, tried = crossed(made)[1], sent(made)
            for done in range(rounds):
                if done % 5 == 4:
                    made.enter(GATE, _applied_again(keeping.gate.policy))
                    keeping.change(keeping.gate.policy)
                else:
                    keeping.change(second if done % 2 == 0 else first)
                told(done + 1)
            return crossed(made)[1] - spent, sent(made) - tried


def leak_through_flushes(
    rounds: int, *, super_packets: str = "drop", dead: bool = False, told: Told = silent
) -> tuple[int, int]:
    """(packets that crossed once somebody had flushed every rule of nftables, packets that tried).

    A flood goes to a port that no class allows, so that whatever crosses has leaked. Counting ends
    half a second after the flush, when a controller has closed the gate; with `dead` it was killed
    just before the flush.
    """
    leaked = tried = 0
    with tempfile.TemporaryDirectory() as folder, closed_world(offload=False) as made:
        chosen = policy(Path(folder), super_packets=super_packets)
        with flood(made, FORBIDDEN):
            for done in range(rounds):
                with controller(made, chosen, begin=done == 0) as keeping:
                    until_open(made)
                    if dead:
                        keeping.kill()
                    before, offered = crossed(made)[0], sent(made)
                    made.run(GATE, ["nft", "flush", "ruleset"])
                    threading.Event().wait(0.5)
                    leaked += crossed(made)[0] - before
                    tried += sent(made) - offered
                # The rules are gone, and their counts: remove what is left, as an operator would.
                made.enter(GATE, Gate(chosen, Store(chosen.state), SystemClock()).remove)
                told(done + 1)
    return leaked, tried


def _applied_again(chosen: Policy) -> Callable[[], None]:
    def again() -> None:
        Gate(chosen, Store(chosen.state), SystemClock()).apply()

    return again


def _until_spent(made: World) -> None:
    """Return once something has crossed, and nothing more does."""
    clock = SystemClock()
    until, last, since = clock.monotonic() + 3 * PATIENCE_S, 0, clock.monotonic()
    while last == 0 or clock.monotonic() - since < 1.0:
        if clock.monotonic() > until:
            raise GateError("nothing crossed, or it never ended")
        if (now := crossed(made)[1]) != last:
            last, since = now, clock.monotonic()
        threading.Event().wait(0.05)


def sent(made: World) -> int:
    """Packets that inner has handed to its wire so far."""
    return made.crossed(INNER, UP).sent


def stop_after_kill() -> float:
    """Seconds from the controller's death to the last datagram that arrived.

    Raises GateError where none arrived before, or they never stop.
    """
    clock = SystemClock()
    with (
        tempfile.TemporaryDirectory() as folder,
        closed_world(offload=False) as made,
        made.enter(OUTSIDE, _bound) as server,
        flood(made, DNS, size=100, pause=0.002),
        controller(made, policy(Path(folder)), begin=True) as keeping,
    ):
        server.settimeout(PATIENCE_S)
        server.recv(2000)
        threading.Event().wait(secrets.randbelow(300) / 1000)
        keeping.kill()
        died = last = clock.monotonic()
        server.settimeout(2.0)
        while last - died < PATIENCE_S:
            try:
                server.recv(2000)
            except TimeoutError:
                return last - died
            last = clock.monotonic()
    raise GateError("traffic goes on without a controller")


def _bound() -> socket.socket:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((worlds.OUTSIDE_V4, DNS))
    return server


@dataclass(frozen=True, slots=True)
class Killed:
    """`undercounted`: the most bytes by which the disk fell short of what had crossed."""

    rounds: int
    crossed: int
    charged: int
    undercounted: int


def kill_and_count(rounds: int, *, super_packets: str = "charge", told: Told = silent) -> Killed:
    """Kill the controller again and again under a flood, at no particular moment.

    After each kill, once the lease has run out, what crossed is held against what the disk says
    may have crossed. Every third time the kernel's rules go, too, as in a reboot.
    """
    with tempfile.TemporaryDirectory() as folder, closed_world(offload=False) as made:
        chosen = policy(Path(folder), grant=300_000, super_packets=super_packets)
        store = Store(chosen.state)
        before, worst, charged, now = crossed(made)[1], 0, 0, 0
        with flood(made, DNS, size=1000, pause=0.001):
            for done in range(rounds):
                with controller(made, chosen, begin=done == 0) as keeping:
                    until_more(made, before + now, keeping)
                    threading.Event().wait(secrets.randbelow(400) / 1000)
                    keeping.kill()
                threading.Event().wait(chosen.lease_ms / 1000 + 0.1)
                now = crossed(made)[1] - before
                charged = _charged(store)
                worst = max(worst, now - charged)
                if done % 3 == 2:
                    made.enter(GATE, Gate(chosen, store, SystemClock()).remove)
                told(done + 1)
    return Killed(rounds, now, charged, max(0, worst))


def until_more(made: World, than: int, keeping: Controller) -> None:
    """Return once more bytes than that have crossed.

    Raises GateError where the controller gave up, nobody sends, or the gate stays closed.
    """
    clock, tried = SystemClock(), sent(made)
    until = clock.monotonic() + PATIENCE_S
    while crossed(made)[1] <= than:
        keeping.require()
        if clock.monotonic() > until:
            if sent(made) == tried:
                raise GateError("nothing was sent: whether the gate is open cannot be told")
            raise GateError("the gate did not open again after a kill")
        threading.Event().wait(0.01)


def _charged(store: Store) -> int:
    state = store.read()
    account = state.of(LIFETIME) if state else None
    return account.granted if account else 0


def torn_writes() -> tuple[int, int]:
    """(offsets tried, those after which the disk says less than what was promised).

    A write that is cut off in the file beside leaves the state before, under which the kernel was
    promised nothing more. A state that is itself cut off, or half old and half new, must be
    refused.
    """
    old, new = (
        State("p" * 64, "b" * 36, tuple(Account(name, size) for name in ("api", LIFETIME)))
        for size in (1_000, 2_000)
    )
    short = 0
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        data, before = encode(new), encode(old)
        for offset in range(len(data) + 1):
            store.write(old)
            (Path(folder) / "state.new").write_bytes(data[:offset])
            short += store.read() != old
            for damaged in (data[:offset], data[:offset] + before[offset:]):
                (Path(folder) / "state").write_bytes(damaged)
                # The kernel was told of the new state.
                short += _believed(store) not in {None, new} and damaged != before
    return 3 * (len(data) + 1), short


def _believed(store: Store) -> State | None:
    try:
        return store.read()
    except GateError:
        return None


def rate_held(rate: int, *, seconds: float, offload: bool) -> float:
    """Bytes a second that one TCP connection gets through a class of that rate, over the rate."""
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as folder, closed_world(offload=offload) as made:
        chosen = policy(Path(folder), rate=rate)
        with (
            made.enter(OUTSIDE, listening) as server,
            controller(made, chosen, begin=True),
        ):
            until_open(made)
            threading.Thread(target=swallow, args=(server,), daemon=True).start()
            with flood(made, API, size=1 << 16, stream=True):
                threading.Event().wait(1.0)
                begun, before = clock.monotonic(), _wire(made)
                threading.Event().wait(seconds)
                return (_wire(made) - before) / (clock.monotonic() - begun) / rate


def _wire(made: World) -> int:
    """Bytes on the wire as the gate's queue counts them, headers of super-packets included."""
    shown = made.run(GATE, ["tc", "-s", "class", "show", "dev", OUT, "classid", "1:2"]).stdout
    return int(shown.partition("Sent ")[2].split()[0])


def listening() -> socket.socket:
    return socket.create_server((worlds.OUTSIDE_V4, API))


def swallow(server: socket.socket) -> None:
    try:
        connection, _ = server.accept()
        with connection:
            while connection.recv(1 << 20):
                pass
    except OSError:
        return


def worst(measure: Callable[[], float], rounds: int, told: Told = silent) -> Sequence[float]:
    """What `measure` gives, `rounds` times, smallest first."""
    values = []
    for done in range(rounds):
        values.append(measure())
        told(done + 1)
    return sorted(values)
