"""`tidegate plan` as its users type it."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from plan_scenarios import SMALL
from typer.testing import CliRunner

from tidegate.cli.main import app
from tidegate.clock import SystemClock
from tidegate.errors import ConfigError, LedgerError, TidegateError
from tidegate.ledger import Ledger, SqliteStore, profile
from tidegate.units import Bits

RUNNER = CliRunner()
FEW = ("--lifetimes", "300")


def _run(*args: object, code: int = 0) -> str:
    done = RUNNER.invoke(app, ["plan", *map(str, args)], env={"COLUMNS": "160"})
    assert done.exit_code == code, done.output
    return done.stdout


def _refused(*args: object) -> TidegateError:
    done = RUNNER.invoke(app, ["plan", *map(str, args)])
    assert isinstance(done.exception, TidegateError), done.output
    return done.exception


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(SMALL)
    return path


def test_a_scenario_is_answered_in_days(mine: Path) -> None:
    told = _run(mine, *FEW)
    assert "days to exfiltrate" in told
    assert "33.3 days at the values themselves" in told
    assert "the cap (100%)" in told


def test_a_packaged_scenario_goes_by_its_name() -> None:
    assert "18 hours" in _run("line-100-mbit", *FEW)


def test_values_are_shown_with_their_sources() -> None:
    told = _run("rinberg-verified", *FEW, "--values")
    assert "arxiv.org/abs/2511.02620" in re.sub(r"\s+", "", told)
    assert "(default)" in told


def test_json_is_one_object_with_inputs_and_curves(mine: Path) -> None:
    printed = _run(mine, *FEW, "--json", "--days", "90")
    told = json.loads(printed)
    assert told["tool"] == "tidegate plan"
    assert [row["days"] for row in told["caps"]] == [90.0, 365.0]
    assert {row["name"] for row in told["inputs"]} >= {"link.headroom", "model.parameters"}
    assert len(told["curves"]["fan"]["x"]) == len(told["curves"]["fan"]["p50"])
    assert _run(mine, *FEW, "--json", "--days", "90") == printed


def test_too_few_days_for_a_promise_exit_1(mine: Path) -> None:
    _run(mine, *FEW, "--at-least", "1")
    _run(mine, *FEW, "--at-least", "1000", code=1)


def test_two_scenarios_are_compared_on_the_same_draws() -> None:
    told = _run("compare", "rinberg-unverified", "rinberg-verified", *FEW)
    assert "200 times as many days (200 to 200)" in told
    assert "verification.residual" in told


def test_a_comparison_in_json_has_both_answers() -> None:
    told = json.loads(_run("compare", "rinberg-unverified", "rinberg-verified", *FEW, "--json"))
    assert told["ratio"]["p50"] == pytest.approx(200.0)
    assert (told["a"]["point"]["days"], told["b"]["point"]["days"]) == (1.0, 200.0)


def test_a_template_is_a_scenario(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(_run("template"))
    assert tomllib.loads(path.read_text())["title"] in _run(path, *FEW)


def test_the_packaged_scenarios_are_listed_and_every_value_is_explained() -> None:
    assert "greenblatt-large" in _run("list")
    told = _run("values")
    assert "link.unnoticed_failures" in told
    assert "must be there" in told


def test_a_bad_scenario_names_file_field_and_what_would_be_valid(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(SMALL.replace('unit = "million tokens/day"', 'unit = "furlongs"'))
    error = _refused(path)
    assert error.details["field"] == "traffic.tokens.unit"
    assert "tokens/day" in error.message
    assert str(path) in error.message


def test_a_scenario_that_is_not_there_names_those_that_are() -> None:
    assert "frontier" in _refused("nowhere.toml").message


def test_days_that_cannot_be_asked_for_are_refused(mine: Path) -> None:
    assert isinstance(_refused(mine, "--days", "-3"), ConfigError)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "outer-ledger.sqlite"
    store = SqliteStore(path)
    book = Ledger(store, profile("demo", parameters=134_515_008), SystemClock())
    held = book.reserve("a", "inner→outside", Bits(4_000))
    book.commit(held, Bits(4_000))
    store.close()
    return path


def _verdict(path: Path, **changes: object) -> Path:
    body = {
        "tool": "tidegate verify",
        "verified": {"exact": True, "rate": "1", "by": "message"},
        "responses": 4,
        "tokens": 1_000,
        "scored_tokens": 1_000,
        "suspicious": 0,
        "dangerous": 0,
        "leak": {"share": 0.0},
        "scopes": [],
    }
    path.write_text(json.dumps(body | changes))
    return path


def test_a_scenario_is_fitted_to_a_ledger_and_verdicts(ledger: Path, tmp_path: Path) -> None:
    out = tmp_path / "fitted.toml"
    verdict = _verdict(tmp_path / "verify.json")
    _run("fit", ledger, "--verdict", verdict, "--parameters", 134_515_008, "--out", out)
    told = tomllib.loads(out.read_text())
    assert told["link"]["bits_per_token"]["value"] == 4.0
    assert told["link"]["cap"]["value"] == 16 * 134_515_008 // 16 // 30
    assert told["model"]["parameters"]["value"] == 134_515_008
    assert told["verification"]["residual"]["value"] == 0.0
    assert "days to exfiltrate" in _run(out, *FEW)


def test_a_ledger_that_was_tampered_with_is_not_fitted_to(ledger: Path) -> None:
    import sqlite3

    with sqlite3.connect(ledger) as db:
        db.execute("DROP TRIGGER entries_are_final")
        db.execute("UPDATE entries SET head = zeroblob(32) WHERE n = 1")
    db.close()
    assert isinstance(_refused("fit", ledger), LedgerError)


def test_a_ledger_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "none.sqlite"
    assert "has the half ever run" in _refused("fit", path).message
    assert not path.exists()
