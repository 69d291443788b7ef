"""The one port through which the log reaches storage.

Every adapter keeps this contract, and `tests/contract/transparency` holds it to it:

* **Durable on return.** When `append` or `keep` returns, what it wrote survives the process and the
  machine.
* **Compare-and-swap.** `append` writes only on top of `expected`, `keep` only over `expected`;
  otherwise they write nothing.
* **All or nothing.** Of one `append`, every row is stored or none is.
* **Serialisable.** There is one order of writes, and each sees all before it.
* **Concurrent.** Any number of threads and (where the medium is shared) processes may call at once.
* **Honest about doubt.** A write that raises anything but `MovedError` may or may not have been
  stored; only reading tells.

Who can modify a store can rewrite the log since the last checkpoint that was kept elsewhere, and
make it disagree with that checkpoint before then; he cannot make two checkpoints agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Row(NamedTuple):
    """An entry as it is stored.

    `id` is the entry's, None where it has none. `hashes` are the roots of the perfect subtrees that
    this leaf completes, 32 bytes each, from the leaf itself up: with these, any subtree's root is
    one look away (`spec/log.md`).
    """

    entry: bytes
    id: str | None
    hashes: bytes


class Tip(NamedTuple):
    """Where the log ends: its size, and the hash of its last leaf."""

    size: int
    leaf: bytes


EMPTY = Tip(0, bytes(32))


class Store(Protocol):
    """An append-only sequence of rows, and notes by name."""

    def tip(self) -> Tip:
        """Where what is stored ends; `EMPTY` if nothing is. Raises LogError."""
        ...

    def read(self, start: int, limit: int) -> Sequence[bytes]:
        """Up to `limit` entries from number `start` on, in order; fewer only at the end.

        Raises:
            LogError: the medium cannot be read.
        """
        ...

    def hashes(self, numbers: Sequence[int]) -> Sequence[bytes]:
        """The `hashes` of the rows of these numbers, in their order.

        Raises:
            LogError: there is no such row, or the medium cannot be read.
        """
        ...

    def find(self, id: str) -> int | None:  # noqa: A002  the field's own name
        """The number of the row with this id. Raises LogError."""
        ...

    def append(self, expected: Tip, rows: Sequence[Row]) -> None:
        """Store `rows` right after `expected`.

        Raises:
            MovedError: the log no longer ends at `expected`, or an id is taken.
            LogError: the medium failed or is full; see "Honest about doubt".
        """
        ...

    def kept(self, name: str) -> str | None:
        """The note that was kept last under this name. Raises LogError."""
        ...

    def keep(self, name: str, expected: str | None, note: str) -> None:
        """Keep `note` in place of `expected`.

        Raises:
            MovedError: another note is kept.
            LogError: as `append`.
        """
        ...
