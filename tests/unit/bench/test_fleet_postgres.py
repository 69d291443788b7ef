"""The ledger's part of the fleet's bench sees a bit that nobody counted."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from tidegate.bench.fleet_postgres import OUTERS, Checker
from tidegate.bench.fleet_postgres_outer import (
    EDGE,
    PRINCIPALS,
    SENT,
    WIDE,
    make_sent,
    read_sent,
    sent_file,
)
from tidegate.clock import ManualClock
from tidegate.errors import LedgerError
from tidegate.ledger import Ledger, MemoryStore
from tidegate.units import Bits


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for holder in OUTERS:
        make_sent(tmp_path, holder)
    return tmp_path


def crossed(folder: Path, holder: str, principal: int, bits: int) -> None:
    sent = np.fromfile(sent_file(folder, holder), SENT)
    sent[principal] += bits
    sent.tofile(sent_file(folder, holder))


def test_what_crossed_over_all_halves_is_held_against_each_principal(folder: Path) -> None:
    log = MemoryStore()
    ledger = Ledger(log, WIDE, ManualClock())
    checker = Checker(lambda: nullcontext(log), folder)
    ledger.reserve(PRINCIPALS[0], EDGE, Bits(100))
    ledger.commit(ledger.reserve(PRINCIPALS[1], EDGE, Bits(500)), Bits(50))
    crossed(folder, OUTERS[0], 0, 60)
    crossed(folder, OUTERS[3], 0, 40)
    crossed(folder, OUTERS[1], 1, 50)
    assert int(read_sent(folder, OUTERS).sum()) == 150
    assert checker.missing() == 0
    crossed(folder, OUTERS[2], 1, 7)
    assert checker.missing() == 7
    ledger.charge(PRINCIPALS[1], EDGE, Bits(7), "closed")
    assert checker.missing() == 0


def test_a_log_that_cannot_be_read_is_not_taken_for_a_whole_one(folder: Path) -> None:
    def gone() -> nullcontext[MemoryStore]:
        raise LedgerError("The database is down.")

    with pytest.raises(LedgerError):
        Checker(gone, folder).missing(patience=0.0)
