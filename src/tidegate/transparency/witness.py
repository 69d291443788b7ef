"""What a witness accepts: the pure part of the C2SP tlog-witness protocol.

A witness keeps, of every log it knows, the last checkpoint it cosigned, and takes a later one only
with a proof that its tree extends the kept one. So it says once and for all which of two histories
it saw, and never cosigns two trees of one size. `witness_service` adds memory, keys and a clock.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.transparency.errors import CheckpointError
from tidegate.transparency.note import MAX_NOTE_BYTES, Checkpoint, Verifier, b64, opened_by, unb64
from tidegate.transparency.tree import EMPTY_ROOT, consistent

MAX_PROOF = 63
MAX_REQUEST_BYTES = MAX_NOTE_BYTES + 64 * 64
"""A note, and 63 hashes of 44 characters with their line ends, and the first line."""

SIZE_TYPE = "text/x.tlog.size"
TEXT_TYPE = "text/plain; charset=utf-8"

_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A request: the size it extends, the proof, and the note."""

    old: int
    proof: tuple[bytes, ...]
    note: str

    def encode(self) -> bytes:
        """The request's body."""
        from_size = [f"old {self.old}", *map(b64, self.proof), "", ""]
        return ("\n".join(from_size) + self.note).encode()

    @classmethod
    def parse(cls, raw: bytes) -> AddCheckpoint:
        """Read a request's body.

        Raises:
            CheckpointError: malformed.
        """
        if len(raw) > MAX_REQUEST_BYTES:
            raise CheckpointError("The request is too large.")
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise CheckpointError("The request is no text.") from error
        head, blank, note = text.partition("\n\n")
        first, *proof = head.split("\n")
        old = _OLD.fullmatch(first)
        if not blank or old is None or len(proof) > MAX_PROOF:
            raise CheckpointError("A request is `old N`, at most 63 hashes, a blank line, a note.")
        hashes = tuple(map(unb64, proof))
        if any(len(part) != 32 for part in hashes):
            raise CheckpointError("A hash of a proof has 32 bytes.")
        return cls(int(old[1]), hashes, note)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer over HTTP."""

    status: int
    body: str
    content_type: str = TEXT_TYPE


@dataclass(frozen=True, slots=True)
class Accept:
    """The tree extends what is kept: keep `checkpoint`, durably, and only then cosign it."""

    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nothing is cosigned. `status` is HTTP's; `split`: the log signed what it must not have."""

    status: int
    reason: str
    split: bool = False


def decide(
    kept: Checkpoint | None, asked: AddCheckpoint, keys: Sequence[Verifier]
) -> Accept | Refuse:
    """Accept or refuse one request, in the order of the protocol's checks.

    1. The note is signed by a key trusted for its log, and rightly by all of them (404, 403).
    2. `old` is at most its size (400), and is the size that is kept (409).
    3. The empty tree has the root of nothing; from nothing, no proof (422).
    4. The proof shows that the tree extends the kept one; of one size, the roots are one (422).

    Args:
        kept: the checkpoint cosigned last for this log, None if there is none.
        asked: the request.
        keys: those trusted for the note's origin.
    """
    if not keys:
        return Refuse(404, "this log is not known here")
    try:
        new = opened_by(keys, asked.note)
    except CheckpointError as error:
        return Refuse(403, error.message)
    if asked.old > new.size:
        return Refuse(400, "the old size is larger than the new one")
    # A root at the kept size convicts the log, however it was asked; a proof may be anybody's.
    split = kept is not None and new.size == kept.size and new.root != kept.root
    size = 0 if kept is None else kept.size
    if asked.old != size:
        return Refuse(409, f"{size}", split)
    if new.size == 0 and new.root != EMPTY_ROOT:
        return Refuse(422, "the empty tree has another root")
    root = EMPTY_ROOT if kept is None else kept.root
    if not consistent(size, root, new.size, new.root, asked.proof):
        return Refuse(422, "nothing shows that this tree extends the one kept", split)
    return Accept(new)
