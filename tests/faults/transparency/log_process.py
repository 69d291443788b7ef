"""A process that logs events, signs, and says so, until it is killed.

Usage: log_process.py PATH FIRST
"""

from __future__ import annotations

import sys
from pathlib import Path

from log_world import SIGNER

from tidegate.clock import SystemClock
from tidegate.transparency.entry import Kind
from tidegate.transparency.log import Log
from tidegate.transparency.store_sqlite import SqliteStore


def main(path: Path, first: int) -> None:
    log = Log(SqliteStore(path), SystemClock())
    for n in range(first, first + 1_000):
        log.append(Kind.RELEASE, {"n": n}, once=f"event/{n}")
        head = SIGNER.verifier.open(log.sign(SIGNER))
        print(n, head.size, head.root.hex(), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
