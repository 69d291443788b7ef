"""`tidegate exact selftest` says what it found, and its status says the same."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from tidegate.cli.main import app
from tidegate.errors import ConfigError
from tidegate.models.exact import selftest
from tidegate.models.exact.selftest import Finding


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["exact", "selftest", *words])
    return result.exit_code, result.stdout


def test_a_machine_that_computes_right_passes():
    status, said = run("--backend", "native-portable", "--threads", "1", "--rounds", "1", "--json")
    assert status == 0
    (found,) = json.loads(said)
    assert (found["backend"], found["differs"]) == ("native-portable", "")


def test_a_back_end_that_differs_is_named_and_fails(monkeypatch: pytest.MonkeyPatch):
    def examine(backend: str, **_: object) -> Finding:
        return Finding(backend, "the operation 'gate'" if backend == "numpy" else "", 0.5)

    monkeypatch.setattr(selftest, "examine", examine)
    status, said = run("--json")
    assert status == 1
    findings = {found["backend"]: found["differs"] for found in json.loads(said)}
    assert findings["numpy"] == "the operation 'gate'"
    assert findings["native-portable"] == ""
    status, said = run()
    assert status == 1
    assert "differs in the operation 'gate'" in said


def test_an_unknown_back_end_is_no_result():
    result = CliRunner().invoke(app, ["exact", "selftest", "--backend", "abacus"])
    assert isinstance(result.exception, ConfigError)
