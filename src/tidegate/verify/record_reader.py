"""Reads a record as a stream, in bounded memory: whole answers out, and everything that is wrong.

A reader checks, line by line:

1. the line is one, whole, and its entry in canonical form;
2. entries are numbered without gap or repetition and chain on; a segment's mark states the truth;
3. every checkpoint is signed by the record's key and is of exactly these entries;
4. checkpoints kept elsewhere lie on the same tree, and none lies beyond the end;
5. what answers is what the verifier expects: model, tokenizer, template, adapters;
6. answers begin once, go on without gap, end once, and no seed serves two of them.

After something is wrong it goes on as well as it can, to name the rest too, but hands out no answer
that is touched. It never repairs, and without findings is the only state that can become a pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from tidegate.errors import RecordError
from tidegate.ledger.entries import next_head
from tidegate.record.entries import Begin, End, Entry, Gap, Open, Prefill, Stack, Tokens, parse
from tidegate.transparency.errors import CheckpointError
from tidegate.transparency.note import Checkpoint, Verifier
from tidegate.verify.record_findings import Finding, Findings, Kind, Summary
from tidegate.verify.record_fold import MAX_LIVE, Fold
from tidegate.verify.record_lines import EntryLine, Mark, NoteLine, Piece, parse_line, pieces
from tidegate.verify.record_response import Building, Response
from tidegate.verify.record_seen import Seen
from tidegate.verify.record_store import Source

MAX_BUFFERED: Final = 1 << 22
"""Tokens of running answers held at once: 100 MB at worst, far beyond what a link runs."""

_MAX_RANGES: Final = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What may have answered. None: anything, which is for looking, not for verifying."""

    models: frozenset[str] | None = None
    tokenizers: frozenset[str] | None = None
    templates: frozenset[str] | None = None
    loras: frozenset[str] | None = frozenset({""})


