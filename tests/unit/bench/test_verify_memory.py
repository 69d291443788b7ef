from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidegate.bench import verify_memory
from tidegate.bench.figures import Figure, report
from tidegate.cli import bench_verify
from tidegate.cli.main import app
from tidegate.errors import ConfigError, RecordError
from tidegate.models.cache import no_progress


def test_the_command_verifies_every_token_of_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_memory, "STREAMS", 3)
    monkeypatch.setattr(verify_memory, "ANSWER", 25)
    verify_memory.write_model(tmp_path / "model")
    verify_memory.write_record(tmp_path / "log", tmp_path / "model", 200, no_progress)
    found = verify_memory.verify(tmp_path, tmp_path / "log")
    assert found.status == 0
    assert found.told.scored_tokens == 225
    assert found.told.responses == found.told.replayed == 9
    assert found.told.mismatches == 0
    assert 2e7 < found.peak < 1e9


def verified(tokens: int, peak: int, status: int = 0) -> verify_memory.Verified:
    return verify_memory.Verified(verify_memory.Told(2, tokens, 0, 2, 2), peak, status)


@pytest.mark.parametrize(("peak", "holds"), [(104, True), (106, False)])
def test_memory_that_grows_with_the_record_shows(
    monkeypatch: pytest.MonkeyPatch, peak: int, holds: bool
) -> None:
    runs = iter([verified(10, 100), verified(100, peak)])
    monkeypatch.setattr(verify_memory, "write_record", lambda *_: None)
    monkeypatch.setattr(verify_memory, "verify", lambda *_: next(runs))
    monkeypatch.setattr(verify_memory, "_resumed", lambda *_: 0)
    figures = verify_memory.measure(no_progress, (10, 100))
    assert figures["record_memory_growth"].holds is holds
    assert figures["record_memory_long"].value == peak
    assert figures["resumed_answers_differ"].holds


def test_a_record_that_does_not_verify_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = iter([verified(10, 100), verified(100, 100, status=1)])
    monkeypatch.setattr(verify_memory, "write_record", lambda *_: None)
    monkeypatch.setattr(verify_memory, "verify", lambda *_: next(runs))
    monkeypatch.setattr(verify_memory, "_resumed", lambda *_: 0)
    with pytest.raises(RecordError, match="did not verify"):
        verify_memory.measure(no_progress, (10, 100))


def test_parts_run_alone_and_unknown_ones_are_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def part(asked: bench_verify.Asked) -> dict[str, Figure]:
        ran.append(f"{asked.work.name} {asked.claims}")
        return {"memory": report(1, unit="", n=1, how="")}

    monkeypatch.setattr(bench_verify, "PARTS", {"memory": part})
    options = ["bench", "verify", "--work", str(tmp_path / "kept"), "--tokens", "2000"]
    done = CliRunner().invoke(app, [*options, "--only", "memory", "--only", "memroy"])
    assert isinstance(done.exception, ConfigError)
    assert ran == []
    done = CliRunner().invoke(app, [*options, "--json"])
    assert done.exit_code == 0
    assert ran == ["kept 2000"]
