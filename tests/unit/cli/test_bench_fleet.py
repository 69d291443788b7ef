"""The frame of `tidegate bench fleet`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from tidegate.bench.figures import Figure, at_most
from tidegate.bench.fleet import Options
from tidegate.cli.main import app
from tidegate.errors import ConfigError
from tidegate.models.cache import Progress


def test_a_part_runs_alone_and_is_told_where_vllm_is(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Options] = []

    def measure(progress: Progress, options: Options) -> dict[str, Figure]:
        told.append(options)
        return {"lost_verdicts": at_most(1, 0, unit="", n=3, how="made up")}

    part = SimpleNamespace(measure=measure)
    monkeypatch.setitem(sys.modules, "tidegate.bench.fleet_ray", part)
    asked = ("bench", "fleet", "--json", "--only", "ray", "--vllm-python", "there/python")
    done = CliRunner().invoke(app, asked)
    assert told == [Options(vllm_python=Path("there/python"))]
    assert list(json.loads(done.stdout)["figures"]) == ["lost_verdicts"]
    assert done.exit_code == 1


def test_a_part_that_there_is_not_is_refused_by_name() -> None:
    done = CliRunner().invoke(app, ("bench", "fleet", "--only", "slurm"))
    assert isinstance(done.exception, ConfigError)
    assert "'slurm'" in done.exception.message
