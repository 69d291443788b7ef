"""`tidegate engine` and the settings of an engine that draws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_pair
from link_world import VOCABULARY
from sglang_server import SglangServer
from typer.testing import CliRunner, Result
from vllm_server import VllmFaults, VllmServer, running

from tidegate.cli import parts
from tidegate.cli.half_engine import key_of, opened
from tidegate.cli.main import app
from tidegate.config import Engine, Inner, Models, Settings
from tidegate.errors import ConfigError
from tidegate.models.engine_matrix import load
from tidegate.models.replay_vllm import open_head


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["engine", *map(str, words)])


def check(*words: object) -> tuple[int, list[dict[str, Any]]]:
    found = run("check", *words, "--vocabulary", VOCABULARY, "--json")
    return found.exit_code, json.loads(found.stdout)["replicas"]


def test_replicas_that_pass_are_told_with_their_version():
    servers = VllmServer(), VllmServer()
    with running(*servers):
        status, rows = check("vllm", *(server.url for server in servers))
    assert status == 0
    assert [(row["passed"], row["version"]) for row in rows] == [(True, "0.32.0")] * 2


def test_one_bad_replica_is_named_with_why_and_the_status_is_1():
    good, bad = VllmServer(), VllmServer(faults=VllmFaults(plugin=False))
    with running(good, bad):
        status, rows = check("vllm", bad.url, good.url)
    assert status == 1
    assert [row["passed"] for row in rows] == [False, True]
    assert "plug-in is not installed" in rows[0]["reason"]


def test_other_weights_show_side_by_side():
    good, other = VllmServer(), VllmServer(blur=2.0)
    with running(good, other):
        assert check("vllm", good.url)[0] == check("vllm", other.url)[0] == 0
        status, rows = check("vllm", good.url, other.url)
    assert status == 1
    assert "other weights" in rows[1]["reason"]


def test_sglang_is_checked_in_its_own_words():
    server = SglangServer()
    with running(server):
        assert check("sglang", server.url, "--version", "0.5.23")[0] == 0
        status, rows = check("sglang", server.url)
    assert status == 1
    assert "never been run" in rows[0]["reason"]


def test_the_matrix_is_shown_as_packaged():
    shown = json.loads(run("matrix", "--json").stdout)
    assert shown == {
        feature: {engine: cell.status for engine, cell in cells.items()}
        for feature, cells in load().features.items()
    }
    assert "vLLM" in run("matrix").stdout


VLLM = Models(engine="vllm", parameters=135_000_000)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings(models=VLLM), "urls"),
        (Settings(models=VLLM.model_copy(update={"parameters": None})), "urls"),
        (
            Settings(models=Models(engine="vllm"), engine=Engine(urls=("http://a",))),
            "parameters",
        ),
        (
            Settings(
                models=VLLM,
                engine=Engine(urls=("http://a",)),
                inner=Inner(measurements=Path("m.jsonl")),
            ),
            "measurements",
        ),
        (Settings(engine=Engine(urls=("http://a",))), "is set, but"),
        (
            Settings(
                models=VLLM, engine=Engine(urls=("http://a",), key_file=Path("there-is-none"))
            ),
            "there-is-none",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: Settings, said: str):
    with pytest.raises(ConfigError, match=said):
        opened(settings, VOCABULARY)


def test_without_an_engine_the_strong_model_runs_here():
    assert opened(Settings(), VOCABULARY) is None


def test_a_servers_model_is_not_opened_as_one_of_this_process():
    with pytest.raises(ConfigError, match="runs as a server"):
        parts.strong_model(VLLM)


def test_the_key_is_read_from_its_file(tmp_path: Path):
    path = tmp_path / "key"
    path.write_text("sesame\n")
    assert key_of(Engine(key_file=path)) == "sesame"
    assert key_of(Engine()) is None


def test_a_fingerprint_is_the_one_that_a_verifier_comes_to(tmp_path: Path):
    folder = tiny_pair.write_llama(tmp_path / "model", seed=1)
    printed = run("fingerprint", folder, "--dtype", "float32").stdout.strip()
    assert printed == open_head(folder, "float32").fingerprint
    assert printed != run("fingerprint", folder).stdout.strip()
