"""`tidegate redteam` as it is used in CI: a table or JSON, SARIF beside it, and a status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tidegate.cli.main import app
from tidegate.errors import ConfigError
from tidegate.redteam import campaign
from tidegate.redteam import results as found

QUICK = ("--attack", "coder_slack", "--attack", "split_view")


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["redteam", *(str(word) for word in words)])


def leaking() -> found.Result:
    """A door that stands open."""
    return found.Result(
        attack="coder_slack",
        world="link",
        says="writes into slack",
        tokens=10,
        bits_sent=8.0,
        bits_received=8.0,
        caught_by=None,
        tokens_to_alarm=None,
        runs=1,
        got=8.0,
        bound="canonical form",
        bound_bits=0.0,
        within_bound=False,
        must_catch=True,
    )


def test_attacks_are_listed_with_what_holds_them() -> None:
    listed = json.loads(run("list", "--json").stdout)
    assert tuple(one["attack"] for one in listed) == campaign.names()
    assert all(one["says"] and one["bound"] for one in listed)
    assert "split_view" in run("list").stdout


def test_a_campaign_that_holds_ends_with_status_0(tmp_path: Path) -> None:
    log = tmp_path / "redteam.sarif"
    result = run("run", *QUICK, "--json", "--sarif", log)
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["holds"]
    assert [one["attack"] for one in told["results"]] == ["coder_slack", "split_view"]
    (sarif,) = json.loads(log.read_text())["runs"]
    rules = [rule["id"] for rule in sarif["tool"]["driver"]["rules"]]
    for one in sarif["results"]:
        assert rules[one["ruleIndex"]] == one["ruleId"]
        assert (one["kind"], one["level"]) == ("pass", "none")


def test_an_open_door_is_an_error_in_sarif_and_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(campaign.BESIDE_TOKENS, "coder_slack", leaking)
    log = tmp_path / "redteam.sarif"
    result = run("run", *QUICK, "--sarif", log)
    assert result.exit_code == 1
    assert "BROKEN" in result.stdout
    (sarif,) = json.loads(log.read_text())["runs"]
    assert [one["level"] for one in sarif["results"]] == ["error", "none"]
    assert "got 8.0 bits" in sarif["results"][0]["message"]["text"]


def test_what_cannot_be_run_is_refused() -> None:
    for words in (
        ("--rate", "2"),
        ("--rate", "some"),
        ("--model", "exact:smollm2", "--world", "bf16"),
    ):
        refused = run("run", *words)
        assert isinstance(refused.exception, ConfigError)
