"""Follow a log from outside: take in what is new, and raise the alarm if its history changed.

A follower keeps a checkpoint and the roots that make up its tree. From there it reads every new
entry and computes the new root itself, so that it needs no proof from the log. Checkpoints that
others hold (witnesses, other followers) are held against the same entries: of two signed trees of
which neither extends the other, both notes are the evidence, since only the log can sign.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

import msgspec

from tidegate.disk import replace_whole
from tidegate.transparency.entry import Logged, parse
from tidegate.transparency.errors import CheckpointError, EntryError, LogError
from tidegate.transparency.http_client import UnreachableError, request
from tidegate.transparency.note import MAX_NOTE_BYTES
from tidegate.transparency.outcome import CannotVerify, Fail, Problem
from tidegate.transparency.policy import Opened, Policy
from tidegate.transparency.tiles import MAX_BUNDLE_BYTES, Tile, cover, entries_of
from tidegate.transparency.tree import Frontier, frontier_root, grow, leaf_hash


class Source(Protocol):
    """Where a log's resources are read."""

    def checkpoint(self) -> str:
        """The note it serves now. Raises UnreachableError."""
        ...

    def bundle(self, tile: Tile) -> bytes:
        """A bundle of entries. Raises UnreachableError."""
        ...


class HttpSource:
    """A `Source` at a log's prefix (C2SP tlog-tiles)."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def checkpoint(self) -> str:
        return self._get("checkpoint", MAX_NOTE_BYTES).decode(errors="replace")

    def bundle(self, tile: Tile) -> bytes:
        return self._get(tile.path(), MAX_BUNDLE_BYTES)

    def _get(self, path: str, most: int) -> bytes:
        status, raw = request("GET", f"{self._url}/{path}", most=most)
        if status != 200:
            raise UnreachableError(f"The log answers {status} for {path}.")
        return raw


@dataclass(frozen=True, slots=True)
class Known:
    """What a follower keeps: a checkpoint's note, its size, and the roots that its tree is of."""

    note: str
    size: int
    frontier: Frontier


@dataclass(frozen=True, slots=True)
class Grown:
    """The log only grew. `entries` are the new ones, every one under the checkpoint's root."""

    known: Known
    opened: Opened
    entries: tuple[Logged, ...]


@dataclass(frozen=True, slots=True)
class Other:
    """A checkpoint that somebody else holds, and who, in words."""

    who: str
    note: str


Step = Grown | Fail | CannotVerify


def step(known: Known | None, source: Source, policy: Policy, others: Sequence[Other] = ()) -> Step:
    """Look at the log once.

    1. Its checkpoint is signed, and cosigned by enough witnesses.
    2. It is no smaller than what is kept, nor than what others hold.
    3. The kept entries and the new ones make its root.
    4. Every checkpoint that others hold is of a tree that these entries make.

    All new entries are held in memory at once.

    Args:
        known: what is kept; None at first: the first checkpoint is taken on trust, as far as its
            witnesses do not vouch for it.
        source: the log.
        policy: whom to trust. The origin is that of `known`, or of the policy's first log.
        others: checkpoints of the same log, fetched **before** this call, so that a log that is
            smaller is behind, not merely younger. Notes that are not rightly signed are passed by:
            they accuse nobody.
    """
    try:
        note = source.checkpoint()
        opened = policy.open(note)
        point = opened.checkpoint
        if not opened.quorum:
            return CannotVerify(f"Too few witnesses cosigned the tree of {point.size} entries yet.")
        held = [(other, one) for other in others if (one := _opened(policy, other)) is not None]
        mine = (
            [] if known is None else [(Other("this follower", known.note), policy.open(known.note))]
        )
        for other, theirs in (*mine, *held):
            if theirs.checkpoint.origin == point.origin and theirs.checkpoint.size > point.size:
                return Fail(
                    Problem.ROLLBACK,
                    f"The log shows {point.size} entries after it signed {theirs.checkpoint.size}, "
                    f"which {other.who} holds.",
                    (other.note, note),
                )
        return _grown(known, source, opened, [*mine, *held])
    except UnreachableError as error:
        return CannotVerify(error.message)
    except CheckpointError as error:
        return Fail(Problem.FORGED, f"The log's checkpoint cannot be trusted: {error.message}")


