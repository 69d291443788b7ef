"""`tidegate exact convert` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import float_models
import pytest
from typer.testing import CliRunner

from tidegate.cli.main import app
from tidegate.errors import ModelError
from tidegate.models.exact.format import read

run = CliRunner().invoke


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return float_models.write(tmp_path / "source", float_models.config("llama", tied=True))


def convert(source: Path, out: Path, *more: str) -> list[str]:
    return ["exact", "convert", str(source), str(out), "--max-context", "64", *more]


def test_a_conversion_prints_the_root_of_what_it_made(source: Path, tmp_path: Path) -> None:
    done = run(app, convert(source, tmp_path / "out", "--alpha", "0.5", "--json"))
    assert done.exit_code == 0
    summary = json.loads(done.stdout)
    found = read(tmp_path / "out")
    assert summary["root"] == found.root
    assert summary["parameters"] == found.shape.parameters
    assert summary["bytes"] == sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert found.shape.context_length == 64


def test_people_get_a_table_with_the_same_root(source: Path, tmp_path: Path) -> None:
    done = run(app, convert(source, tmp_path / "out", "--alpha", "0"), env={"COLUMNS": "200"})
    assert read(tmp_path / "out").root in done.stdout


def test_alphas_that_square_roots_cannot_make_are_refused(source: Path, tmp_path: Path) -> None:
    for alpha in ("0.3", "-0.125", "1.125", "nan"):
        done = run(app, convert(source, tmp_path / "out", "--alpha", alpha))
        assert done.exit_code == 2
        assert "0.125" in done.output
    assert not (tmp_path / "out").exists()


def test_what_is_converted_is_not_converted_again(source: Path, tmp_path: Path) -> None:
    assert run(app, convert(source, tmp_path / "out", "--alpha", "0")).exit_code == 0
    again = run(app, convert(tmp_path / "out", tmp_path / "again"))
    assert isinstance(again.exception, ModelError)
    assert "converted folder already" in again.exception.message
