"""A copy of the last link of a witness's memory, kept where a backup of the memory is not.

A witness whose memory was restored from yesterday's copy would cosign today's fork of yesterday's
tree. With an anchor it notices, unless whoever restores puts back both. What he cannot put back is
hardware: keep the anchor on another machine or medium, and compare what the witness serves over
time (`tidegate log follow`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tidegate.disk import replace_whole
from tidegate.transparency.errors import WitnessError
from tidegate.transparency.store_memory import Fault
from tidegate.transparency.witness_store import START, Mark, WitnessStore

_LINE = re.compile(rb"(0|[1-9][0-9]{0,18}) ([0-9a-f]{64})\n")


class Anchor(Protocol):
    """One mark, replaced as a whole, durable on return."""

    def read(self) -> Mark | None:
        """The mark; None if there never was one. Raises WitnessError."""
        ...

    def write(self, mark: Mark) -> None:
        """Keep `mark`. Raises WitnessError: it may or may not have been kept."""
        ...


class FileAnchor:
    """An `Anchor` in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Mark | None:
        try:
            found = _LINE.fullmatch(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise WitnessError(f"The anchor {self._path.name} cannot be read.") from error
        if found is None:
            raise WitnessError(f"The anchor {self._path.name} was altered.")
        return Mark(int(found[1]), bytes.fromhex(found[2].decode()))

    def write(self, mark: Mark) -> None:
        try:
            replace_whole(self._path, f"{mark.number} {mark.head.hex()}\n".encode())
        except OSError as error:
            raise WitnessError(f"The anchor {self._path.name} cannot be written.") from error


class MemoryAnchor:
    """An `Anchor` for tests; `fault` as in `store_memory`."""

    def __init__(self, fault: Callable[[int], Fault | None] = lambda _: None) -> None:
        self._fault = fault
        self._writes = 0
        self._mark: Mark | None = None

    def read(self) -> Mark | None:
        return self._mark

    def write(self, mark: Mark) -> None:
        fault = self._fault(self._writes)
        self._writes += 1
        if fault is not Fault.NOT_PERSISTED:
            self._mark = mark
        if fault is not None:
            raise WitnessError(f"The anchor's write {fault.value}.")


def reconcile(store: WitnessStore, anchor: Anchor) -> None:
    """Make sure that the memory is the anchor's, or one checkpoint further; bring the anchor up.

    One further is what a crash between the two writes leaves: no cosignature had gone out.

    Raises:
        WitnessError: the memory was rolled back, replaced, or the anchor was; or one is missing.
    """
    mark, kept = store.mark(), anchor.read()
    if kept is None and mark.number <= 1:
        kept = START
    if kept is None:
        raise WitnessError(
            "The witness has a memory and no anchor. If only the anchor was lost, and the memory "
            "is known to be the latest, write the anchor that `tidegate witness status` prints."
        )
    if mark != kept and store.before() != kept:
        raise WitnessError(
            f"The witness's memory ends at its checkpoint {mark.number} and its anchor at "
            f"{kept.number}: one of them was rolled back or replaced, and nobody knows what else "
            "was cosigned. Restore the latest memory, or retire this witness's key."
        )
    if mark != kept:
        anchor.write(mark)