def _grown(
    known: Known | None, source: Source, opened: Opened, held: Iterable[tuple[Other, Opened]]
) -> Step:
    point, note = opened.checkpoint, opened.note
    points = [
        (other, one.checkpoint) for other, one in held if one.checkpoint.origin == point.origin
    ]
    start = 0 if known is None else known.size
    frontier: Frontier = () if known is None else known.frontier
    wanted = {theirs.size for _, theirs in points}
    try:
        raws = _read(source, start, point.size)
        roots, frontier = _roots(raws, start, frontier, wanted)
        if frontier_root(frontier) != point.root or wanted - set(roots):
            # From the beginning: what is kept, or somebody holds, may be another history.
            start, raws = 0, _read(source, 0, point.size)
            roots, frontier = _roots(raws, 0, (), wanted)
    except LogError as error:
        return CannotVerify(f"The log's entries cannot be read: {error.message}")
    if frontier_root(frontier) != point.root:
        return CannotVerify("The log serves entries that do not make the tree it signed.")
    for other, theirs in points:
        if roots[theirs.size] != theirs.root:
            return Fail(
                Problem.SPLIT_VIEW,
                f"The log signed two histories: the tree of {theirs.size} entries that {other.who} "
                f"holds is not the beginning of the tree of {point.size} entries that it shows.",
                (other.note, note),
            )
    fresh = raws[0 if known is None else known.size - start :]
    first = point.size - len(fresh)
    try:
        entries = tuple(parse(raw, first + i) for i, raw in enumerate(fresh))
    except EntryError as error:
        return Fail(Problem.MALFORMED, error.message, (note,))
    return Grown(Known(note, point.size, frontier), opened, entries)


def _read(source: Source, start: int, stop: int) -> list[bytes]:
    found: list[bytes] = []
    for tile in cover(start, stop):
        raws = entries_of(source.bundle(tile), tile.width)
        found.extend(raws[max(0, start - tile.number * 256) :])
    return found


def _roots(
    raws: Sequence[bytes], start: int, frontier: Frontier, wanted: set[int]
) -> tuple[dict[int, bytes], Frontier]:
    """The roots at the wanted sizes from `start` on, and the frontier at the end."""
    roots = {start: frontier_root(frontier)} if start in wanted else {}
    for size, raw in enumerate(raws, start):
        frontier = grow(frontier, size, leaf_hash(raw))
        if size + 1 in wanted:
            roots[size + 1] = frontier_root(frontier)
    return roots, frontier


def _opened(policy: Policy, other: Other) -> Opened | None:
    try:
        return policy.open(other.note)
    except CheckpointError:
        return None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    note: str
    size: Annotated[int, msgspec.Meta(ge=0)]
    frontier: tuple[Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")], ...]


class KnownFile:
    """What a follower keeps, in one file; replaced as a whole, durably, or not at all."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, policy: Policy) -> Known | None:
        """What is kept; None if nothing is yet.

        Raises:
            LogError: the file cannot be read, or is not of a log of this policy: somebody changed
                it, and nothing may be concluded until somebody looked.
        """
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=_File)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise LogError(f"{self._path.name} cannot be read: {error}") from error
        frontier = tuple(bytes.fromhex(part) for part in found.frontier)
        point = policy.open(found.note).checkpoint
        if (point.size, point.root) != (found.size, frontier_root(frontier)):
            raise LogError(f"{self._path.name} was altered: its hashes are not its checkpoint's.")
        return Known(found.note, found.size, frontier)

    def write(self, known: Known) -> None:
        """Keep `known` from now on. Raises LogError where it may not be."""
        found = _File(known.note, known.size, tuple(part.hex() for part in known.frontier))
        try:
            replace_whole(self._path, msgspec.json.encode(found) + b"\n")
        except OSError as error:
            raise LogError(f"{self._path.name} cannot be written: {error.strerror}") from error
