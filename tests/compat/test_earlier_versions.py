"""What earlier versions left on disks is read, verified and gone on with by this one.

`VERSION/` is what `tools/make_compat.py` wrote with that version's own code.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sealed_world import numbers
from typer.testing import CliRunner, Result

from tidegate.cli.main import app
from tidegate.clock import ManualClock
from tidegate.ledger import (
    Broken,
    Budget,
    Budgets,
    CannotVerify,
    Ledger,
    Scope,
    Sound,
    SqliteStore,
    verify,
)
from tidegate.ledger.state import Row
from tidegate.transparency.note import Checkpoint, Verifier
from tidegate.units import Bits
from tidegate.vault.kms_local import LocalKms
from tidegate.vault.open_sealed import open_sealed

HERE = Path(__file__).parent
VERSIONS = sorted(path.parent for path in HERE.glob("*/told.json"))
EDGE = "inner→outside"
BUDGETS = Budgets(
    name="kept",
    total=Budget(lifetime=10_000),
    edges=((EDGE, Budget()),),
    principal=Budget(),
)


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def left(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What a version left, copied: readers may take locks beside what they read."""
    return Path(shutil.copytree(request.param, tmp_path / "left"))


def run(*words: object, data: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], input=data)


def told(left: Path, part: str) -> Any:
    return json.loads((left / "told.json").read_text())[part]


def test_something_was_kept() -> None:
    assert [path.name for path in VERSIONS][:1] == ["0.1.0"]


def test_its_record_is_re_executed_to_the_last_token(left: Path) -> None:
    folder = left / "record"
    done = run(
        *("verify", "log", folder / "record", "--key", folder / "record.key.pub"),
        *("--model", f"exact:{folder / 'model'}", "--threads", 1, "--json"),
    )
    found = json.loads(done.stdout)
    count = sum(len(ids) for ids in told(left, "record")["answers"].values())
    assert (done.exit_code, found["outcome"]["outcome"]) == (0, "pass")
    assert (found["scored_tokens"], found["match_rate"]) == (count, 1.0)


@pytest.fixture
def ledger(left: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(left / "ledger" / "ledger.sqlite")) as store:
        yield store


def kept(left: Path) -> Checkpoint:
    key = Verifier.parse((left / "ledger" / "key.pub").read_text().strip())
    return key.open((left / "ledger" / "checkpoint").read_text())


def test_its_ledger_extends_the_checkpoint_that_was_kept(left: Path, ledger: SqliteStore) -> None:
    assert isinstance(verify(ledger, BUDGETS, trusted=kept(left)), Sound)


def test_its_ledger_goes_on_with_the_same_balances(left: Path, ledger: SqliteStore) -> None:
    book = Ledger(ledger, BUDGETS, ManualClock())
    for scope, (spent, reserved) in told(left, "ledger").items():
        balance = book.balance(Scope(scope))
        assert (balance.spent, balance.reserved) == (spent, reserved)
    [held] = book.held()
    book.recover(held, held.bits, "its writer ended without settling it")
    book.commit(book.reserve("alice", EDGE, Bits(100)), Bits(90))
    assert book.balance(Scope("principal:alice")).spent == 428 + 64 + 90
    assert isinstance(verify(ledger, BUDGETS, trusted=kept(left)), Sound)


def test_an_entry_of_a_later_version_is_never_sound(ledger: SqliteStore) -> None:
    tip = ledger.tip()
    later = b'{"n":%d,"time":0,"wall":0,"does":{"kind":"later"}}' % tip.size
    ledger.append(tip, (Row(later, b"\0" * 32),))
    assert isinstance(verify(ledger, BUDGETS), Broken | CannotVerify)


def test_its_log_and_proof_verify_and_it_goes_on(left: Path) -> None:
    log = left / "log"
    assert run("log", "verify", log).exit_code == 0
    proof = run("log", "verify", log / "1.tlog-proof", "--policy", log / "policy")
    assert proof.exit_code == 0, proof.output
    assert run("log", "append", log, "grant", "-", data='{"event":"request"}').exit_code == 0
    assert run("log", "verify", log).exit_code == 0
    entries = [json.loads(line) for line in run("log", "show", log, "--json").output.splitlines()]
    assert len(entries) == told(left, "log")["entries"] + 1


def test_what_it_sealed_opens(left: Path) -> None:
    place = left / "sealed"
    owner = Verifier.parse((place / "owner.pub").read_text().strip())
    opened = open_sealed(place / "sealed", owner)
    opened.check_shards(workers=1)
    tensor = opened.read_tensor("embed", opened.key_from(LocalKms(place / "kms")))
    assert bytes(tensor) == numbers("embed", 20_000).tobytes()
