"""The one port through which the ledger reaches storage.

Every adapter keeps this contract, and `tests/contract/ledger` holds it to it:

* **Durable on return.** When `append` returns, the rows survive the process and the machine.
* **Compare-and-swap.** `append` writes only on top of `expected`; otherwise it writes nothing.
* **All or nothing.** Of one `append`, every row is stored or none is.
* **Serialisable.** There is one order of appends, and each sees all before it.
* **Concurrent.** Any number of threads and (where the medium is shared) processes may call at once.
* **Honest about doubt.** An `append` that raises anything but `HeadMovedError` may or may not have
  stored its rows, all of them or none; only `tip` tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tidegate.ledger.state import Row, Tip


class Store(Protocol):
    """An append-only sequence of rows."""

    def tip(self) -> Tip:
        """Size and head of what is stored; `EMPTY` if nothing is.

        Raises:
            LedgerError: the medium cannot be read.
        """
        ...

    def read(self, start: int, limit: int) -> Sequence[Row]:
        """Up to `limit` rows from number `start` on, in order; fewer only at the end.

        Raises:
            LedgerError: the medium cannot be read.
        """
        ...

    def append(self, expected: Tip, rows: Sequence[Row]) -> None:
        """Store `rows` right after `expected`.

        Raises:
            HeadMovedError: the log no longer ends at `expected`; nothing was stored.
            LedgerError: the medium failed or is full; see "Honest about doubt".
        """
        ...
