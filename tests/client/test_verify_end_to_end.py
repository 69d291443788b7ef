"""Two real halves on an exact model, recorded, followed by a verifier, and held until he passed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import openai
import pytest
import tiny_pair
from openai import OpenAI
from proof_world import SHAPE, write_folder
from replay_world import less_sure

from tidegate.cli.servers import Servers
from tidegate.config import Record, Settings

PATIENCE = 60
LETTERS_ONLY = {str(token): -100 for token in range(95, tiny_pair.VOCABULARY)}
ASKED = {"max_tokens": 16, "logit_bias": LETTERS_ONLY}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("verified")
    strong = folder / "strong"
    write_folder(strong, replace(SHAPE, context_length=512), change=less_sure)
    plain = tiny_pair.settings(folder, strong, tiny_pair.write_ngram(folder / "ngram", strong))
    record = Record(folder=folder / "record", key_file=folder / "record.key")
    return plain.model_copy(update={"record": record})


def place(settings: Settings) -> Path:
    return settings.outer.ledger.parent


def verifier(settings: Settings, *more: str) -> list[str]:
    folder = place(settings)
    return [
        *(sys.executable, "-m", "tidegate", "verify", str(folder / "record"), "--json"),
        *("--key", str(folder / "record.key.pub"), "--model", f"exact:{folder / 'strong'}"),
        *("--seed-key", str(settings.outer.seed_key_file), "--threads", "1", *more),
    ]


def client(url: str) -> OpenAI:
    return OpenAI(base_url=url, api_key="tidegate-demo", max_retries=0, timeout=PATIENCE)


def ask(url: str, number: int = 0, **more: object) -> str:
    turn = {"role": "user", "content": f"tell me of the tide, number {number}"}
    asked = {**ASKED, "temperature": 0.9, **more}
    answer = client(url).chat.completions.create(model="tidegate", messages=[turn], **asked)  # type: ignore[call-overload]
    return str(answer.choices[0].message.content)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def stopped(process: subprocess.Popen[str]) -> dict[str, object]:
    """The report of a follower who was told to stop."""
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    report = json.loads(out)
    assert isinstance(report, dict)
    return report


def test_what_two_halves_served_verifies_to_the_last_token(settings: Settings):
    folder = place(settings)
    with Servers(settings, folder) as servers:
        url = servers.wait_ready()
        log = folder / "follower.results"
        with started(verifier(settings, "--follow", "--resume-file", str(log))) as follower:
            with ThreadPoolExecutor(4) as threads:
                texts = list(threads.map(lambda number: ask(url, number), range(6)))
            ask(url, temperature=0, stop=["e", "a"])
            ask(url, n=2, top_p=0.9, presence_penalty=0.5, seed=7)
            until(lambda: log.exists() and log.read_bytes().count(b"\n") == 1 + 9)
            report = stopped(follower)
    assert len(set(texts)) > 1
    assert report["outcome"]["outcome"] == "pass"  # type: ignore[index]
    after = subprocess.run(verifier(settings), capture_output=True, text=True, check=False)
    told = json.loads(after.stdout)
    assert after.returncode == 0
    assert (told["kinds"], told["mismatches"], told["responses"]) == ({}, 0, 9)
    assert told["scored_tokens"] == told["tokens"] >= 8 * 16
    assert told["match_rate"] == 1.0
    assert report["scored_tokens"] == told["scored_tokens"]


def test_held_answers_leave_only_while_a_verifier_passes_them(settings: Settings, tmp_path: Path):
    folder = place(settings)
    gate = folder / "gate.sock"
    record = settings.record.model_copy(
        update={"folder": folder / "record", "hold": str(gate), "hold_ms": 20_000}
    )
    held = settings.model_copy(update={"record": record})
    with Servers(held, folder) as servers:
        url = servers.wait_ready()
        with started(verifier(held, "--gate", str(gate))) as examiner:
            until(lambda: gate.is_socket() or examiner.poll() is not None)
            assert len(ask(url, 40)) == 16
            assert stopped(examiner)["outcome"]["outcome"] == "pass"  # type: ignore[index]
        with pytest.raises(openai.InternalServerError) as refused:
            ask(url, 41)
        assert refused.value.status_code == 503
        assert refused.value.code == "not_verified"
        log = (folder / "outer.log").read_text()
        assert "answer_held" in log
