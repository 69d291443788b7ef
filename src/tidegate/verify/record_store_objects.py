"""The record's segments in object storage: write-once pieces that name their place and digest.

`segments/<first entry>/<offset>-<length>-<first 32 hex digits of SHA-256>`: what a segment holds is
its pieces one after the other. A piece never changes, so nothing that was shipped can be rewritten
unseen, and one that a store kept only half of is told by its own name. `Shipper` puts them there.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tidegate.errors import RecordError
from tidegate.verify.fleet_store import Objects
from tidegate.verify.record_store import Source

PIECE: Final = 4 << 20
"""Bytes of a piece at most."""

SEGMENTS: Final = "segments/"

_NAME: Final = re.compile(r"segments/([0-9]{20})/([0-9]{12})-([0-9]{8})-([0-9a-f]{32})", re.ASCII)
_HELD: Final = 2
"""Pieces kept in memory: a line may lie across two."""


class HalfWrittenError(RecordError):
    """A piece of a segment is not whole; whoever ships the record mends it."""

    code = "half_written"


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece by what its name says; `size` is what the store holds of it."""

    name: str
    segment: int
    offset: int
    length: int
    digest: str
    size: int

    @property
    def whole(self) -> bool:
        """Whether the store holds as much as was to be written."""
        return self.size == self.length

    @property
    def end(self) -> int:
        """The offset in the segment after it."""
        return self.offset + self.length


def piece_name(segment: int, offset: int, data: bytes) -> str:
    """The name of the piece that holds `data`."""
    digest = hashlib.sha256(data).hexdigest()[:32]
    return f"{SEGMENTS}{segment:020d}/{offset:012d}-{len(data):08d}-{digest}"


def pieces_in(objects: Objects) -> tuple[Piece, ...]:
    """All pieces in a store, by segment and offset; what else lies there is passed over.

    Raises StoreError.
    """
    found = []
    for name, size in objects.names(SEGMENTS).items():
        said = _NAME.fullmatch(name)
        if said is not None and 0 < int(said[3]) <= PIECE:
            found.append(Piece(name, int(said[1]), int(said[2]), int(said[3]), said[4], size))
    return tuple(sorted(found, key=lambda piece: (piece.segment, piece.offset, piece.length)))


class ObjectSource:
    """A `Source` over shipped pieces, as they were when it was opened.

    Raises RecordError; HalfWrittenError where a piece is not whole and no other stands in for it.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._held: OrderedDict[str, bytes] = OrderedDict()
        listed: dict[int, list[Piece]] = {}
        for piece in pieces_in(objects):
            listed.setdefault(piece.segment, []).append(piece)
        self._rows = {segment: _row(pieces) for segment, pieces in listed.items()}

    def segments(self) -> tuple[int, ...]:
        return tuple(self._rows)

    def read(self, segment: int, offset: int, limit: int) -> bytes:
        if segment not in self._rows:
            raise RecordError("There is no such segment of the record.", segment=segment)
        row = self._rows[segment]
        parts: list[bytes] = []
        place = bisect_right(row.ends, offset)
        while limit and place < len(row.pieces):
            piece = row.pieces[place]
            begin = offset - piece.offset
            part = self._bytes(piece)[begin : begin + limit]
            parts.append(part)
            offset, limit, place = offset + len(part), limit - len(part), place + 1
        if limit and row.broken is not None:
            raise row.broken
        return b"".join(parts)

    def _bytes(self, piece: Piece) -> bytes:
        if piece.name in self._held:
            self._held.move_to_end(piece.name)
            return self._held[piece.name]
        data = self._objects.read(piece.name)
        if len(data) != piece.length or hashlib.sha256(data).hexdigest()[:32] != piece.digest:
            raise HalfWrittenError(
                f"{piece.name} does not hold what its name says; ship the record again",
                segment=piece.segment,
            )
        self._held[piece.name] = data
        if len(self._held) > _HELD:
            self._held.popitem(last=False)
        return data


@dataclass(frozen=True, slots=True)
class _Row:
    """Pieces that follow one another from byte 0, where each ends, and what is wrong after them."""

    pieces: tuple[Piece, ...]
    ends: tuple[int, ...]
    broken: RecordError | None


def _row(pieces: Sequence[Piece]) -> _Row:
    """One row of a segment's pieces, which are sorted by offset and may overlap."""
    row: list[Piece] = []
    end = 0
    best: Piece | None = None
    for piece in pieces:
        if piece.offset > end and best is not None:
            row, end, best = [*row, best], best.end, None
        if piece.offset > end:
            break
        if piece.whole and piece.end > (end if best is None else best.end):
            best = piece
    if best is not None:
        row, end = [*row, best], best.end
    return _Row(tuple(row), tuple(piece.end for piece in row), _broken(pieces, end))