class Reader:
    """Reads one record once, from its first entry.

    `read` may be called again while the record grows; `finish` ends that and says what is wrong
    with the record's end. An answer handed out is checked as far as the checkpoint that covers it
    only once that was read: take none whose `last` is not below `signed`.

    Args:
        source: the segments.
        key: the record's key, got from somewhere else than the record.
        kept: checkpoints of it kept elsewhere, opened with the same key. Without one nobody can
            tell a record that was cut at a line's end, or rewritten with its key.
        expected: what may have answered.
    """

    def __init__(
        self,
        source: Source,
        key: Verifier,
        *,
        kept: Iterable[Checkpoint] = (),
        expected: Expected | None = None,
    ) -> None:
        self._source = source
        self._key = key
        self._kept = sorted(kept, key=lambda checkpoint: checkpoint.size, reverse=True)
        self._expected = expected or Expected()
        self._segment: int | None = None
        self._offset = 0
        self._torn = False
        self._fold = Fold()
        self._whole = True
        self._missing: list[tuple[int, int]] = []
        self._building: dict[int, Building] = {}
        self._buffered = 0
        self._spoiled: set[int] = set()
        self._stack_known = False
        self._seen = Seen()
        self._findings = Findings()
        self._responses = self._tokens = self._signed = 0

    def read(self) -> Iterator[Response | Finding]:
        """Everything that is there now and was not read before.

        Raises:
            RecordError: the medium cannot be read; nothing is known, and nothing may be assumed.
        """
        while True:
            segments = self._source.segments()
            if self._segment is None:
                if not segments:
                    return
                self._segment = segments[0]
            for piece in pieces(self._source, self._segment, self._offset):
                self._torn = not piece.whole
                if piece.whole:
                    yield from self._piece(piece)
                    self._offset = piece.end
            later = [segment for segment in segments if segment > self._segment]
            if not later:
                return
            if self._torn:
                yield self._find(Kind.TRUNCATED, "A line is torn.", self._fold.size)
            self._segment, self._offset, self._torn = later[0], 0, False

    def finish(self) -> Iterator[Finding]:
        """What is wrong with the end of what was read."""
        if self._torn:
            yield self._find(Kind.TRUNCATED, "The last line is torn.", self._fold.size)
        for first, after in self._missing:
            yield self._find(Kind.MISSING, f"Entries {first} to {after - 1} are missing.", first)
        self._missing.clear()
        if self._kept and self._kept[0].size > self._fold.size:
            beyond = self._kept[0].size
            reason = f"The record ends before a checkpoint of {beyond} entries."
            yield self._find(Kind.ROLLBACK, reason, self._fold.size)
        if self._signed < self._fold.size:
            reason = "The last entries are under no checkpoint."
            yield self._find(Kind.UNSIGNED, reason, self._signed)
        for number in self._fold.live:
            yield self._find(Kind.UNFINISHED, "An answer has not ended.", number, number)
        self._seen.close()

    @property
    def signed(self) -> int:
        """Entries under the last good checkpoint read so far."""
        return self._signed

    def summary(self) -> Summary:
        """What reading came to so far; complete after `finish`."""
        return Summary(
            entries=self._fold.size,
            responses=self._responses,
            tokens=self._tokens,
            signed=self._signed,
            root=self._fold.root.hex() if self._whole else "",
            counts={kind.value: count for kind, count in self._findings.counts.items()},
            findings=tuple(self._findings.kept),
        )

    def _find(
        self, kind: Kind, reason: str, entry: int | None, response: int | None = None
    ) -> Finding:
        finding = Finding(kind=kind, reason=reason, entry=entry, response=response)
        self._findings.add(finding)
        return finding

    def _piece(self, piece: Piece) -> Iterator[Response | Finding]:
        try:
            line = parse_line(piece.data)
        except RecordError as error:
            yield self._find(Kind.CORRUPT, error.message, self._fold.size)
            self._lost_line(piece.data)
            return
        if isinstance(line, Mark) != (self._offset == 0):
            reason = "A segment opens with its mark, and holds no other."
            yield self._find(Kind.CORRUPT, reason, self._fold.size)
        if isinstance(line, Mark):
            yield from self._mark(line)
        elif isinstance(line, NoteLine):
            yield from self._note(line)
        else:
            yield from self._entry(line)

    def _lost_line(self, data: bytes) -> None:
        """A line that cannot be read stands where an entry did, if it looks like one."""
        self._break()
        if data.startswith(b"E"):
            self._fold.link(data, b"")

    def _break(self) -> None:
        """From here on no tree can be built, so no checkpoint can be compared."""
        self._whole = self._fold.tree = False

    def _mark(self, mark: Mark) -> Iterator[Finding]:
        if self._whole and mark == self._fold.mark():
            return
        if mark.n > self._fold.size:
            self._skip_to(mark.n)
            self._fold = Fold.of(mark)
            self._break()
            for number in set(self._building) | set(self._fold.live):
                self._spoil(number)
        elif self._whole or mark.n < self._fold.size:
            kind = Kind.DUPLICATED if mark.n < self._fold.size else Kind.CORRUPT
            yield self._find(kind, "A segment's mark does not fit what stands before it.", mark.n)
        self._break()

    def _note(self, line: NoteLine) -> Iterator[Finding]:
        try:
            checkpoint = self._key.open(line.note)
        except CheckpointError as error:
            yield self._find(Kind.FORGED_CHECKPOINT, error.message, self._fold.size)
            return
        if not self._whole:
            return
        if (checkpoint.size, checkpoint.root) != (self._fold.size, self._fold.root):
            reason = f"The entries are not those of the checkpoint of {checkpoint.size} entries."
            yield self._find(Kind.ALTERED, reason, self._fold.size)
        else:
            self._signed = self._fold.size

    def _entry(self, line: EntryLine) -> Iterator[Response | Finding]:
        try:
            entry = parse(line.raw)
        except RecordError as error:
            yield self._find(Kind.CORRUPT, error.message, self._fold.size)
            self._break()
            self._fold.link(line.raw, line.head)
            return
        fold = self._fold
        if entry.n < fold.size:
            late = self._was_missing(entry.n)
            kind = Kind.REORDERED if late else Kind.DUPLICATED
            yield self._find(kind, f"Entry {entry.n} stands after later ones.", entry.n)
            self._break()
            return
        if entry.n > fold.size:
            self._skip_to(entry.n)
            fold.size = entry.n
        elif fold.head and line.head != next_head(fold.head, line.raw):
            reason = f"Entry {entry.n} does not chain to what stands before it."
            yield self._find(Kind.CORRUPT, reason, entry.n)
            self._break()
            self._spoil(_response_of(entry))
        wrong = fold.wrong(entry)
        if wrong is None:
            yield from self._take(entry, line)
        else:
            yield from self._refuse(entry, *wrong)
            fold.link(line.raw, line.head)
        yield from self._compare_kept()

    def _refuse(self, entry: Entry, kind: Kind, reason: str) -> Iterator[Finding]:
        number = _response_of(entry)
        # One finding for all that follows from one loss.
        if number is None or number not in self._spoiled:
            if number is not None and any(low <= number < high for low, high in self._missing):
                kind = Kind.MISSING
            yield self._find(kind, reason, entry.n, number)
            self._spoil(number)
        if number is not None and isinstance(entry.does, End):
            self._fold.live.pop(number, None)
            self._spoiled.discard(number)

    def _take(self, entry: Entry, line: EntryLine) -> Iterator[Response | Finding]:
        self._fold.take(line.raw, entry, line.head)
        does = entry.does
        if isinstance(does, Open):
            yield from self._open(does.stack, entry.n)
        elif isinstance(does, Begin):
            yield from self._begin(does, entry, line.raw)
        elif isinstance(does, Gap):
            reason = f"{does.tokens} tokens left unrecorded, and {does.responses} whole answers."
            yield self._find(Kind.UNRECORDED, reason, entry.n)
        elif isinstance(does, End):
            built = self._drop(does.response)
            if built is not None:
                self._responses += 1
                self._tokens += len(built.tokens)
                yield built.finish(entry.n, entry.time, does, line.raw)
            self._spoiled.discard(does.response)
        else:
            yield from self._add(does, entry, line.raw)

    def _open(self, stack: Stack, n: int) -> Iterator[Finding]:
        expected = self._expected
        self._stack_known = True
        for kind, value, allowed in (
            (Kind.UNKNOWN_MODEL, stack.model, expected.models),
            (Kind.WRONG_TOKENIZER, stack.tokenizer, expected.tokenizers),
            (Kind.WRONG_TEMPLATE, stack.template, expected.templates),
        ):
            if allowed is not None and value not in allowed:
                self._stack_known = False
                yield self._find(kind, f"The fingerprint {value or 'of none'} is not expected.", n)

    def _begin(self, begin: Begin, entry: Entry, raw: bytes) -> Iterator[Finding]:
        stack, number = self._fold.stack, entry.n
        if stack is None or not self._stack_known:
            self._spoil(number)
        loras = self._expected.loras
        if loras is not None and begin.lora not in loras:
            reason = f"The adapter {begin.lora or 'none'} is not expected."
            yield self._find(Kind.UNKNOWN_LORA, reason, number, number)
            self._spoil(number)
        named = hashlib.sha256(f"{begin.choice} {begin.request}".encode()).digest()
        if not self._seen.add(named):
            yield self._find(Kind.DUPLICATED, "An answer is recorded twice.", number, number)
            self._spoil(number)
        if not self._seen.add(bytes.fromhex(begin.seed)):
            reason = "One seed serves two answers."
            yield self._find(Kind.CONTRADICTORY_SEEDS, reason, number, number)
            self._spoil(number)
        if stack is not None and number not in self._spoiled:
            self._building[number] = Building.of(number, entry.time, stack, begin, raw)

    def _add(self, does: Prefill | Tokens, entry: Entry, raw: bytes) -> Iterator[Finding]:
        built = self._building.get(does.response)
        if built is None:
            return
        built.add(does, entry.time, raw)
        if isinstance(does, Prefill):
            return
        self._buffered += len(does.ids)
        if max(does.ids) >= built.stack.vocabulary:
            reason = "An answer holds a token outside the vocabulary."
            yield self._find(Kind.WRONG_TOKENIZER, reason, entry.n, does.response)
            self._spoil(does.response)
        elif self._buffered > MAX_BUFFERED:
            reason = "Running answers hold more tokens than any writer lets them."
            yield self._find(Kind.OVERSIZED, reason, entry.n, does.response)
            self._spoil(does.response)

    def _compare_kept(self) -> Iterator[Finding]:
        while self._kept and self._kept[-1].size <= self._fold.size:
            kept = self._kept.pop()
            if self._whole and kept.size == self._fold.size and kept.root != self._fold.root:
                reason = f"The record differs from a checkpoint of {kept.size} entries."
                yield self._find(Kind.SPLIT_VIEW, reason, kept.size)

    def _skip_to(self, n: int) -> None:
        """Entries up to `n` are not here; they may stand later."""
        self._break()
        if len(self._missing) >= _MAX_RANGES:
            self._missing[-1] = (self._missing[-1][0], n)
        else:
            self._missing.append((self._fold.size, n))

    def _was_missing(self, n: int) -> bool:
        for place, (low, high) in enumerate(self._missing):
            if low <= n < high:
                rest = ((low, n), (n + 1, high))
                self._missing[place : place + 1] = [part for part in rest if part[0] < part[1]]
                return True
        return False

    def _spoil(self, number: int | None) -> None:
        if number is not None:
            self._drop(number)
            if len(self._spoiled) < 2 * MAX_LIVE:
                self._spoiled.add(number)

    def _drop(self, number: int) -> Building | None:
        built = self._building.pop(number, None)
        if built is not None:
            self._buffered -= len(built.tokens)
        return built


def _response_of(entry: Entry) -> int | None:
    does = entry.does
    return None if isinstance(does, Open | Gap) else getattr(does, "response", entry.n)
