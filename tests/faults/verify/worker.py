"""A process that records answers and "sends" (prints) each token once it may, until it is killed.

Usage: worker.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from record_world import RecordWorld, beginning

from tidegate.record.entries import End, Reason, Tokens
from tidegate.verify.record_store_files import FileStore


def main(folder: str) -> None:
    world = RecordWorld(store=FileStore(Path(folder)), segment_bytes=4_000)
    size = world.open().size
    for n in range(10_000):
        name = f"{size}-{n}"
        (number,) = world.put(beginning(name))
        for start in range(5):
            world.put(Tokens(number, start, None, (start + 1,)))
            print(name, start + 1, flush=True)
        world.put(End(number, Reason.STOP, "", 5, 0))


if __name__ == "__main__":
    main(sys.argv[1])
