"""A half that was killed leaves its ready file; the next one must not look ready by it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidegate.cli.main import app
from tidegate.errors import TidegateError


@pytest.mark.parametrize("words", [["inner"], ["outer"], ["rank", "1"]], ids=lambda w: w[0])
def test_a_ready_file_of_a_killed_half_is_gone_before_models_load(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings, ready = tmp_path / "settings.toml", tmp_path / "ready"
    settings.write_text('[models]\nstrong = "./nowhere"\nparameters = 1\n')
    ready.write_text("8000")
    done = CliRunner().invoke(
        app, ["serve", *words, "--settings", str(settings), "--ready-file", str(ready)]
    )
    assert isinstance(done.exception, TidegateError)
    assert not ready.exists()
