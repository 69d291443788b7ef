"""A drill: back up, restore beside the real one, and see that a backup that is too old is refused.

A restore that nobody has tried is a hope. This one touches nothing that is in use.
"""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.errors import LedgerError
from tidegate.ledger.backup import Evidence, follow, restore
from tidegate.ledger.errors import RolledBackError
from tidegate.ledger.store import Store
from tidegate.ledger.store_memory import MemoryStore
from tidegate.ledger.verify import rows_between
from tidegate.transparency.note import Checkpoint


@dataclass(frozen=True, slots=True)
class Drill:
    """What came of it. `entries` and `root` are the restored log's."""

    entries: int
    root: bytes
    same: bool
    """The restored log ends where the backup does."""
    old_refused_by_copy: bool
    old_refused_by_checkpoint: bool

    @property
    def passed(self) -> bool:
        """Whether all of it went as it should."""
        return self.same and self.old_refused_by_copy and self.old_refused_by_checkpoint


def drill(log: Store, backup: Store, scratch: Store) -> Drill:
    """Back `log` up into `backup`, restore that into `scratch`, and try one entry too few.

    Args:
        log: the ledger, also while it is in use.
        backup: empty, or an earlier backup of it.
        scratch: empty.

    Raises:
        LedgerError: the log is empty or broken, or a store failed.
    """
    follow(log, backup)
    tip = backup.tip()
    if not tip.size:
        raise LedgerError("The ledger is empty: there is nothing to restore.")
    state = restore(backup, scratch, Evidence(copies=(backup,)))
    old = MemoryStore()
    old.append(old.tip(), tuple(rows_between(backup, 0, tip.size - 1)))
    head = Checkpoint("drill", tip.size, state.root)
    return Drill(
        tip.size,
        state.root,
        scratch.tip() == tip,
        _refused(old, Evidence(copies=(backup,))),
        _refused(old, Evidence(checkpoints=(head,))),
    )


def _refused(old: Store, evidence: Evidence) -> bool:
    target = MemoryStore()
    try:
        restore(old, target, evidence)
    except RolledBackError:
        return target.tip().size == 0
    return False
