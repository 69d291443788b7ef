"""The ledger's meter: what was written down as having left, under reservations made before.

Bytes are reserved in the ledger before the gate opens for them, and charged as the queue's
statistics show them gone. So at every moment the ledger holds at least what left; what it held when
its writer died counts as spent.
"""

from __future__ import annotations

from collections.abc import Callable

from tidegate.gate.meter_port import Boundary, Counted, Meter, MeterError, Reading
from tidegate.ledger import (
    TOTAL,
    Charge,
    Command,
    Commit,
    Ledger,
    Reservation,
    Reserve,
    edge_scope,
)
from tidegate.units import Bits, Bytes, bits_of

KNOWS = ("wire_bytes",)
OVERRUN = "more left the gate than was reserved for it"

UNREAD = "its meter can no longer be read; all of it is taken to have left"


class LedgerMeter:
    """Charges what `source` counts to `principal` on `edge`, and reads it back from the ledger.

    Nobody else may charge that edge while the meter is open. `waiting` says how many bytes the
    source has not counted and nobody can stop any more; it raises MeterError.

    Raises:
        LedgerError: the ledger cannot be read or written.
        MeterError: the source cannot be read.
    """

    def __init__(
        self,
        ledger: Ledger,
        source: Meter,
        *,
        principal: str,
        edge: str,
        boundary: Boundary,
        waiting: Callable[[], int] = lambda: 0,
    ) -> None:
        self.name = "ledger"
        self._ledger, self._source = ledger, source
        self._principal, self._edge = principal, edge
        self._boundary, self._waiting = boundary, waiting
        for left in ledger.held():
            if (left.principal, left.edge) == (principal, edge):
                ledger.recover(left, left.bits, "its writer died; all of it is taken to have left")
        self._since_bits = ledger.balance(edge_scope(edge)).spent
        self._charged = source.read(boundary).total.wire_bytes
        self._held: Reservation | None = None

    def cover(self, size: Bytes, *, or_less: bool = False) -> None:
        """Reserve until at least `size` bytes may leave: do this before the gate opens for them.

        With `or_less`, the last bytes of a budget do, however few they are.

        Raises:
            BudgetExceededError: a budget does not have them. Nothing changed.
            LedgerError: the ledger cannot be written: keep the gate closed.
        """
        held = self._held.bits if self._held else 0
        missing = bits_of(size) - held
        left = self._ledger.balance(edge_scope(self._edge)).left
        total = self._ledger.balance(TOTAL).left
        lefts = [bits for bits in (left, total) if bits is not None]
        if or_less and lefts and held + min(lefts) > 0:
            missing = min(missing, *lefts)
        if self._held is None:
            self._held = self._ledger.reserve(self._principal, self._edge, Bits(max(0, missing)))
        elif missing > 0:
            self._held = self._ledger.extend(self._held, Bits(missing))

    def read(self, boundary: Boundary) -> Reading:
        """As `Meter.read`; charges what left since the last time. It knows bytes alone."""
        counted = self._source.read(boundary)
        self._charge(counted.total.wire_bytes)
        spent = self._ledger.balance(edge_scope(self._edge)).spent - self._since_bits
        if spent % 8:
            raise MeterError("somebody else charges the gate's edge")
        return Reading(
            meter=self.name,
            boundary=boundary,
            since=f"ledger edge {self._edge}, {counted.since}",
            total=Counted(wire_bytes=spent // 8),
            knows=KNOWS,
        )

    def close(self) -> None:
        """Charge what left since the last reading and what still waits; give back the rest. Call it
        once the gate is closed.

        Raises:
            MeterError: the source can no longer be read. All that was reserved counts as spent.
            LedgerError: the ledger cannot be written; the next writer charges what is held.
        """
        try:
            # Asked first: what leaves the queue in between is charged twice rather than never.
            waiting = self._waiting()
            last = self._source.read(self._boundary)
        except MeterError:
            if self._held is not None:
                self._ledger.recover(self._held, self._held.bits, UNREAD)
                self._held = None
            raise
        self._charge(last.total.wire_bytes + waiting)
        if self._held is not None:
            self._ledger.release(self._held)
            self._held = None

    def _charge(self, counted: int) -> None:
        gone = bits_of(Bytes(counted - self._charged))
        if gone <= 0:
            return
        held = self._held.bits if self._held else 0
        commands: list[Command] = []
        if self._held is not None:
            commands.append(Commit(self._held.id, min(gone, held)))
        if gone > held:
            commands.append(Charge(self._principal, self._edge, gone - held, OVERRUN))
        elif gone < held:
            # The rest stays held, in the same write: at no instant is it free.
            commands.append(Reserve(self._principal, self._edge, held - gone))
        first = self._ledger.record(*commands)
        again = held > gone
        self._held = self._ledger.reservation(first + 1) if again else None
        self._charged = counted
