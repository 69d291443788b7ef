"""What somebody who keeps a checkpoint accepts next, and what two checkpoints prove together.

A witness keeps one signed note. He takes a later one only with a proof that its tree extends the
one he keeps (RFC 9162 section 2.1.4), so the record's owner can show him one history only. Two
witnesses who compare notes find a split view; two notes of one size and different roots convict
the owner before anybody, since only he can sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tidegate.disk import replace_whole
from tidegate.errors import RecordError
from tidegate.transparency.errors import CheckpointError
from tidegate.transparency.note import MAX_NOTE_BYTES, Checkpoint, Verifier
from tidegate.transparency.tree import consistent
from tidegate.verify.record_findings import Finding, Kind


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint together with the note that proves who signed it."""

    checkpoint: Checkpoint
    note: str


def open_note(note: str, key: Verifier) -> Kept | Finding:
    """The checkpoint in `note`, or that it is forged: malformed, of another log or key."""
    try:
        return Kept(key.open(note), note)
    except CheckpointError as error:
        return Finding(kind=Kind.FORGED_CHECKPOINT, reason=error.message)


def advance(kept: Kept | None, note: str, proof: Sequence[bytes], key: Verifier) -> Kept | Finding:
    """What a witness keeps once he was shown `note`; a finding leaves him with what he has.

    Without anything kept the first note is taken on trust, as every witness's first one is.

    Args:
        kept: what he keeps.
        note: a signed note, from whoever holds the record.
        proof: that its tree extends the kept one, from `checkpoint_proofs`; empty for equal sizes
            and where nothing is kept or the kept tree is empty.
        key: the record's key.
    """
    shown = open_note(note, key)
    if isinstance(shown, Finding) or kept is None:
        return shown
    old, new = kept.checkpoint, shown.checkpoint
    if new.size < old.size:
        reason = f"A checkpoint of {new.size} entries follows one of {old.size}."
        return Finding(kind=Kind.ROLLBACK, reason=reason, entry=new.size)
    if not consistent(old.size, old.root, new.size, new.root, proof):
        reason = (
            f"Two checkpoints of {old.size} entries have different roots."
            if new.size == old.size
            else f"Nothing shows that {new.size} entries extend the {old.size} that are kept."
        )
        return Finding(kind=Kind.SPLIT_VIEW, reason=reason, entry=old.size)
    return shown


def compare(one: Kept, other: Kept, proof: Sequence[bytes] = ()) -> Finding | None:
    """Whether two people were shown one record; `proof` is from the smaller tree to the larger.

    None if they were. Where the proof is wrong or withheld it is a split view until somebody brings
    a right one; where the sizes are equal no proof can mend it, and the two notes are the evidence.
    """
    old, new = sorted((one.checkpoint, other.checkpoint), key=lambda point: point.size)
    if old.origin != new.origin:
        return Finding(kind=Kind.FORGED_CHECKPOINT, reason="The checkpoints are of two records.")
    if consistent(old.size, old.root, new.size, new.root, proof):
        return None
    reason = f"Neither of the checkpoints of {old.size} and {new.size} entries extends the other."
    return Finding(kind=Kind.SPLIT_VIEW, reason=reason, entry=old.size)


class KeptFile:
    """The note a witness keeps, in one file; replaced as a whole, durably, or not at all."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, key: Verifier) -> Kept | None:
        """What is kept; None if nothing is yet.

        Raises:
            RecordError: the file cannot be read, or is not a note of this key: somebody changed
                it, and nothing may be concluded until somebody looked.
        """
        try:
            if self._path.stat().st_size > MAX_NOTE_BYTES:
                raise RecordError(f"{self._path.name} is too large for a checkpoint.")
            note = self._path.read_bytes().decode()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise RecordError(f"The checkpoint in {self._path.name} cannot be read.") from error
        kept = open_note(note, key)
        if isinstance(kept, Finding):
            raise RecordError(f"{self._path.name} holds no checkpoint of this key: {kept.reason}")
        return kept

    def write(self, kept: Kept) -> None:
        """Keep `kept` from now on. Raises RecordError where it may not be."""
        try:
            replace_whole(self._path, kept.note.encode())
        except OSError as error:
            raise RecordError(f"The checkpoint in {self._path.name} cannot be kept.") from error
