"""The SQLite store under kill -9, two processes, a full disk and damaged files."""

from __future__ import annotations

import random
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tidegate.clock import ManualClock
from tidegate.errors import BudgetExceededError, LedgerError
from tidegate.ledger import TOTAL, Broken, Budget, Budgets, Ledger, Sound, SqliteStore, verify

EDGE = "inner→outside"
WORKER = Path(__file__).with_name("worker.py")
WIDE = Budgets(
    name="faults", total=Budget(lifetime=10**9), edges=((EDGE, Budget()),), principal=Budget()
)


def start(path: Path, principal: str, bits: int, lifetime: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(WORKER), str(path), principal, str(bits), str(lifetime)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def open_ledger(path: Path, budgets: Budgets = WIDE) -> Ledger:
    return Ledger(SqliteStore(path), budgets, ManualClock())


def test_killed_at_any_point_it_never_counts_less_than_was_sent(tmp_path: Path) -> None:
    path, sent = tmp_path / "ledger.db", 0
    dice = random.Random(7)
    for _ in range(6):
        worker = start(path, "alice", 100, 10**9)
        assert worker.stdout is not None
        lines = [worker.stdout.readline() for _ in range(dice.randrange(1, 12))]
        for _ in range(dice.randrange(20_000)):
            pass  # so that the kill does not always follow right upon a line
        worker.kill()
        rest, _ = worker.communicate()
        sent += sum(int(line) for line in [*lines, *rest.splitlines()])
        ledger = open_ledger(path)
        balance = ledger.balance(TOTAL)
        assert balance.spent + balance.reserved >= sent
        assert isinstance(ledger.verify(), Sound)


def test_two_processes_on_one_file_share_one_budget_exactly(tmp_path: Path) -> None:
    path, lifetime = tmp_path / "ledger.db", 40 * 100
    workers = [start(path, name, 100, lifetime) for name in ("alice", "bob")]
    said = [worker.communicate()[0].split() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert all(lines[-1] == "spent" for lines in said)
    assert sum(int(line) for lines in said for line in lines[:-1]) == lifetime
    ledger = open_ledger(path)
    balance = ledger.balance(TOTAL)
    assert (balance.spent, balance.reserved) == (lifetime, 0)
    assert isinstance(ledger.verify(), Sound)


def test_a_full_disk_stops_traffic_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = open_ledger(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    sent = 0

    def send_until_refused() -> None:
        nonlocal sent
        while sent < 10**6:
            held = ledger.reserve("alice", EDGE, 100)
            sent += 100
            ledger.commit(held, 100)

    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 8_192, hard))
    try:
        with pytest.raises(LedgerError) as caught:
            send_until_refused()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sent > 0
    assert not isinstance(caught.value, BudgetExceededError)
    balance = ledger.balance(TOTAL)
    assert sent <= balance.spent + balance.reserved
    held = ledger.reserve("alice", EDGE, 100)
    ledger.commit(held, 100)
    assert isinstance(ledger.verify(), Sound)


def test_an_entry_changed_behind_the_ledgers_back_is_found(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = open_ledger(path)
    ledger.commit(ledger.reserve("alice", EDGE, 100), 90)
    intruder = sqlite3.connect(path)
    change = (
        "UPDATE entries SET entry ="
        " CAST(replace(CAST(entry AS TEXT), '\"bits\":90', '\"bits\":10') AS BLOB) WHERE n = 2"
    )
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        intruder.execute(change)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        intruder.execute("DELETE FROM entries WHERE n = 2")
    intruder.execute("DROP TRIGGER entries_are_final")
    intruder.execute(change)
    intruder.commit()
    intruder.close()
    verdict = verify(SqliteStore(path), WIDE)
    assert isinstance(verdict, Broken)
    assert verdict.entry == 2
    with pytest.raises(LedgerError):
        open_ledger(path)


@pytest.mark.parametrize("content", [b"not a database, but longer than a header" * 9])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(content)
    with pytest.raises(LedgerError):
        SqliteStore(path)
    assert path.read_bytes() == content


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE entries (x)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="not a Tidegate ledger"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_a_file_torn_in_two_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = open_ledger(path)
    for _ in range(40):
        ledger.commit(ledger.reserve("alice", EDGE, 100), 90)
    path.write_bytes(path.read_bytes()[:8_192])
    with pytest.raises(LedgerError):
        open_ledger(path)


def test_a_place_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerError):
        SqliteStore(tmp_path / "missing" / "ledger.db")


def test_nobody_else_on_the_host_can_read_the_log(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "ledger.db").close()
    assert (tmp_path / "ledger.db").stat().st_mode & 0o077 == 0
