"""What can go wrong in the ledger, beyond a budget that is spent."""

from __future__ import annotations

from tidegate.errors import LedgerError


class HeadMovedError(LedgerError):
    """Another writer appended first: read on, decide again. Nothing was written."""

    code = "ledger_head_moved"


class InvalidEntryError(LedgerError):
    """Entry number `entry` of a log breaks a rule of `spec/ledger.md`."""

    code = "ledger_invalid_entry"

    def __init__(self, message: str, *, entry: int) -> None:
        super().__init__(message, entry=entry)
        self.entry = entry


class NotLentError(LedgerError):
    """No bits are at hand and the database has not lent more yet; nothing was drawn.

    `retry_after_s` in its details says when to ask again.
    """

    code = "ledger_not_lent"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class FencedError(LedgerError):
    """Others took this holder for dead, or another goes by its name: its leases were charged."""

    code = "ledger_fenced"


class RolledBackError(LedgerError):
    """The store lacks entries that were acknowledged before: a lost failover, an old backup."""

    code = "ledger_rolled_back"


class SplitBrainError(LedgerError):
    """More than one server takes writes for one ledger, or one that was replaced still does."""

    code = "ledger_split_brain"


class UnreplicatedError(LedgerError):
    """The server would acknowledge what no other machine has, or what it keeps only in memory."""

    code = "ledger_unreplicated"
