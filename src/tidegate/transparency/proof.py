"""That an entry is in a witnessed log, as a file that anybody can check offline.

Format: C2SP tlog-proof (https://c2sp.org/tlog-proof): the entry's number, the hashes from its leaf
to the root, and the checkpoint with its cosignatures.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tidegate.transparency.errors import CheckpointError, LogError
from tidegate.transparency.log import Log
from tidegate.transparency.note import MAX_NOTE_BYTES, Checkpoint, b64, note_text, unb64
from tidegate.transparency.outcome import CannotVerify, Fail, Outcome, Pass, Problem
from tidegate.transparency.policy import Policy
from tidegate.transparency.tree import included, leaf_hash

HEADER = "c2sp.org/tlog-proof@v1"
MAX_PROOF_BYTES = MAX_NOTE_BYTES + 65_536

_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Proof:
    """An entry's number, the hashes, and the note."""

    index: int
    hashes: tuple[bytes, ...]
    note: str

    def encode(self) -> str:
        """The file's text."""
        lines = [HEADER, f"index {self.index}", *map(b64, self.hashes), "", self.note]
        return "\n".join(lines)

    @classmethod
    def parse(cls, text: str) -> Proof:
        """Read a file; `extra` data is skipped, for nothing vouches for it.

        Raises:
            CheckpointError: malformed.
        """
        head, blank, note = text.partition("\n\n")
        lines = head.split("\n")
        if len(text) > MAX_PROOF_BYTES or not blank or lines[0] != HEADER:
            raise CheckpointError("This is no proof of a transparency log.")
        rest = lines[2:] if len(lines) > 1 and lines[1].startswith("extra ") else lines[1:]
        index = _INDEX.fullmatch(rest[0]) if rest else None
        if index is None or len(rest) > 64:
            raise CheckpointError("A proof gives the entry's number and at most 63 hashes.")
        return cls(int(index[1]), tuple(map(unb64, rest[1:])), note)


def prove(log: Log, index: int) -> Proof:
    """The proof of entry `index` under the last checkpoint that the log signed.

    Raises:
        LogError: nothing that holds it was signed yet, or there is no such entry.
    """
    note = log.kept()
    size = 0 if note is None else Checkpoint.parse(note_text(note)).size
    if note is None or index >= size:
        raise LogError(
            f"No checkpoint holds entry {index} yet: `tidegate log publish` signs one.", entry=index
        )
    return Proof(index, log.inclusion(index, size), note)


def check(proof: Proof, raw: bytes, policy: Policy) -> Outcome:
    """Whether the entry `raw` stands in a log that `policy` trusts, as enough witnesses saw it.

    1. The checkpoint is signed by a log of the policy, and rightly by its known witnesses.
    2. The hashes lead from the entry to the checkpoint's root.
    3. The cosignatures make the quorum.
    """
    try:
        opened = policy.open(proof.note)
    except CheckpointError as error:
        return Fail(Problem.FORGED, error.message)
    point = opened.checkpoint
    if not included(leaf_hash(raw), proof.index, point.size, proof.hashes, point.root):
        reason = f"The proof does not lead from this entry to the tree of {point.size} entries."
        return Fail(Problem.FORGED, reason)
    if not opened.quorum:
        return CannotVerify("The entry is in the tree, but too few witnesses cosigned it.")
    by = ", ".join(f"{one.name} at {one.time}" for one in opened.cosignatures) or "nobody"
    where = f"the log {point.origin} of {point.size} entries"
    return Pass(
        f"Entry {proof.index} is in {where}; cosigned by {by}",
        ("whether what the entry says is true", "entries that were never appended"),
        len(opened.cosignatures),
    )
