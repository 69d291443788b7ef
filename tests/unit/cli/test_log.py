"""The log and its witnesses from the command line, over HTTP where users have it over HTTP."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import uvicorn
from click.testing import Result
from standards_world import VERIFIED
from starlette.types import ASGIApp
from typer.testing import CliRunner

from tidegate.cli import log_folder, log_follow
from tidegate.cli import witness as witness_cli
from tidegate.cli.log import app
from tidegate.clock import SystemClock
from tidegate.errors import ConfigError
from tidegate.transparency.log_http import log_app
from tidegate.transparency.note import Verifier
from tidegate.transparency.witness_anchor import FileAnchor
from tidegate.transparency.witness_http import witness_app
from tidegate.transparency.witness_service import WitnessService
from tidegate.transparency.witness_store_sqlite import SqliteWitnessStore

RUN = CliRunner()
app.command()(log_follow.follow)


def run(*words: str, data: str | None = None) -> Result:
    return RUN.invoke(app, list(words), input=data)


@contextmanager
def served(application: ASGIApp) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def witness(folder: Path, log: Path) -> Iterator[str]:
    key = Verifier.parse((log / "log.pub").read_text().strip())
    store = SqliteWitnessStore(folder / witness_cli.MEMORY)
    service = WitnessService(
        witness_cli.cosigners_of(folder),
        {key.name: [key]},
        store,
        FileAnchor(folder / witness_cli.ANCHOR),
        SystemClock(),
    )
    with served(witness_app(service, lambda error: None)) as url:
        yield url
    store.close()


@pytest.fixture
def alone(tmp_path: Path) -> str:
    """A log that asks nobody."""
    assert run("init", str(tmp_path / "log"), "--origin", "log.example/vault").exit_code == 0
    return str(tmp_path / "log")


def test_a_log_is_witnessed_followed_proved_and_its_fork_is_found(tmp_path: Path) -> None:
    log, w1 = tmp_path / "log", tmp_path / "w1"
    made = RUN.invoke(witness_cli.app, ["init", str(w1), "--name", "w1.example", "--sign", "both"])
    assert made.exit_code == 0
    assert made.output.count("w1.example+") == 2
    assert run("init", str(log), "--origin", "log.example/vault").exit_code == 0
    with witness(w1, log) as url:
        policy = log_folder.read_policy(log / "policy")
        one = log_folder.witness_of(1, f"{w1 / 'witness.pub'}={url}")
        (log / "policy").write_text(log_folder.n_of(policy.logs[0], (one,), 1).encode())
        body = json.dumps({"event": "request", "who": "ada"})
        first = run("append", str(log), "grant", "-", "--once", "g/1", data=body)
        assert (first.exit_code, "w1: cosigned" in first.output) == (0, True)
        again = run("append", str(log), "grant", "-", "--once", "g/1", "--json", data=body)
        assert json.loads(again.output)["index"] == 0
        assert run("append", str(log), "grant", "-", data=body).exit_code == 0

        state, kept = tmp_path / "seen", log / "policy"
        follow = ["--policy", str(kept), "--state", str(state), "--once"]
        with log_folder.opened(log) as opened, served(log_app(opened.log)) as at:
            seen = run("follow", at, *follow, "--json")
            assert seen.exit_code == 0, seen.output
            assert [json.loads(line)["index"] for line in seen.output.splitlines()] == [0, 1]

        proof = tmp_path / "1.tlog-proof"
        assert run("prove", str(log), "1", "--out", str(proof)).exit_code == 0
        assert run("verify", str(proof), "--policy", str(kept)).exit_code == 0
        proof.with_suffix(".json").write_bytes(b"{}")
        assert run("verify", str(proof), "--policy", str(kept)).exit_code == 1
        assert run("verify", str(log)).exit_code == 0

        # Whoever has the log's folder starts its history anew.
        (log / "log.sqlite").unlink()
        forked = run("append", str(log), "grant", "-", data=json.dumps({"event": "other"}))
        assert (forked.exit_code, "log_rolled_back" in forked.output) == (1, True)
        for _ in range(2):
            forked = run("append", str(log), "grant", "-", data=json.dumps({"event": "other"}))
        assert (forked.exit_code, "split_view" in forked.output) == (1, True)
        with log_folder.opened(log) as opened, served(log_app(opened.log)) as at:
            (tmp_path / "lax").write_text(log_folder.n_of(policy.logs[0], (), 0).encode())
            alarm = run("follow", at, "--policy", str(tmp_path / "lax"), *follow[2:])
        assert alarm.exit_code == 1
        assert "split_view" in alarm.output
        assert (tmp_path / "seen.evidence0").exists()
        assert (tmp_path / "seen.evidence1").exists()
    status = RUN.invoke(witness_cli.app, ["status", str(w1), "--json"])
    assert json.loads(status.output)["logs"][0]["origin"] == "log.example/vault"


def test_too_few_witnesses_exit_2_and_the_entry_stands(tmp_path: Path) -> None:
    w1 = tmp_path / "w1"
    RUN.invoke(witness_cli.app, ["init", str(w1), "--name", "w1.example"])
    log = str(tmp_path / "log")
    said = f"{w1 / 'witness.pub'}=http://127.0.0.1:1"
    assert run("init", log, "--origin", "log.example/vault", "--witness", said).exit_code == 0
    done = run("append", log, "grant", "-", data="{}")
    assert (done.exit_code, "unreachable" in done.output) == (2, True)
    assert run("publish", log).exit_code == 2
    assert run("verify", log).exit_code == 2
    assert run("verify", log, "--json").exit_code == 2


def test_verdicts_and_uploads_are_taken_from_their_own_files(alone: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_bytes(msgspec.json.encode(VERIFIED))
    assert run("append", alone, "verdict", str(report)).exit_code == 0
    assert run("append", alone, "verdict", str(report)).exit_code == 0
    # A checkpoint of any log will do for a ledger's: the format is one.
    note = tmp_path / "note"
    published = run("publish", alone, "--json")
    note.write_text(json.loads(published.output)["note"])
    key = str(Path(alone) / "log.pub")
    assert run("append", alone, "upload", str(note), "--ledger-key", key).exit_code == 0
    with pytest.raises(ConfigError, match="--ledger-key"):
        RUN.invoke(app, ["append", alone, "upload", str(note)], catch_exceptions=False)
    shown = run("show", alone, "--json")
    kinds = [json.loads(line)["kind"] for line in shown.output.splitlines()]
    assert kinds == ["verdict", "upload"]
    assert run("show", alone, "--kind", "upload", "--json").output.count("\n") == 1
    assert "verdict" in run("show", alone).output
    assert run("verify", alone, "--kept", str(note)).exit_code == 0


def test_a_log_altered_in_its_file_fails(alone: str) -> None:
    for who in ("ada", "bob"):
        run("append", alone, "grant", "-", data=json.dumps({"who": who}))
    db = sqlite3.connect(Path(alone) / "log.sqlite")
    db.execute("DROP TRIGGER entries_are_final")
    db.execute(
        "UPDATE entries SET entry = CAST(replace(CAST(entry AS TEXT), 'ada', 'eve') AS BLOB)"
        " WHERE n = 0"
    )
    db.commit()
    db.close()
    found = run("verify", alone)
    assert (found.exit_code, "altered" in found.output) == (1, True)


@pytest.mark.parametrize("body", ["", "[]", '{"a":1.5}', '{"a":', "nonsense"])
def test_a_body_that_is_none_is_refused(alone: str, body: str) -> None:
    assert run("append", alone, "grant", "-", data=body).exception is not None
    assert run("show", alone, "--json").output == ""


def test_a_folder_that_is_no_log_is_refused(tmp_path: Path, alone: str) -> None:
    for words in (["show", str(tmp_path)], ["init", alone, "--origin", "x"]):
        with pytest.raises(ConfigError):
            RUN.invoke(app, words, catch_exceptions=False)
    with pytest.raises(ConfigError, match="there is no witness"):
        RUN.invoke(witness_cli.app, ["status", str(tmp_path)], catch_exceptions=False)
