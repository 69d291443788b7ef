"""A process that reserves, "sends" (prints) and commits until it is killed or refused.

Usage: worker.py PATH PRINCIPAL BITS LIFETIME
"""

from __future__ import annotations

import sys
from pathlib import Path

from tidegate.clock import SystemClock
from tidegate.errors import BudgetExceededError
from tidegate.ledger import Budget, Budgets, Ledger, SqliteStore

EDGE = "inner→outside"


def main(path: str, principal: str, bits: int, lifetime: int) -> None:
    budgets = Budgets(
        name="faults",
        total=Budget(lifetime=lifetime),
        edges=((EDGE, Budget()),),
        principal=Budget(),
    )
    ledger = Ledger(SqliteStore(Path(path)), budgets, SystemClock())
    try:
        while True:
            held = ledger.reserve(principal, EDGE, bits)
            print(bits, flush=True)
            ledger.commit(held, bits)
    except BudgetExceededError:
        print("spent", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
