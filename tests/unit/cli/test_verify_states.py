"""`tidegate verify states`: the same weights are alike, others apart, whatever they answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_pair
from pooling_server import PoolingServer
from replay_world import Served, job
from typer.testing import CliRunner, Result
from vllm_server import running

from tidegate.cli.main import app

pytest.importorskip("transformers", reason="needs tidegate[torch]")


class FloatServed(Served):
    """As `Served`, by a random Llama on transformers."""

    def open(self) -> Any:
        return _opened(self.model)


def _opened(folder: Path) -> Any:
    from tidegate.models import transformers_torch

    return transformers_torch.load(folder, dtype="float32", threads=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FloatServed:
    folder = tmp_path_factory.mktemp("states")
    tiny_pair.write_llama(folder / "model", seed=1)
    served = FloatServed(folder)
    served.serve([job(f"states{n}", prompt=4 + n, tokens=12, ignore_eos=True) for n in range(5)])
    return served


@pytest.fixture
def alike(made: FloatServed) -> Iterator[PoolingServer]:
    with running(PoolingServer(_opened(made.model))) as server:
        yield server


def compare(made: FloatServed, server: PoolingServer, *more: object) -> Result:
    words = ["verify", "states", made.log, "--key", made.key]
    words += ["--model", f"transformers:{made.model}"]
    words += ["--served", f"vllm:{made.model}@{server.url}"]
    words += ["--dtype", "float32", "--size", 8, *more]
    return CliRunner().invoke(app, [str(word) for word in words])


def test_an_engine_with_the_same_weights_is_alike(made: FloatServed, alike: PoolingServer):
    found = compare(made, alike, "--json")
    told = json.loads(found.stdout)
    assert (found.exit_code, told["alike"]) == (0, True), found.exception
    assert (told["answers"], told["tokens"], told["bits_per_token"]) == (5, 60, 256)
    assert told["most"] < 1e-3
    assert "alike" in compare(made, alike, "--answers", 2).stdout


def test_an_engine_with_other_weights_is_apart(made: FloatServed, tmp_path: Path):
    other = tiny_pair.write_llama(tmp_path / "other", seed=1, blur=0.3)
    with running(PoolingServer(_opened(other))) as server:
        found = compare(made, server)
    assert found.exit_code == 1
    assert "apart" in found.stdout


def test_a_distance_that_is_allowed_passes(made: FloatServed, alike: PoolingServer):
    alike.scale = 1.1
    assert compare(made, alike).exit_code == 1
    assert compare(made, alike, "--most", 0.2).exit_code == 0


def test_an_unsound_record_is_not_compared_over(made: FloatServed, alike: PoolingServer):
    expect = ("--expect", "0" * 64)
    assert "not sound" in str(compare(made, alike, *expect).exception)


def test_engines_without_states_are_refused(made: FloatServed, alike: PoolingServer):
    found = compare(made, alike, "--served", f"exact:{made.model}")
    assert "no hidden states" in str(found.exception)
