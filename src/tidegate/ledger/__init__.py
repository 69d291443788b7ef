"""The upload budget: what may leave, what did, and a log that shows it.

Does: reserves bits before they leave, charges what crossed, refuses past a cap, keeps the log.
Zone: inner, outer
Trusts: the store's durability, the host's monotonic clock, checkpoints kept on another machine.
If owned: he lifts every cap and rewrites history since the last checkpoint that was kept elsewhere.
"""

from __future__ import annotations

from tidegate.ledger.accounts import Balance
from tidegate.ledger.book import Ledger
from tidegate.ledger.budgets import (
    TOTAL,
    Budget,
    Budgets,
    Rolling,
    Scope,
    edge_between,
    edge_scope,
    principal_scope,
)
from tidegate.ledger.entries import (
    CLOSE_BITS,
    Charge,
    Command,
    Commit,
    Extend,
    Recover,
    Release,
    Reserve,
    TopUp,
)
from tidegate.ledger.errors import HeadMovedError, InvalidEntryError
from tidegate.ledger.profiles import profile
from tidegate.ledger.split import apportion
from tidegate.ledger.state import Reservation
from tidegate.ledger.store import Store
from tidegate.ledger.store_memory import MemoryStore
from tidegate.ledger.store_sqlite import SqliteStore
from tidegate.ledger.verify import Broken, CannotVerify, Sound, Verdict, verify
from tidegate.transparency.store_memory import Fault

__all__ = [
    "CLOSE_BITS",
    "TOTAL",
    "Balance",
    "Broken",
    "Budget",
    "Budgets",
    "CannotVerify",
    "Charge",
    "Command",
    "Commit",
    "Extend",
    "Fault",
    "HeadMovedError",
    "InvalidEntryError",
    "Ledger",
    "MemoryStore",
    "Recover",
    "Release",
    "Reservation",
    "Reserve",
    "Rolling",
    "Scope",
    "Sound",
    "SqliteStore",
    "Store",
    "TopUp",
    "Verdict",
    "apportion",
    "edge_between",
    "edge_scope",
    "principal_scope",
    "profile",
    "verify",
]
