"""A float model judged with a profile: honest answers pass, a cheat on every tenth token alarms."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny_pair
from replay_world import Served, job
from typer.testing import CliRunner, Result

from tidegate.cli.main import app
from tidegate.serve.jobs import Job

pytest.importorskip("transformers", reason="needs tidegate[torch]")

TOKENS = 60


class FloatServed(Served):
    """As `Served`, by a random Llama on transformers."""

    def open(self) -> Any:
        from tidegate.models import transformers_torch

        return transformers_torch.load(self.model, dtype="float32", threads=1)


def answers(name: str, count: int) -> Sequence[Job]:
    return [
        job(f"{name}{number}", prompt=5 + number, tokens=TOKENS, ignore_eos=True)
        for number in range(count)
    ]


def run(served: Served, *arguments: object) -> Result:
    options = ("--key", served.key, "--model", f"transformers:{served.model}", "--threads", 1)
    said = ["verify", *arguments, *options, "--dtype", "float32"]
    return CliRunner().invoke(app, [str(word) for word in said])


def served_in(folder: Path, model: Path) -> FloatServed:
    folder.mkdir()
    (folder / "model").symlink_to(model)
    return FloatServed(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pair.write_llama(tmp_path_factory.mktemp("float") / "llama", seed=1)


@pytest.fixture(scope="module")
def profile(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = served_in(tmp_path_factory.mktemp("profile") / "p", model)
    made.serve(answers("calibrate", 24))
    out = made.folder / "profile.json"
    found = run(made, "profile", made.log, out)
    assert found.exit_code == 0, found.exception
    return out


def test_honest_answers_pass_with_a_profile_and_not_without(
    model: Path, profile: Path, tmp_path: Path
):
    made = served_in(tmp_path / "honest", model)
    made.serve(answers("honest", 10))
    without = json.loads(run(made, made.log, "--json").stdout)
    assert without["outcome"]["outcome"] == "cannot_verify"
    assert "profile" in without["outcome"]["reason"]
    found = run(made, made.log, "--json", "--profile", profile)
    told = json.loads(found.stdout)
    assert (found.exit_code, told["outcome"]["outcome"]) == (0, "pass"), told["outcome"]
    assert told["match_rate"] > 0.98
    assert 0 < told["leak"]["share"] < 1
    assert told["leak"]["surprisal_bits"] > 0


def test_a_cheat_on_every_tenth_token_alarms_and_is_located(
    model: Path, profile: Path, tmp_path: Path
):
    made = served_in(tmp_path / "lying", model)
    jobs = answers("lying", 10)
    made.serve(jobs, tamper=lambda _, place, token: (token + 40) % 90 if place % 10 == 9 else token)
    found = run(made, made.log, "--json", "--profile", profile)
    told = json.loads(found.stdout)
    assert (found.exit_code, told["outcome"]["outcome"]) == (1, "fail")
    assert "alarm" in told["kinds"]
    assert {flag["token"] % 10 for flag in told["flagged"]} & {9}
