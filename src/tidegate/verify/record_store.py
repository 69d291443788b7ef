"""The one port through which the record reaches storage: bytes in append-only segments.

A segment is named by the number of its first entry. Every adapter keeps this contract, and
`tests/contract/record` holds it to it:

* **Durable on return.** When `append` returns, the bytes survive the process and the machine.
* **At the end only.** `append` writes where the segment ends; it never changes what is there.
* **Honest about doubt.** An `append` that raises may have stored all of its bytes, none, or the
  first so many; only reading tells.
* **One writer.** While a writer is open nobody else writes. Any number may read at the same time,
  and see a prefix of what is written.
"""

from __future__ import annotations

from typing import Final, Protocol

READ: Final = 1 << 20
"""Bytes read at once."""


class Source(Protocol):
    """Segments that can be read."""

    def segments(self) -> tuple[int, ...]:
        """The names of all segments, ascending.

        Raises:
            RecordError: the medium cannot be read.
        """
        ...

    def read(self, segment: int, offset: int, limit: int) -> bytes:
        """Up to `limit` bytes from `offset` on; fewer only at the segment's end.

        Raises:
            RecordError: there is no such segment, or the medium cannot be read.
        """
        ...


class Store(Source, Protocol):
    """Segments that can be written."""

    def append(self, segment: int, offset: int, data: bytes) -> None:
        """Add `data` to a segment that is `offset` bytes long; it is made if `offset` is 0.

        Raises:
            RecordError: it has another length; nothing was written. Or the medium failed or is
                full; see "Honest about doubt".
        """
        ...

    def cut(self, segment: int, offset: int) -> None:
        """Durably drop what stands at `offset` and after it: a line that was never finished.

        Raises:
            RecordError: the medium failed.
        """
        ...
