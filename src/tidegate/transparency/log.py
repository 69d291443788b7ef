"""The log everybody may write to: grants, releases, uploads, verdicts, in one Merkle tree.

`append` returns once the entry is durable. What makes a rewritten log visible are its signed
checkpoints in other people's hands: `sign` one and have witnesses countersign it (`publish`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tidegate.clock import Clock
from tidegate.transparency.entry import Body, Entry, Kind, Logged, encode, parse, same
from tidegate.transparency.errors import EntryError, LogError, MovedError
from tidegate.transparency.note import Checkpoint, Signer, note_text
from tidegate.transparency.runs import Node, Run, consistency_runs, inclusion_runs, nodes_of
from tidegate.transparency.store import EMPTY, Row, Store
from tidegate.transparency.tree import completed, frontier_root, leaf_hash

_HEAD = "checkpoint"
_WITNESS = "witness "

PAGE = 1_000
"""Entries read at once: bounds memory while a long log is read."""

ATTEMPTS = 1_000
"""Lost races in a row before giving up: each loss means that some other writer got on."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where an entry stands: its number from 0, and its leaf hash."""

    index: int
    leaf: bytes


class Log:
    """One log over one store. Safe to share between threads; several may share one store.

    Args:
        store: where it lives.
        clock: `now()` dates entries, for people; nothing is decided by it.

    Raises:
        LogError: the store cannot be read, or its tree is not that of the checkpoint it signed.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._lock = threading.RLock()
        self._tip = EMPTY
        self._root = frontier_root(())
        self._refresh()
        note = self.kept()
        if note is not None:
            self._check_kept(Checkpoint.parse(note_text(note)))

    @property
    def size(self) -> int:
        """Entries in the log now, other writers' included. Raises LogError."""
        with self._lock:
            self._refresh()
            return self._tip.size

    def append(self, kind: Kind, body: Body, *, once: str = "") -> Position:
        """Append an entry, durably.

        Args:
            kind: what it is about.
            body: plain JSON without floats; see `entry.encode`.
            once: a name of the event, such as `grant-7/approved/3`. Where the log has an entry with
                this id already, that one's position is returned and nothing is written: after a
                failure, or a crash, appending again is harmless.

        Raises:
            EntryError: this cannot be an entry; or the log has another entry under `once`.
            LogError: it could not be written, or nobody knows whether it was.
        """
        entry = Entry(
            kind=kind, time=max(0, int(1000 * self._clock.now())), body=dict(body), id=once
        )
        raw = encode(entry)
        leaf = leaf_hash(raw)
        with self._lock:
            for _ in range(ATTEMPTS):
                self._refresh()
                if once and (found := self._store.find(once)) is not None:
                    return self._earlier(found, entry)
                tip = self._tip
                hashes = b"".join(completed(self._frontier(tip.size), tip.size, leaf))
                try:
                    self._store.append(tip, [Row(raw, once or None, hashes)])
                except MovedError:
                    continue
                return Position(tip.size, leaf)
        raise LogError("The log's store is contended; no write got through.")

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[Logged]:
        """Entries `start` to `stop - 1`, in order; up to the present end where `stop` is None.

        Raises:
            EntryError: one is malformed. LogError: the store cannot be read, or ends before `stop`.
        """
        end = self.size if stop is None else stop
        for index, raw in self.raw_entries(start, end):
            yield parse(raw, index)

    def raw_entries(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        """As `entries`, as bytes, unchecked."""
        while start < stop:
            rows = self._store.read(start, min(PAGE, stop - start))
            if not rows:
                raise LogError(f"Entry {start} is missing.", entry=start)
            for raw in rows:
                yield start, raw
                start += 1

    def entry(self, index: int) -> Logged:
        """Entry number `index`. Raises LogError."""
        return next(self.entries(index, index + 1))

    def find(self, id: str) -> int | None:  # noqa: A002
        """The number of the entry with this id. Raises LogError."""
        return self._store.find(id)

    def root(self, size: int) -> bytes:
        """The root of the first `size` entries. Raises LogError: the log is shorter."""
        return frontier_root(self._frontier(size))

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """The proof that entry `index` is in the tree of the first `size` (RFC 6962, 2.1.1).

        Raises:
            LogError: there is no such entry or tree.
        """
        if not 0 <= index < size:
            raise LogError(f"There is no entry {index} among the first {size}.", entry=index)
        return self._roots(inclusion_runs(index, size))

    def consistency(self, old_size: int, size: int) -> tuple[bytes, ...]:
        """The proof that the tree of `size` entries extends that of `old_size` (RFC 6962, 2.1.2).

        Raises:
            LogError: there is no such tree, or the old one is larger.
        """
        if not 0 <= old_size <= size:
            raise LogError(f"A tree of {size} entries does not extend one of {old_size}.")
        return self._roots(consistency_runs(old_size, size))

    def hashes(self, nodes: Sequence[Node]) -> tuple[bytes, ...]:
        """The roots of perfect subtrees, in their order. Raises LogError: one is not complete."""
        rows = self._store.hashes([((number + 1) << level) - 1 for level, number in nodes])
        found = tuple(
            row[32 * node.level : 32 * node.level + 32]
            for node, row in zip(nodes, rows, strict=True)
        )
        if any(len(one) != 32 for one in found):
            raise LogError("The log's store lacks hashes of its tree: it was damaged.")
        return found

    def sign(self, signer: Signer) -> str:
        """The signed checkpoint of the log as it is now; kept in the store before it is returned.

        Where nothing was appended since the last one, that one is returned, cosignatures and all.

        Raises:
            LogError: the store failed, or holds less than what was signed before.
        """
        with self._lock:
            self._refresh()
            head = Checkpoint(signer.name, self._tip.size, self._root)
        kept = self.kept()
        if kept is not None and Checkpoint.parse(note_text(kept)) == head:
            return kept
        note = signer.sign(head)
        self.keep(note)
        return note

    def kept(self) -> str | None:
        """The last checkpoint that was signed, with the cosignatures kept so far. Raises LogError.

        Nothing else may be handed out as the log's checkpoint.
        """
        return self._store.kept(_HEAD)

    def keep(self, note: str) -> None:
        """Keep a checkpoint of this log, or one with more cosignatures, unless a later one is kept.

        Raises:
            LogError: its root is not that of this log at its size; or the store failed.
        """
        self._keep(_HEAD, note)

    def witnessed(self, witness: str) -> str | None:
        """The last checkpoint that the witness of this name cosigned. Raises LogError."""
        return self._store.kept(_WITNESS + witness)

    def keep_witnessed(self, witness: str, note: str) -> None:
        """Keep what that witness cosigned, unless it is of a smaller tree. Raises as `keep`."""
        self._keep(_WITNESS + witness, note)

    def _keep(self, name: str, note: str) -> None:
        fresh = Checkpoint.parse(note_text(note))
        self._check_kept(fresh)
        for _ in range(ATTEMPTS):
            kept = self._store.kept(name)
            if kept is not None and Checkpoint.parse(note_text(kept)).size > fresh.size:
                return
            try:
                self._store.keep(name, kept, note)
            except MovedError:
                continue
            return
        raise LogError("The log's store is contended; no checkpoint could be kept.")

    def _earlier(self, index: int, entry: Entry) -> Position:
        found = self.entry(index)
        if found.entry.kind != entry.kind or not same(found.entry.body, entry.body):
            raise EntryError(
                f"The log has another entry, number {index}, under the id {entry.id!r}.",
                entry=index,
            )
        return Position(index, leaf_hash(found.raw))

    def _check_kept(self, kept: Checkpoint) -> None:
        if kept.size > self.size or self.root(kept.size) != kept.root:
            raise LogError(
                f"The log is not the one whose checkpoint of {kept.size} entries was signed: its "
                "store was rewritten or rolled back. Restore it; sign nothing more with its key.",
                entry=kept.size,
            )

    def _refresh(self) -> None:
        tip = self._store.tip()
        if tip == self._tip:
            return
        before = self._tip.size
        if tip.size < before or (before and self.root(before) != self._root):
            raise LogError("The log's store was rewritten or rolled back.", entry=tip.size)
        self._root = self.root(tip.size)
        self._tip = tip

    def _frontier(self, size: int) -> tuple[bytes, ...]:
        return self.hashes(nodes_of(Run(0, size)))

    def _roots(self, runs: Sequence[Run]) -> tuple[bytes, ...]:
        return tuple(frontier_root(self.hashes(nodes_of(run))) for run in runs)
