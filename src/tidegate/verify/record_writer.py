"""Writes the record: one durable append a batch, checkpoints in between, recovery by opening.

Blocking, and for one thread at a time. A writer whose write failed is of no more use: nobody knows
what of it was stored. Open another over the same store, which finds out; a restart is no different.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tidegate.clock import Clock
from tidegate.errors import RecordError
from tidegate.ledger.entries import next_head
from tidegate.record.entries import Does, End, Entry, Open, Reason, Stack, encode, parse
from tidegate.transparency.errors import CheckpointError
from tidegate.transparency.note import Checkpoint, Signer, Verifier
from tidegate.verify.record_fold import Fold
from tidegate.verify.record_lines import (
    EntryLine,
    Mark,
    NoteLine,
    entry_line,
    mark_line,
    note_line,
    parse_line,
    pieces,
)
from tidegate.verify.record_store import Store

UNSIGNED: Final = 1_024
"""Entries after which a checkpoint is signed, whatever they say."""

SEGMENT_BYTES: Final = 16 << 20
"""A new segment is begun beyond it: what opening has to read, about 100,000 tokens."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """Where a record ends: the state, the segment and offset to write at, how much is signed."""

    fold: Fold
    segment: int
    offset: int
    signed: int


@dataclass(frozen=True, slots=True)
class Abandon:
    """Becomes an `End` after as many tokens as are recorded: for whoever cannot know how many."""

    response: int
    reason: Reason
    code: str = ""


class Writer:
    """The record's only writer. Opening recovers: it drops a torn last line, ends with `cut` every
    answer that an earlier writer left running, and signs.

    Args:
        store: where the record lives.
        signer: signs its checkpoints; its name is the record's origin.
        clock: `now()` dates the opening, `monotonic()` what follows.
        stack: what answers from now on.
        more: what else to write on opening.

    Raises:
        RecordError: the store cannot be read or written, or holds what no writer leaves.
    """

    def __init__(
        self,
        store: Store,
        signer: Signer,
        clock: Clock,
        stack: Stack,
        *,
        more: Sequence[Does] = (),
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self._store = store
        self._signer = signer
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._broken = False
        found = recover(store, signer.verifier)
        self._fold, self._segment, self._offset = found.fold, found.segment, found.offset
        self._signed = found.signed
        self._base = max(self._fold.time, int(clock.now() * 1000))
        self._opened_at = clock.monotonic()
        cut = [Abandon(response, Reason.CUT) for response in self._fold.live]
        for done in self.append([Open(stack), *cut, *more]):
            if isinstance(done, RecordError):
                raise done
        self.sign()

    @property
    def size(self) -> int:
        """Entries written."""
        return self._fold.size

    @property
    def unsigned(self) -> int:
        """Entries under no checkpoint."""
        return self._fold.size - self._signed

    def append(self, does: Iterable[Does | Abandon]) -> list[int | RecordError]:
        """Write entries, durably and together; for each its number, or why it cannot be recorded.

        An entry that cannot be recorded keeps no other from it. A checkpoint goes with them where
        an answer ends or many entries have gathered.

        Raises:
            RecordError: the store failed. Any of the entries may be stored; the writer is broken.
        """
        time = self._base + int((self._clock.monotonic() - self._opened_at) * 1000)
        lines: list[bytes] = []
        done: list[int | RecordError] = []
        ended = False
        opening = self._opening()
        for one in does:
            told = self._ending(one) if isinstance(one, Abandon) else one
            entry = Entry(self._fold.size, max(self._fold.time, time), told)
            try:
                raw = encode(entry)
            except RecordError as error:
                done.append(error)
                continue
            wrong = self._fold.wrong(entry)
            if wrong is not None:
                done.append(RecordError(wrong[1], kind=wrong[0]))
                continue
            self._fold.take(raw, entry)
            lines.append(entry_line(self._fold.head, raw))
            done.append(entry.n)
            ended = ended or isinstance(told, End)
        if lines:
            note = self._note() if ended or self.unsigned >= UNSIGNED else b""
            self._write(opening + b"".join(lines) + note, signed=bool(note))
        return done

    def sign(self) -> None:
        """Write a checkpoint of all entries, unless they are under one.

        Raises:
            RecordError: the store failed.
        """
        if self.unsigned:
            self._write(self._note(), signed=True)

    def _ending(self, one: Abandon) -> End:
        live = self._fold.live.get(one.response)
        return End(one.response, one.reason, one.code, 0 if live is None else live.tokens, 0)

    def _note(self) -> bytes:
        checkpoint = Checkpoint(self._signer.name, self._fold.size, self._fold.root)
        return note_line(self._signer.sign(checkpoint))

    def _opening(self) -> bytes:
        """The mark and checkpoint that a new segment opens with, if one is due."""
        if self._offset >= self._segment_bytes:
            self._segment, self._offset = self._fold.size, 0
        if self._offset:
            return b""
        return mark_line(self._fold.mark()) + (self._note() if self._fold.size else b"")

    def _write(self, data: bytes, *, signed: bool) -> None:
        if self._broken:
            raise RecordError("This writer is broken; open another.")
        self._broken = True
        self._store.append(self._segment, self._offset, data)
        self._broken = False
        self._offset += len(data)
        if signed:
            self._signed = self._fold.size


def recover(store: Store, key: Verifier) -> Recovered:
    """Where the record ends, once what was never finished has been dropped.

    Only a line without its newline is dropped, and a segment whose mark was not finished is begun
    again: nothing that an `append` returned for. Whatever else does not fit is an error, for
    somebody to look at.

    Raises:
        RecordError: the store cannot be read or written, or holds what no writer leaves.
    """
    segments = store.segments()
    for segment in reversed(segments):
        found = _scan(store, segment, key)
        if found is None:
            continue
        if segment != segments[-1]:
            if found.fold.size != segments[-1]:
                raise _unfit(segments[-1], 0)
            return Recovered(found.fold, segments[-1], 0, found.signed)
        return found
    if segments not in ((), (0,)):
        raise _unfit(segments[0], 0)
    return Recovered(Fold(), 0, 0, 0)


def _scan(store: Store, segment: int, key: Verifier) -> Recovered | None:
    fold, offset, signed = None, 0, 0
    for piece in pieces(store, segment):
        if not piece.whole:
            store.cut(segment, offset)
            break
        try:
            line = parse_line(piece.data)
        except RecordError as error:
            raise _unfit(segment, offset) from error
        if isinstance(line, Mark):
            if fold is not None or line.n != segment:
                raise _unfit(segment, offset)
            fold = Fold.of(line)
        elif fold is None:
            raise _unfit(segment, offset)
        elif isinstance(line, NoteLine):
            _check_note(line, fold, key, segment, offset)
            signed = fold.size
        else:
            _take(line, fold, segment, offset)
        offset = piece.end
    return None if fold is None else Recovered(fold, segment, offset, signed)


def _take(line: EntryLine, fold: Fold, segment: int, offset: int) -> None:
    try:
        entry = parse(line.raw)
    except RecordError as error:
        raise _unfit(segment, offset) from error
    chained = line.head == next_head(fold.head, line.raw)
    if entry.n != fold.size or not chained or fold.wrong(entry) is not None:
        raise _unfit(segment, offset)
    fold.take(line.raw, entry, line.head)


def _check_note(line: NoteLine, fold: Fold, key: Verifier, segment: int, offset: int) -> None:
    try:
        checkpoint = key.open(line.note)
    except CheckpointError as error:
        raise _unfit(segment, offset) from error
    if (checkpoint.size, checkpoint.root) != (fold.size, fold.root):
        raise _unfit(segment, offset)


def _unfit(segment: int, offset: int) -> RecordError:
    return RecordError(
        f"Segment {segment} of the record holds at byte {offset} what no writer leaves. Verify the "
        "record, and begin a new one in another folder.",
        segment=segment,
        offset=offset,
    )
