from __future__ import annotations

import io
import json
import stat
import threading
from pathlib import Path
from typing import TextIO, cast

import pytest
import structlog

from tidegate.cli.ground import (
    OWN_PRINCIPAL,
    budgets_of,
    host_port,
    log_as_json,
    log_stream,
    open_ledger,
    secret_bytes,
)
from tidegate.config import Budget, Caps, Settings
from tidegate.errors import ConfigError, LedgerError
from tidegate.ledger import TOTAL
from tidegate.serve.outer import link_account
from tidegate.units import Bits

EDGE = "inner→outside"
TESTING = budgets_of(Settings(budget=Budget(profile="testing-only")), 1)


def test_a_secret_is_made_once_and_for_its_owner_alone(tmp_path: Path):
    path = tmp_path / "new" / "link.secret"
    secret = secret_bytes(path)
    assert len(secret) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret_bytes(path) == secret
    assert [file.name for file in path.parent.iterdir()] == ["link.secret"]


def test_two_starters_at_once_agree_on_one_secret(tmp_path: Path):
    path = tmp_path / "link.secret"
    barrier, found = threading.Barrier(8), set()

    def start() -> None:
        barrier.wait()
        found.add(secret_bytes(path))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {path.read_bytes()}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_short_or_unreadable_secret_is_refused(tmp_path: Path):
    short = tmp_path / "short"
    short.write_bytes(b"x" * 31)
    with pytest.raises(ConfigError, match="31 bytes"):
        secret_bytes(short)
    with pytest.raises(ConfigError):
        secret_bytes(tmp_path)
    with pytest.raises(ConfigError):
        secret_bytes(short / "below a file")


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("run/link.sock", (None, 0)),
        ("/run/a:b/link.sock", (None, 0)),
        ("link.sock", (None, 0)),
        ("10.0.0.1:9000", ("10.0.0.1", 9000)),
        ("[::1]:9000", ("::1", 9000)),
        ("inner.example:1", ("inner.example", 1)),
    ],
)
def test_an_address_is_a_path_or_a_host_and_port(address: str, found: tuple[str | None, int]):
    assert host_port(address) == found


@pytest.mark.parametrize("address", [":9000", "host:", "host:many", "host:0", "host:65536", "h:²"])
def test_an_address_that_is_neither_is_refused(address: str):
    with pytest.raises(ConfigError):
        host_port(address)


def test_what_a_killed_half_held_is_charged_in_full_by_the_next(tmp_path: Path):
    path = tmp_path / "new" / "ledger.sqlite"
    with open_ledger(path, TESTING) as ledger:
        ledger.reserve("alice", EDGE, Bits(100))
        ledger.commit(ledger.reserve("bob", EDGE, Bits(50)), Bits(7))
    with open_ledger(path, TESTING) as ledger:
        balance = ledger.balance(TOTAL)
        assert (balance.spent, balance.reserved) == (107, 0)


def test_two_halves_never_share_a_ledger(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    with open_ledger(path, TESTING) as ledger:
        held = ledger.reserve("alice", EDGE, Bits(100))
        with pytest.raises(ConfigError, match="another half"), open_ledger(path, TESTING):
            pass
        ledger.commit(held, Bits(1))
    with open_ledger(path, TESTING) as ledger:
        assert ledger.balance(TOTAL).spent == 1


def test_another_file_is_not_taken_for_a_ledger(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"these are somebody's notes" * 100)
    with pytest.raises(LedgerError), open_ledger(path, TESTING):
        pass
    assert path.read_bytes().startswith(b"these are")


def test_the_links_own_account_has_an_edges_budget():
    settings = Settings(budget=Budget(profile="strict", zones=("inner", "middle", "outside")))
    budgets = budgets_of(settings, 10**9)
    assert dict(budgets.principals)[OWN_PRINCIPAL] == budgets.edges[0][1]
    assert link_account.OWN_PRINCIPAL == OWN_PRINCIPAL


def test_settings_cap_single_principals_and_edges():
    caps = {"alice": Caps(hour=5, lifetime=9)}
    settings = Settings(budget=Budget(principals=caps, edges={EDGE: Caps(day=7)}))
    budgets = budgets_of(settings, 10**9)
    assert dict(budgets.principals)["alice"].lifetime == 9
    assert [window.bits for window in dict(budgets.edges)[EDGE].windows] == [7]
    with pytest.raises(ConfigError, match="no edge"):
        budgets_of(Settings(budget=Budget(edges={"a→b": Caps()})), 10**9)


def test_logs_are_json_lines_that_give_reasons_but_no_texts():
    stream = io.StringIO()
    try:
        log_as_json(stream)
        log = structlog.get_logger("room")
        log.warning("link_closed", code="link_error", message="The halves differ.", what="weak")
        log.info("said", answer="once upon a time")
    finally:
        structlog.reset_defaults()
    closed, said = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (closed["reason"], closed["what"]) == ("The halves differ.", "weak")
    assert "once" not in json.dumps(said)


def test_a_log_that_cannot_be_written_stops_nobody(monkeypatch: pytest.MonkeyPatch):
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("sys.stderr", cast("TextIO", Full()))
    print("a line", file=log_stream(), flush=True)
