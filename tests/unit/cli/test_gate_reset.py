"""The operator's hand on the latch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidegate.cli.gate import app
from tidegate.errors import TidegateError
from tidegate.gate.latch import FILE
from tidegate.ledger import SqliteStore

RUN = CliRunner()


@pytest.fixture
def state(tmp_path: Path) -> str:
    """A gate's folder, with a diary that is still empty."""
    SqliteStore(tmp_path / FILE).close()
    return str(tmp_path)


def test_a_latch_by_hand_is_shown_until_it_is_reset(state: str) -> None:
    assert RUN.invoke(app, ["diary", "--state", state]).exit_code == 0
    assert RUN.invoke(app, ["latch", "--reason", "to be sure", "--state", state]).exit_code == 0
    shown = RUN.invoke(app, ["diary", "--state", state])
    assert (shown.exit_code, "LATCHED: to be sure" in shown.output) == (1, True)
    assert RUN.invoke(app, ["latch", "--reason", "twice", "--state", state]).exit_code == 1
    done = RUN.invoke(app, ["reset", "--by", "Ada", "--reason", "looked", "--state", state])
    assert done.exit_code == 0
    shown = RUN.invoke(app, ["diary", "--json", "--state", state])
    assert shown.exit_code == 0
    entries = [json.loads(line) for line in shown.output.splitlines()]
    assert [(entry["kind"], entry["text"]) for entry in entries] == [
        ("latched", "to be sure"),
        ("reset", "looked"),
    ]
    assert entries[1]["who"] == "Ada"


def test_what_is_not_latched_is_not_reset(state: str) -> None:
    done = RUN.invoke(app, ["reset", "--by", "Ada", "--reason", "looked", "--state", state])
    assert isinstance(done.exception, TidegateError)


def test_a_folder_without_a_diary_is_refused_and_none_is_made(tmp_path: Path) -> None:
    done = RUN.invoke(app, ["diary", "--state", str(tmp_path)])
    assert isinstance(done.exception, TidegateError)
    assert "no diary" in done.exception.message
    assert not (tmp_path / FILE).exists()
