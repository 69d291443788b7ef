"""The journal: reads, decides, writes durably, publishes, and only then lets anything happen."""

from __future__ import annotations

import threading

import msgspec

from tidegate.errors import LedgerError
from tidegate.ledger.errors import HeadMovedError
from tidegate.ledger.store import Store
from tidegate.transparency.entry import Kind
from tidegate.transparency.log import Log
from tidegate.vault.broker_clock import BrokerClock
from tidegate.vault.grant_commands import Command
from tidegate.vault.grant_decide import Append, Effect, decide
from tidegate.vault.grant_errors import GrantError
from tidegate.vault.grant_state import State, folded

ATTEMPTS = 100
"""Lost races in a row before giving up: each loss means that another broker got on."""

_PAGE = 1_000


class Journal:
    """Grants over a store. Threads may share it, and several brokers one store.

    A decision's rows are stored and published before its other effects are handed back, so that
    what a crash can lose is always the effect and never the record of it.

    Raises:
        GrantError: the journal is damaged, or behind what the log shows: it was rolled back.
        LedgerError, LogError: the store or the log cannot be read.
    """

    def __init__(self, store: Store, log: Log, clock: BrokerClock) -> None:
        self._store = store
        self._log = log
        self._clock = clock
        self._lock = threading.RLock()
        self._state = State()
        self._published = 0
        with self._lock:
            self._published = self._known_to_log()
            self._catch_up()
            self._publish()

    def state(self) -> State:
        """Everything so far, other brokers' entries included."""
        with self._lock:
            self._catch_up()
            return self._state

    def carry_out(self, command: Command) -> tuple[Effect, ...]:
        """Decide `command`; once its rows are durable and published, the effects that remain.

        Raises:
            LedgerError, LogError, GrantError: the store or the log failed. Nothing may follow: the
                rows may or may not be there, and what they say holds if they are.
            ClockMovedError: the clock was set.
        """
        with self._lock:
            for _ in range(ATTEMPTS):
                self._catch_up()
                before = self._state
                time = self._clock.now(before.time)
                after, effects = decide(before, command, time=time, wall=self._clock.wall())
                rows = [row for e in effects if isinstance(e, Append) for row in e.rows]
                if not rows:
                    return effects
                try:
                    self._store.append(before.tip, rows)
                except HeadMovedError:
                    continue
                self._state = after
                self._publish()
                return tuple(e for e in effects if not isinstance(e, Append))
        raise LedgerError("The journal's store is contended; no write got through.")

    def _catch_up(self) -> None:
        while rows := self._store.read(self._state.tip.size, _PAGE):
            for row in rows:
                self._state = folded(self._state, row)
        tip, mine = self._store.tip(), self._state.tip
        shrunk = tip.size < mine.size or (tip.size == mine.size and tip.head != mine.head)
        if shrunk or self._published > mine.size:
            raise GrantError(
                "The journal has fewer entries than were written or published: its store was "
                "rolled back. Restore it; no key is released until then."
            )

    def _publish(self) -> None:
        """Bring the log up to the journal. An entry that is there already is not added again."""
        while rows := self._store.read(self._published, _PAGE):
            for n, row in enumerate(rows, start=self._published):
                body = msgspec.json.decode(row.entry)
                kind = Kind.RELEASE if body["does"]["kind"] == "release" else Kind.GRANT
                self._log.append(kind, body, once=_once(n))
                self._published = n + 1

    def _known_to_log(self) -> int:
        """How many entries the log has: they were published in order, so a search finds the end."""
        low, high = 0, 1
        while self._log.find(_once(high - 1)) is not None:
            low, high = high, 2 * high
        while low < high - 1:
            middle = (low + high) // 2
            low, high = (
                (middle, high) if self._log.find(_once(middle - 1)) is not None else (low, middle)
            )
        return low


def _once(n: int) -> str:
    return f"grant/{n}"