def _broken(pieces: Sequence[Piece], end: int) -> RecordError | None:
    """Why a segment cannot be read from `end` on; None where nothing was ever shipped of that."""
    half = [piece for piece in pieces if piece.offset <= end < piece.end]
    if half:
        told = f"{half[0].name} is half-written; `tidegate fleet ship` mends it"
        return HalfWrittenError(told, segment=half[0].segment)
    if any(piece.offset > end for piece in pieces):
        segment = pieces[0].segment
        told = f"a piece of segment {segment} is missing at byte {end}; ship the record again"
        return RecordError(told, segment=segment)
    return None


@dataclass(frozen=True, slots=True)
class Shipped:
    """What one round did: pieces and bytes created, and half-written pieces made whole."""

    pieces: int = 0
    size: int = 0
    mended: int = 0


class Shipper:
    """Copies a record's finished lines to a store, each byte once, going on where it stopped.

    Args:
        source: the record, as its writer keeps it.
        objects: where to.
        durable: has a segment's bytes survive a crash; nothing is shipped before. What is shipped
            can never be taken back, so a machine that forgot a line must not have shipped it.
    """

    def __init__(
        self,
        source: Source,
        objects: Objects,
        durable: Callable[[int], None] = lambda _segment: None,
    ) -> None:
        self._source = source
        self._objects = objects
        self._durable = durable
        self._ends: dict[int, int] | None = None

    def round(self, step: Callable[[int], None] = lambda _size: None) -> Shipped:
        """Ship all finished lines that are there now; `step` hears the bytes of each piece.

        Raises:
            RecordError: the record here is not the one that was shipped, or cannot be read.
            StoreError: the store failed; what was shipped stays, and another round goes on.
        """
        mended, ends = self._looked() if self._ends is None else (0, self._ends)
        # Until the round is over nobody knows what is there; after a failure it is looked at anew.
        self._ends = None
        made = size = 0
        for segment in self._source.segments():
            offset = ends.get(segment, 0)
            self._durable(segment)
            while data := self._lines(segment, offset):
                self._objects.create(piece_name(segment, offset, data), data)
                made, size, offset = made + 1, size + len(data), offset + len(data)
                step(len(data))
            ends[segment] = offset
        self._ends = ends
        return Shipped(made, size, mended)

    def _looked(self) -> tuple[int, dict[int, int]]:
        """Half-written pieces that were removed, and how far each segment was shipped."""
        listed: dict[int, list[Piece]] = {}
        mended = 0
        for piece in pieces_in(self._objects):
            if not piece.whole:
                self._objects.delete(piece.name)
                mended += 1
                continue
            self._same(piece)
            listed.setdefault(piece.segment, []).append(piece)
        rows = {segment: _row(pieces) for segment, pieces in listed.items()}
        return mended, {segment: row.ends[-1] if row.ends else 0 for segment, row in rows.items()}

    def _lines(self, segment: int, offset: int) -> bytes:
        """Whole lines from `offset` on; of a line longer than a piece, its first part."""
        data = self._source.read(segment, offset, PIECE)
        if len(data) == PIECE:
            return data
        return data[: data.rfind(b"\n") + 1]

    def _same(self, piece: Piece) -> None:
        """Raises RecordError where the record here has other bytes where `piece` lies."""
        if piece.segment in self._source.segments():
            here = self._source.read(piece.segment, piece.offset, piece.length)
            if hashlib.sha256(here).hexdigest()[:32] == piece.digest:
                return
        raise RecordError(
            f"segment {piece.segment} is here not what was shipped of it at byte {piece.offset}: "
            "this is another record, or it was cut or rewritten",
            segment=piece.segment,
        )
