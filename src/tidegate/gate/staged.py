"""A gate at work in a world of namespaces, for whoever tests one: benches, attackers, tests.

It is the product's own controller, in a thread of the gate's namespace, with the three meters: its
heart beats only while they agree.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from tidegate.clock import Clock, SystemClock
from tidegate.errors import GateError, TidegateError
from tidegate.gate import heartbeat, meter_hold, meter_kit
from tidegate.gate.controller import Beat, Gate, Permit
from tidegate.gate.latch import Diary
from tidegate.gate.meter_group import boot_id
from tidegate.gate.policy import Meters, Policy
from tidegate.gate.state import Store
from tidegate.gate.worlds import GATE, TAP, TAPPED, World
from tidegate.ledger import Ledger, MemoryStore, SqliteStore, edge_scope

EVERY_MS: Final = 100
LEASE_MS: Final = 2_000
"""Long enough for a busy machine, on which all of a world and its traffic run."""
SETTLE_S: Final = 5
_PATIENCE_S = 60.0


class Staged:
    """A running gate; made by `staged`."""

    def __init__(self, world: World, policy: Policy, closed: Callable[[], None]) -> None:
        self.world = world
        self._closed = closed
        self.beats: list[Beat] = []
        """Each change between open and closed."""
        self.failed: TidegateError | None = None
        """Why its controller gave up, if it did."""
        self._clock: Clock = SystemClock()
        self._asked: list[Permit] = []
        self.gate = Gate(policy, Store(policy.state), self._clock, lambda: self._asked[0]())
        self._changed: list[Policy] = []
        self._taken = threading.Semaphore(0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: world.enter(GATE, self._hold), daemon=True)

    def start(self) -> None:
        """Install the policy, and return once traffic can pass.

        Raises TidegateError where it cannot be installed, or does not open.
        """
        self._thread.start()
        for _ in range(int(_PATIENCE_S / 0.02)):
            if self.failed:
                raise self.failed
            if self.beats and self.beats[-1].open:
                return
            self._stop.wait(0.02)
        reason = self.beats[-1].reason if self.beats else "no heartbeat came"
        raise GateError(f"the gate does not open: {reason}")

    def reload(self, policy: Policy) -> None:
        """Change the policy while the gate works, and wait until it is in force.

        Raises TidegateError where the controller has given up, or takes too long.
        """
        self._changed.append(policy)
        if not self._taken.acquire(timeout=_PATIENCE_S):
            raise self.failed or GateError("the controller does not take up its policy")

    def stop(self) -> None:
        """Close the gate, and end its controller. Raises TidegateError if that had given up."""
        self._stop.set()
        self._thread.join()
        if self.failed:
            raise self.failed

    def ledger_bytes(self) -> int:
        """What the ledger was charged for, once the gate was stopped."""
        policy = self.gate.policy
        with closing(SqliteStore(policy.state / meter_hold.FILE)) as store:
            ledger = Ledger(store, meter_hold.budgets(policy), self._clock)
            return ledger.balance(edge_scope(meter_kit.EDGE)).spent // 8

    def _hold(self) -> None:
        try:
            self._hold_metered()
        except TidegateError as error:
            self.failed = error

    def _hold_metered(self) -> None:
        policy, boot = self.gate.policy, boot_id()
        diary = Diary(MemoryStore(), self._clock, boot)
        if policy.meters is None:
            raise GateError("the policy has no meters")
        self.gate.apply(begin=True)
        self._closed()
        with meter_hold.watching(policy, policy.meters, diary, self._clock, boot) as watch:
            self._asked.append(watch.permit)
            told = self.beats.append
            heartbeat.hold(
                self.gate,
                self._clock,
                self._stop,
                changed=self._change,
                changing=watch.changing,
                told=told,
            )

    def _change(self) -> Policy | None:
        if self._changed and self._changed[0] == self.gate.policy:
            self._changed.pop(0)
            self._taken.release()
        return self._changed[0] if self._changed else None


@contextmanager
def staged(
    world: World, policy: Policy, *, closed: Callable[[], None] = lambda: None
) -> Iterator[Staged]:
    """Put `policy` in force in a world, open, and hold it until the context ends.

    Its folder and its meters are replaced: by a folder that is removed, and a tap in the world.
    `closed` is called while the rules are in and nothing can pass yet, before the meters count.

    Raises:
        TidegateError: the gate cannot be made, or does not open.
    """
    program = (sys.executable, "-m", "tidegate.gate.tap_program", TAPPED, "{address}")
    tap = ("ip", "netns", "exec", world.name(TAP), *program)
    meters = Meters(tap=tap, every_ms=EVERY_MS, lease_ms=LEASE_MS, settle_s=SETTLE_S)
    with tempfile.TemporaryDirectory(prefix="tg-") as folder:
        chosen = policy.model_copy(update={"state": Path(folder), "meters": meters})
        made = Staged(world, chosen, closed)
        try:
            made.start()
            yield made
        finally:
            if made.failed is None:
                made.stop()
