"""The meters of a policy at work beside its controller: opened, asked, and closed in the end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

from tidegate.clock import Clock
from tidegate.errors import LedgerError
from tidegate.gate import meter_kit
from tidegate.gate.latch import Diary
from tidegate.gate.lease import Terms
from tidegate.gate.meter_group import Group
from tidegate.gate.meter_port import MeterError
from tidegate.gate.meter_watch import Watch
from tidegate.gate.policy import LIFETIME, Meters, Policy
from tidegate.ledger import TOTAL, Budget, Budgets, Ledger, SqliteStore
from tidegate.units import Bytes, bits_of

FILE: Final = "ledger.sqlite"
"""The ledger in the gate's folder."""

TIMING_EDGE: Final = f"{meter_kit.EDGE}, by timing"
"""What the release grid's departures may say is charged here, and so to the same lifetime."""


@contextmanager
def watching(
    policy: Policy, meters: Meters, diary: Diary, clock: Clock, boot: str
) -> Iterator[Watch]:
    """Hold the meters of a gate whose rules are installed against each other, in a thread.

    Ask the watch's `permit` before each heartbeat. Runs in the gate's network namespace.

    Raises:
        MeterError: the interface or the tap cannot be metered: keep the gate closed.
        LedgerError: the ledger cannot be used.
    """
    with closing(SqliteStore(policy.state / FILE)) as store:
        ledger = Ledger(store, budgets(policy), clock)
        opener = _Opener(policy, meters, ledger, clock, boot)
        stop = threading.Event()
        try:
            watch = Watch(
                opener.open(),
                diary,
                Terms(meters.lease_ns, meters.settle_ns),
                clock,
                boot,
                cover=opener.cover,
                balance=opener.balance,
                reopen=opener.open,
            )
            thread = threading.Thread(
                target=lambda: watch.hold(stop, every_s=meters.every_ms / 1000)
            )
            thread.start()
            try:
                yield watch
            finally:
                stop.set()
                thread.join()
        finally:
            opener.close()


def budgets(policy: Policy) -> Budgets:
    """The ledger's caps: the policy's lifetime, in bits, whatever the classes."""
    lifetime = Budget(lifetime=bits_of(Bytes(policy.lifetime)))
    edges = ((meter_kit.EDGE, Budget()), (TIMING_EDGE, Budget()))
    return Budgets(name="gate", total=lifetime, edges=edges, principal=Budget())


class _Opener:
    """The meters that are open now; opened again where the gate changed what they hang on."""

    def __init__(
        self, policy: Policy, meters: Meters, ledger: Ledger, clock: Clock, boot: str
    ) -> None:
        self._interface = policy.interfaces.outside
        self._tap = meters.tap
        # As much as the kernel is granted ahead, and once more for what is granted meanwhile.
        self._ahead = Bytes(2 * policy.grant_of(LIFETIME))
        self._ledger, self._clock, self._boot = ledger, clock, boot
        self._kit: meter_kit.Kit | None = None

    def open(self) -> Group:
        self.close()
        address = meter_kit.address_of(self._interface)
        command = [word.replace("{address}", address) for word in self._tap]
        self._kit = meter_kit.opened(
            self._interface, command, self._ledger, self._clock, self._boot
        )
        return self._kit.group

    def cover(self) -> None:
        if self._kit is not None:
            self._kit.ledger.cover(self._ahead, or_less=True)

    def balance(self) -> tuple[int, int]:
        total = self._ledger.balance(TOTAL)
        return total.spent // 8, total.reserved // 8

    def close(self) -> None:
        kit, self._kit = self._kit, None
        if kit is not None:
            try:
                kit.close()
            except (MeterError, LedgerError):
                # What cannot be read any more, such as an interface that is gone, was charged in
                # full, or will be when the ledger is next opened.
                return
