"""A gate at work in a world of namespaces, for whoever tests one: benches, attackers, tests.

It is the product's own controller, in a thread of the gate's namespace, with the three meters: its
heart beats only while they agree.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tidegate.clock import Clock, SystemClock
from tidegate.errors import GateError
from tidegate.gate import heartbeat, meter_kit
from tidegate.gate.controller import Beat, Gate, Permit
from tidegate.gate.latch import Diary
from tidegate.gate.lease import Terms
from tidegate.gate.meter_group import boot_id
from tidegate.gate.meter_ledger import LedgerMeter
from tidegate.gate.meter_port import Boundary
from tidegate.gate.meter_watch import Watch
from tidegate.gate.policy import Policy
from tidegate.gate.state import Store
from tidegate.gate.worlds import GATE, OUT, TAP, TAPPED, World
from tidegate.ledger import Budget, Budgets, Ledger, MemoryStore
from tidegate.units import Bytes

_JUDGE_EVERY_S = 0.1
_TERMS = Terms(lease_ns=2 * 10**9, settle_ns=5 * 10**9)
"""Long enough for a busy machine, on which all of a world and its traffic run."""
_PATIENCE_S = 20.0


class Staged:
    """A running gate; made by `staged`."""

    def __init__(self, world: World, gate: Gate, ledger: LedgerMeter) -> None:
        self.world, self.gate = world, gate
        self._ledger = ledger
        self.beats: list[Beat] = []
        """Each change between open and closed."""
        self.failed: GateError | None = None
        """Why its controller gave up, if it did."""
        self._changed: list[Policy] = []
        self._taken = threading.Semaphore(0)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, call: Callable[[threading.Event], None]) -> None:
        """Run something in the gate's namespace that ends when it is told to."""
        thread = threading.Thread(
            target=lambda: self.world.enter(GATE, lambda: call(self._stop)), daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """Close the gate, and end its controller. Counts can be read from then on."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def ledger_bytes(self) -> int:
        """What the ledger was charged for; only once the gate was stopped."""
        # The boundary stamps a reading; nobody compares this one.
        return self.world.enter(
            GATE, lambda: self._ledger.read(Boundary(0, 0, "")).total.wire_bytes
        )

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

    def hold(self, stop: threading.Event) -> None:
        """Beat until `stop` is set; in the gate's namespace."""

        def changed() -> Policy | None:
            if self._changed and self._changed[0] == self.gate.policy:
                self._changed.pop(0)
                self._taken.release()
            return self._changed[0] if self._changed else None

        try:
            heartbeat.hold(self.gate, SystemClock(), stop, changed=changed, told=self.beats.append)
        except GateError as error:
            self.failed = error


@contextmanager
def staged(world: World, policy: Policy) -> Iterator[Staged]:
    """Put `policy` in force in a world, open, and hold it until the context ends.

    The policy's folder is not used: the state lives in a folder that is removed.

    Raises:
        GateError: the gate cannot be made, or does not open.
    """
    clock, boot = SystemClock(), boot_id()
    with ExitStack() as after:
        folder = Path(after.enter_context(tempfile.TemporaryDirectory(prefix="tg-")))
        asked: list[Permit] = []
        gate = Gate(
            policy, Store(folder), clock, lambda: asked[0]() if asked else "it has no meters yet"
        )
        world.enter(GATE, lambda: gate.apply(begin=True))
        kit = _metered(world, policy, clock, boot)
        after.callback(lambda: world.enter(GATE, kit.close))
        watch = Watch(kit.group, Diary(MemoryStore(), clock, boot), _TERMS, clock, boot)
        asked.append(watch.permit)
        made = Staged(world, gate, kit.ledger)
        after.callback(made.stop)
        made.start(lambda stop: watch.hold(stop, every_s=_JUDGE_EVERY_S))
        made.start(made.hold)
        made.wait_open()
        yield made


def _metered(world: World, policy: Policy, clock: Clock, boot: str) -> meter_kit.Kit:
    address = world.enter(GATE, lambda: meter_kit.address_of(OUT))
    program = [sys.executable, "-m", "tidegate.gate.tap_program", TAPPED, address]
    tap = ["ip", "netns", "exec", world.name(TAP), *program]
    edges = ((meter_kit.EDGE, Budget()),)
    budgets = Budgets(name="gate", total=Budget(), edges=edges, principal=Budget())
    ledger = Ledger(MemoryStore(), budgets, clock)
    kit = world.enter(GATE, lambda: meter_kit.opened(OUT, tap, ledger, clock, boot))
    kit.ledger.cover(Bytes(policy.lifetime))
    return kit
