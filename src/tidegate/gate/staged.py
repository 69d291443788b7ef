"""A gate at work in a world of namespaces, for whoever tests one: benches, attackers, tests.

It is the product's own controller, in a thread of the gate's namespace. With `metered` it has the
three meters, too, and its heart beats only while they agree.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tidegate.clock import Clock, SystemClock
from tidegate.errors import GateError
from tidegate.gate import heartbeat, meter_links, nft
from tidegate.gate.controller import Beat, Gate, Permit, always
from tidegate.gate.latch import Diary
from tidegate.gate.lease import Terms
from tidegate.gate.meter_group import Group, boot_id
from tidegate.gate.meter_kernel import KernelMeter
from tidegate.gate.meter_ledger import LedgerMeter
from tidegate.gate.meter_port import Boundary, MeterError
from tidegate.gate.meter_queue import QueueMeter
from tidegate.gate.meter_tap import TapMeter
from tidegate.gate.meter_watch import Watch
from tidegate.gate.policy import Policy
from tidegate.gate.state import Store
from tidegate.gate.worlds import GATE, OUT, TAP, TAPPED, World
from tidegate.ledger import Budget, Budgets, Ledger, MemoryStore
from tidegate.units import Bytes

EDGE: Final = "gate"
_QUEUE_PACKETS = 10_000
_JUDGE_EVERY_S = 0.1
_TERMS = Terms(lease_ns=10**9, settle_ns=3 * 10**9)
"""Long enough for a busy machine, on which all of a world and its traffic run."""
_PATIENCE_S = 10.0


class Staged:
    """A running gate; made by `staged`."""

    def __init__(self, world: World, policy: Policy, gate: Gate, ledger: LedgerMeter) -> None:
        self.world, self.policy, self.gate = world, policy, gate
        self._ledger = ledger
        self.beats: list[Beat] = []
        """Each change between open and closed."""
        self._changed: list[Policy] = []
        self._taken = threading.Semaphore(0)
        self.failed: GateError | None = None
        """Why its controller gave up, if it did."""

    def ledger_bytes(self) -> int:
        """What the ledger was charged for."""
        # The boundary stamps a reading; nobody compares this one.
        return self.world.enter(
            GATE, lambda: self._ledger.read(Boundary(0, 0, "")).total.wire_bytes
        )

    def passed_bytes(self) -> int:
        """What nftables let out, by its own counting."""
        kernel = self.world.enter(GATE, nft.look)
        counters = kernel.passed if kernel else ()
        return sum(size for name, _, size in counters if name.startswith("passed_"))

    def reload(self, policy: Policy) -> None:
        """Change the policy while the gate works, and wait until it is in force.

        Raises GateError where the controller has given up, or takes too long.
        """
        self._changed.append(policy)
        if not self._taken.acquire(timeout=_PATIENCE_S):
            raise self.failed or GateError("the controller does not take up its policy")

    def wait_open(self) -> None:
        """Return once the gate lets traffic out. Raises GateError where it does not."""
        waited = threading.Event()
        for _ in range(int(_PATIENCE_S / 0.02)):
            if self.beats and self.beats[-1].open:
                return
            if self.failed:
                raise self.failed
            waited.wait(0.02)
        reason = self.beats[-1].reason if self.beats else "no heartbeat came"
        raise GateError(f"the gate does not open: {reason}")

    def hold(self, stop: threading.Event, clock: Clock) -> None:
        """Beat until `stop` is set; in the gate's namespace."""

        def changed() -> Policy | None:
            return self._changed[0] if self._changed else None

        def told(beat: Beat) -> None:
            self.beats.append(beat)

        def taken() -> Policy | None:
            policy = changed()
            if policy is not None and policy == self.gate.policy:
                self._changed.pop(0)
                self._taken.release()
                return changed()
            return policy

        try:
            heartbeat.hold(self.gate, clock, stop, changed=taken, told=told)
        except GateError as error:
            self.failed = error


@contextmanager
def staged(world: World, policy: Policy, *, metered: bool = True) -> Iterator[Staged]:
    """Put `policy` in force in a world, open, and hold it until the context ends.

    The policy's folder is not used: the state lives in a folder that is removed.

    Raises:
        GateError: the gate cannot be made, or does not open.
    """
    clock, stop = SystemClock(), threading.Event()
    with ExitStack() as after:
        folder = Path(after.enter_context(tempfile.TemporaryDirectory(prefix="tg-")))
        asked: list[Permit] = []
        gate = Gate(
            policy, Store(folder), clock, lambda: asked[0]() if asked else "it has no meters yet"
        )
        world.enter(GATE, lambda: gate.apply(begin=True))
        queue = world.enter(GATE, _queue)
        ledger = world.enter(GATE, lambda: _charged(queue, policy, clock))
        made = Staged(world, policy, gate, ledger)
        if metered:
            watch = _watch(world, ledger, clock, after)
            asked.append(watch.permit)
            _start(after, world, stop, lambda: watch.hold(stop, every_s=_JUDGE_EVERY_S))
        else:
            asked.append(always)
        _start(after, world, stop, lambda: made.hold(stop, clock))
        made.wait_open()
        yield made


def _start(after: ExitStack, world: World, stop: threading.Event, call: Callable[[], None]) -> None:
    thread = threading.Thread(target=lambda: world.enter(GATE, call), daemon=True)
    thread.start()
    after.callback(thread.join)
    after.callback(stop.set)


def _queue() -> QueueMeter:
    try:
        return QueueMeter(OUT)
    except MeterError:
        with meter_links.opened() as links:
            links.add_queue(OUT, links.link(OUT).index, _QUEUE_PACKETS)
        return QueueMeter(OUT)


def _charged(queue: QueueMeter, policy: Policy, clock: Clock) -> LedgerMeter:
    budgets = Budgets(
        name="gate", total=Budget(), edges=((EDGE, Budget()),), principal=Budget()
    )
    ledger = Ledger(MemoryStore(), budgets, clock)
    meter = LedgerMeter(
        ledger, queue, principal="wire", edge=EDGE, boundary=Boundary(0, 0, "")
    )
    meter.cover(Bytes(policy.lifetime))
    return meter


def _watch(world: World, ledger: LedgerMeter, clock: Clock, after: ExitStack) -> Watch:
    def opened() -> tuple[KernelMeter, str]:
        with meter_links.opened() as links:
            return KernelMeter(OUT), links.link(OUT).address

    kernel, address = world.enter(GATE, opened)
    after.callback(lambda: world.enter(GATE, kernel.close))
    program = [sys.executable, "-m", "tidegate.gate.tap_program", TAPPED, address]
    tap = TapMeter(["ip", "netns", "exec", world.name(TAP), *program])
    after.callback(tap.close)
    boot = boot_id()
    group = Group([kernel, ledger, tap], clock, boot)
    return Watch(group, Diary(MemoryStore(), clock, boot), _TERMS, clock, boot)
