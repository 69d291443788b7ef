"""`tidegate gate`: a plan that changes nothing, refusals with reasons, a gate held for real."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidegate.bench.gate_rig import closed_world, until_open
from tidegate.cli import gate_shown, gate_status
from tidegate.cli.main import app
from tidegate.errors import ConfigError, GateError
from tidegate.gate import needs
from tidegate.gate.accounts import Account, State
from tidegate.gate.policy import load, parse
from tidegate.gate.state import Store
from tidegate.gate.worlds import GATE, World

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "deploy" / "nftables"
POLICY = """
lifetime = 1_000_000_000
state = "STATE"
[interfaces]
inside = "inside"
outside = "out"
[classes.api]
protocol = "tcp"
to_ports = [443]
quota = 100_000_000
rate = 1_000_000
"""


def _written(folder: Path, text: str = POLICY) -> Path:
    path = folder / "gate.toml"
    path.write_text(text.replace("STATE", str(folder / "state")))
    return path


def test_the_example_is_what_its_policy_becomes() -> None:
    shown = [
        line.removeprefix("# ")
        for line in (EXAMPLE / "gate.nft").read_text().splitlines()
        if line.startswith(("add", "flush", "# tc"))
    ]
    assert shown == gate_shown.rendered(load(EXAMPLE / "gate.toml"), None)


def test_a_plan_needs_no_root_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result = CliRunner().invoke(app, ["gate", "plan", str(_written(tmp_path))])
    assert result.exit_code == 0
    assert re.search(r"\+add chain netdev tidegate class_api", result.stdout)
    assert "not asked: the gate changes the kernel's rules: run it as root" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["gate.toml"]


def test_a_plan_shows_only_what_changes(tmp_path: Path) -> None:
    before = load(_written(tmp_path))
    after = parse(POLICY.replace("443", "8443"))
    shown = str(gate_shown.difference(before, after, None).code)  # type: ignore[union-attr]
    changed = [line for line in shown.splitlines() if line[0] in "+-" and line[1] not in "+-"]
    assert {line[0] for line in changed} == {"+", "-"}
    assert all("443" in line for line in changed)
    assert gate_shown.difference(before, before, None) == "Nothing would change."


@pytest.mark.parametrize("command", ["apply", "status", "remove"])
def test_without_root_it_says_so_and_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result = CliRunner().invoke(app, ["gate", command, str(_written(tmp_path))])
    assert isinstance(result.exception, GateError)
    assert "as root" in result.exception.message


def test_a_policy_without_a_grid_has_none_to_run(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["gate", "grid", str(_written(tmp_path))])
    assert isinstance(result.exception, ConfigError)
    assert "no [grid]" in result.exception.message


def test_a_grid_says_what_its_timing_leaves_open_and_charges_it(tmp_path: Path) -> None:
    grid = "\n[grid]\nslot_us = 2_000\nsize = 64\nlisten = 19_100\nto = '127.0.0.1'\nport = 9\n"
    path = _written(tmp_path, POLICY + grid)
    result = CliRunner().invoke(app, ["gate", "grid", str(path), "--seconds", "0.2", "--json"])
    assert result.exit_code == 0, result.exception
    told = json.loads(result.stdout)
    assert told["slots"] >= 100
    assert told["content_bits_per_second"] == 64 * 8 * 500
    assert told["timing_bits"] > 0
    assert (tmp_path / "state" / "ledger.sqlite").exists()


def test_a_diary_that_was_lost_takes_no_latch_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs, "require", lambda: None)
    path = _written(tmp_path)
    Store(tmp_path / "state").write(State("p", "b", (Account("lifetime", 7, 1),)))
    result = CliRunner().invoke(app, ["gate", "apply", str(path)])
    assert isinstance(result.exception, GateError)
    assert "no diary" in result.exception.message
    assert not (tmp_path / "state" / "diary.sqlite").exists()


def test_a_status_without_rules_or_state_is_closed_with_its_reason() -> None:
    policy = parse(POLICY)
    told = gate_status.Status.of(policy, None, None, None)
    assert (told.open, told.reason) == (False, "it was never applied")
    state = State("p", "b", (Account("api", 5, 1), Account("lifetime", 7, 1)))
    told = gate_status.Status.of(policy, state, None, None)
    assert told.reason == "no rules are installed"
    assert [(row.name, row.charged, row.granted) for row in told.rows] == [
        ("api", 5, 5),
        ("lifetime", 7, 7),
    ]


def _tidegate(made: World, *arguments: str, check: bool = True) -> str:
    program = [sys.executable, "-m", "tidegate", "gate", *arguments]
    return made.run(GATE, program, check=check).stdout


@pytest.mark.needs_root
def test_a_gate_is_applied_held_changed_and_removed(tmp_path: Path) -> None:
    path = _written(tmp_path)
    with closed_world(offload=False) as made:
        held = made.popen(
            GATE,
            [sys.executable, "-m", "tidegate", "gate", "apply", str(path), "--begin", "--hold"],
        )
        until_open(made)
        told = json.loads(_tidegate(made, "status", str(path), "--json"))
        assert told["open"] is True
        assert told["told_s"] is not None
        assert all(row["wire"] is not None for row in told["rows"])
        path.write_text(path.read_text().replace("443", "8443"))
        assert "taken up" in _tidegate(made, "apply", str(path))
        assert "8443" in made.run(GATE, ["nft", "list", "ruleset"]).stdout
        held.send_signal(signal.SIGTERM)
        assert held.wait(20) == 0
        told = json.loads(_tidegate(made, "status", str(path), "--json", check=False))
        assert (told["open"], told["reason"]) == (False, "no controller holds it")
        state = Store(tmp_path / "state").read()
        assert state is not None
        assert max(account.granted for account in state.accounts) < 1_000, "given back"
        assert "no longer forwards" in _tidegate(made, "remove", str(path))
        assert made.run(GATE, ["nft", "list", "ruleset"]).stdout == ""


@pytest.mark.needs_root
def test_the_demo_leaves_no_namespace_and_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    from tidegate.cli import gate_demo

    monkeypatch.setattr(gate_demo, "_PROMISES", gate_demo._PROMISES[1:3])
    result = CliRunner().invoke(app, ["gate", "demo", "--json"])
    assert result.exit_code == 0, result.stdout
    shown = json.loads(result.stdout)["promises"]
    assert [one["holds"] for one in shown] == [True, True]
