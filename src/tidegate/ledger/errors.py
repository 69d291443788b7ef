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
