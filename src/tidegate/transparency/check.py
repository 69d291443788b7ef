"""Recompute a whole log and hold it against checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

from tidegate.transparency.entry import parse
from tidegate.transparency.errors import CheckpointError, EntryError, LogError
from tidegate.transparency.log import Log
from tidegate.transparency.outcome import CannotVerify, Fail, Outcome, Pass, Problem
from tidegate.transparency.policy import Policy
from tidegate.transparency.tree import Frontier, frontier_root, grow, leaf_hash


def check_log(log: Log, policy: Policy, trusted: Sequence[str] = ()) -> Outcome:
    """Check a log from its first entry to its last signed one.

    1. The checkpoint that the store keeps is signed by the policy's log.
    2. Every entry is canonical, and the entries make the tree of that checkpoint.
    3. They also make the tree of every note in `trusted`, kept elsewhere.
    4. Enough witnesses cosigned.

    Without a witness or a note from elsewhere nobody can tell a log that was rewritten, and signed
    again, by whoever has its key.
    """
    note = log.kept()
    if note is None:
        return CannotVerify("The log has signed no checkpoint yet.")
    try:
        opened = policy.open(note)
        known = [(policy.open(other).checkpoint, other) for other in trusted]
    except CheckpointError as error:
        return Fail(Problem.FORGED, error.message)
    point = opened.checkpoint
    for other, text in known:
        if other.size > point.size:
            reason = f"The log ends at {point.size} entries; a checkpoint says {other.size}."
            return Fail(Problem.ROLLBACK, reason, (text, note))
    try:
        roots = _roots(log, point.size, {point.size, *(other.size for other, _ in known)})
    except EntryError as error:
        return Fail(Problem.MALFORMED, error.message, (note,))
    except LogError as error:
        return CannotVerify(error.message)
    if roots[point.size] != point.root:
        return Fail(Problem.ALTERED, "The entries do not make the tree that was signed.", (note,))
    for other, text in known:
        if roots[other.size] != other.root:
            reason = f"The log is not the one whose first {other.size} entries were signed before."
            return Fail(Problem.SPLIT_VIEW, reason, (text, note))
    if not opened.quorum:
        return CannotVerify("The log is whole, but too few witnesses cosigned its checkpoint.")
    return Pass(
        f"{point.size} entries make the signed tree; {len(opened.cosignatures)} witnesses cosigned "
        f"it and {len(known)} checkpoints kept elsewhere agree",
        (
            "whether what entries say is true",
            f"{log.size - point.size} entries that no checkpoint holds yet",
        ),
        len(opened.cosignatures),
    )


def _roots(log: Log, size: int, wanted: set[int]) -> dict[int, bytes]:
    frontier: Frontier = ()
    roots = {0: frontier_root(())}
    for index, raw in log.raw_entries(0, size):
        parse(raw, index)
        frontier = grow(frontier, index, leaf_hash(raw))
        if index + 1 in wanted:
            roots[index + 1] = frontier_root(frontier)
    return roots
