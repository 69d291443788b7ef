"""The gate's diary, and the latch that is read from it.

Every event is an entry of a hash-chained log in a store of the ledger's kind, durable before
anything is done about it. Whether the gate is latched is what the log says: so it survives kills
and reboots, and cannot be reset without leaving an entry.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Annotated, Final, Literal

import msgspec

from tidegate.clock import Clock
from tidegate.errors import LedgerError
from tidegate.gate.reconcile import Agree, Disagree, Verdict
from tidegate.ledger import HeadMovedError, InvalidEntryError, Store
from tidegate.ledger.entries import next_head, plain
from tidegate.ledger.state import EMPTY, Row, Tip

Kind = Literal["begun", "settled", "opened", "closed", "disagreed", "latched", "reset", "incident"]

_PAGE = 1_000
_ATTEMPTS = 100
_Text = Annotated[str, msgspec.Meta(max_length=256)]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the diary.

    `n` is its number from 0, `wall` milliseconds since the Unix epoch by the host's clock, for
    people; `boot` and `monotonic` (nanoseconds) order it on the gate's own clock. `findings` is the
    evidence of a disagreement; `who` the operator of a reset.
    """

    n: int
    wall: int
    boot: str
    monotonic: int
    kind: Kind
    text: _Text
    findings: tuple[_Text, ...] = ()
    who: _Text = ""


FILE: Final = "diary.sqlite"
"""The diary in the gate's folder."""

_DECODER = msgspec.json.Decoder(Entry)
_MOST_FINDINGS = 40


class Diary:
    """The log of one gate, open for reading and writing; safe to share between threads.

    Raises:
        LedgerError: the store cannot be read. InvalidEntryError: what it holds is not a diary, or
            was altered.
    """

    def __init__(self, store: Store, clock: Clock, boot: str) -> None:
        self._store, self._clock, self._boot = store, clock, boot
        self._lock = threading.RLock()
        self._tip = EMPTY
        self._latched: str | None = None
        self._follow()

    @property
    def position(self) -> Tip:
        """Size and head: kept elsewhere, they show that the diary was not rewritten."""
        with self._lock:
            self._follow()
            return self._tip

    def latched(self) -> str | None:
        """Why the gate is latched; None where it is not. Raises LedgerError."""
        with self._lock:
            self._follow()
            return self._latched

    def write(self, kind: Kind, text: str, *, findings: tuple[str, ...] = (), who: str = "") -> int:
        """Append an entry, durably; its number.

        Raises:
            LedgerError: it could not be written, as on a full disk: keep the gate closed.
        """
        for _ in range(_ATTEMPTS):
            tip = self.position
            entry = Entry(
                n=tip.size,
                wall=max(0, int(1000 * self._clock.now())),
                boot=self._boot,
                monotonic=int(1e9 * self._clock.monotonic()),
                kind=kind,
                text=plain(text),
                findings=tuple(map(plain, findings[:_MOST_FINDINGS])),
                who=plain(who) if who else "",
            )
            raw = msgspec.json.encode(entry)
            try:
                self._store.append(tip, [Row(raw, next_head(tip.head, raw))])
            except HeadMovedError:
                continue
            return entry.n
        raise LedgerError("The gate's diary is contended; no entry got through.")

    def latch(self, reason: str) -> None:
        """Close the gate until an operator resets it. Raises LedgerError."""
        if self.latched() is None:
            self.write("latched", reason)

    def reset(self, operator: str, reason: str) -> None:
        """Take the latch off, on somebody's word.

        Raises:
            LedgerError: the gate is not latched, nobody is named, or the entry cannot be written.
        """
        if not operator.strip() or not reason.strip():
            raise LedgerError("A reset names who does it, and why.")
        if self.latched() is None:
            raise LedgerError("The gate is not latched: there is nothing to reset.")
        self.write("reset", reason, who=operator)

    def judged(self, verdict: Verdict) -> None:
        """Write down what the meters said, where it is worth an entry."""
        if isinstance(verdict, Disagree):
            findings = tuple(finding.sentence for finding in verdict.findings)
            self.write("disagreed", ", ".join(verdict.liars) or "nobody named", findings=findings)
        elif isinstance(verdict, Agree) and verdict.settled:
            self.write("settled", f"boundary {verdict.boundary.number}")

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """Entries from number `start` on, oldest first. Raises as the constructor."""
        while rows := self._store.read(start, _PAGE):
            for row in rows:
                yield _parsed(row, start)
                start += 1

    def _follow(self) -> None:
        # Somebody else may write: an operator's reset is another process.
        tip = self._store.tip()
        if tip == self._tip:
            return
        while self._tip.size < tip.size:
            rows = self._store.read(self._tip.size, min(_PAGE, tip.size - self._tip.size))
            if not rows:
                break
            for row in rows:
                n = self._tip.size
                entry = _parsed(row, n)
                if row.head != next_head(self._tip.head, row.entry):
                    raise InvalidEntryError(f"Entry {n} of the diary does not chain on", entry=n)
                if entry.kind in ("latched", "reset"):
                    self._latched = entry.text if entry.kind == "latched" else None
                self._tip = Tip(n + 1, row.head)
        if self._tip != tip:
            raise LedgerError("The gate's diary was rewritten or rolled back.")


def _parsed(row: Row, n: int) -> Entry:
    try:
        entry = _DECODER.decode(row.entry)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidEntryError(
            f"Entry {n} of the diary cannot be read: {error}", entry=n
        ) from error
    if entry.n != n or msgspec.json.encode(entry) != row.entry:
        raise InvalidEntryError(f"Entry {n} of the diary is not in canonical form", entry=n)
    return entry
