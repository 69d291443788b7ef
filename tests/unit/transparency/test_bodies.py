from __future__ import annotations

import hashlib

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from log_world import LogWorld

from tidegate.clock import ManualClock
from tidegate.ledger import Budget, Budgets, Ledger, MemoryStore
from tidegate.transparency.bodies import log_upload, log_verdict
from tidegate.transparency.entry import Kind
from tidegate.transparency.errors import CheckpointError, EntryError
from tidegate.transparency.note import Signer

LEDGER = Signer("example.com/ledger", Ed25519PrivateKey.from_private_bytes(b"u" * 32))
BUDGETS = Budgets(
    name="t", total=Budget(lifetime=1_000), edges=(("a→b", Budget()),), principal=Budget()
)
REPORT = {
    "tool": "tidegate verify",
    "version": "0.1.0",
    "outcome": {"outcome": "pass", "reason": "all 40 tokens", "limits": ["timing"]},
    "verified": {"record": "outer.example/record", "model": "exact:smollm2", "fingerprint": "ab"},
    "root": "cd",
    "signed": 12,
    "tokens": 80,
    "scored_tokens": 40,
    "mismatches": 0,
    "match_rate": 1.0,
}


def test_the_upload_ledgers_checkpoint_goes_in_once_a_size() -> None:
    ledger, log = Ledger(MemoryStore(), BUDGETS, ManualClock()), LogWorld().log
    ledger.commit(ledger.reserve("alice", "a→b", 100), 90)
    note = ledger.checkpoint(LEDGER)
    position = log_upload(log, note, LEDGER.verifier, spent=90)
    assert log_upload(log, note, LEDGER.verifier, spent=90) == position
    entry = log.entry(position.index).entry
    assert entry.kind is Kind.UPLOAD
    assert entry.body["spent_bits"] == 90
    assert LEDGER.verifier.open(entry.body["note"]).root.hex() == entry.body["root"]
    ledger.commit(ledger.reserve("alice", "a→b", 100), 90)
    log_upload(log, ledger.checkpoint(LEDGER), LEDGER.verifier)
    assert log.size == 2


def test_a_checkpoint_that_the_ledger_did_not_sign_is_not_logged() -> None:
    world = LogWorld()
    world.grow(1)
    note = world.publish().opened.note
    with pytest.raises(CheckpointError):
        log_upload(world.log, note, LEDGER.verifier)
    assert world.log.size == 1


def test_a_ledger_that_signs_two_histories_of_one_size_cannot_log_both() -> None:
    log = LogWorld().log
    for charged in (90, 80):
        ledger = Ledger(MemoryStore(), BUDGETS, ManualClock())
        ledger.commit(ledger.reserve("alice", "a→b", 100), charged)
        if charged == 90:
            log_upload(log, ledger.checkpoint(LEDGER), LEDGER.verifier)
        else:
            with pytest.raises(EntryError, match="another entry"):
                log_upload(log, ledger.checkpoint(LEDGER), LEDGER.verifier)


def test_a_verdict_goes_in_by_the_hash_of_its_report() -> None:
    log, report = LogWorld().log, msgspec.json.encode(REPORT)
    position = log_verdict(log, report)
    assert log_verdict(log, report) == position
    body = log.entry(position.index).entry.body
    assert body["sha256"] == hashlib.sha256(report).hexdigest()
    assert (body["outcome"], body["record_size"], body["scored_tokens"]) == ("pass", 12, 40)
    assert log.find(f"verdict/{body['sha256']}") == 0


@pytest.mark.parametrize(
    "report",
    [
        b"",
        b"[]",
        b'{"tool":"x"}',
        msgspec.json.encode({**REPORT, "outcome": {"outcome": "perhaps"}}),
        msgspec.json.encode({**REPORT, "tokens": "many"}),
    ],
)
def test_what_is_no_report_is_no_verdict(report: bytes) -> None:
    with pytest.raises(EntryError):
        log_verdict(LogWorld().log, report)
