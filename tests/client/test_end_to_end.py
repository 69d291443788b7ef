"""Both halves as two real processes, with tiny models, asked by the official OpenAI client."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import tiny_pair
from openai import OpenAI

from tidegate.cli.servers import Servers
from tidegate.config import Settings
from tidegate.serve.inner.reasoning import credential_digest
from tidegate.serve.outer.keys import Keyring

MODEL = "tidegate"
REVIEWER = "credential of a reviewer"
THINKING_TOKENS = 40
PRINCIPALS = ("alice", "bob", "carol", "dave")
LETTERS_ONLY = {str(token): -100 for token in range(95, tiny_pair.VOCABULARY)}
"""Every token is then one letter of text, and answers are as long as they may be."""

ALLOWED_AN_HOUR = 24_000
"""Bits, for alice alone."""


@dataclass(frozen=True)
class Deployment:
    url: str
    folder: Path
    settings: Settings

    def client(self, name: str = "demo") -> OpenAI:
        key = "tidegate-demo" if name == "demo" else f"key of {name}"
        return OpenAI(base_url=self.url, api_key=key, max_retries=0, timeout=60)

    def metric(self, name: str) -> float:
        scrape = self.client().with_options(base_url=self.url.removesuffix("/v1"))
        lines = scrape.get("/metrics", cast_to=str).splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(name))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of ours against this deployment's settings."""
        settings = ("--settings", str(self.folder / "settings.toml"))
        command = [sys.executable, "-m", "tidegate", *arguments, *settings]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    pytest.importorskip("transformers", reason="needs tidegate[torch]")
    folder = tmp_path_factory.mktemp("e2e")
    strong = tiny_pair.write_llama(folder / "strong", seed=1)
    settings = tiny_pair.settings(
        folder,
        strong,
        tiny_pair.write_ngram(folder / "ngram", strong),
        link={"max_streams": 8},
        inner={
            "reasoning_start": "<",
            "reasoning_end": ">",
            "reasoning_tokens": THINKING_TOKENS,
            "reviewers": (credential_digest(REVIEWER).hex(),),
        },
        budget={"principals": {"alice": {"hour": ALLOWED_AN_HOUR}}},
    )
    ring = Keyring.empty()
    for name in PRINCIPALS:
        ring = ring.with_key(f"key of {name}", name)
    settings.outer.key_file.write_bytes(ring.encode())
    with Servers(settings, folder) as servers:
        yield Deployment(servers.wait_ready(), folder, settings)
        logs = (folder / "inner.log").read_text() + (folder / "outer.log").read_text()
    assert "Traceback" not in logs
    assert "tell me of the tide" not in logs
    assert json.loads(f"[{','.join(logs.splitlines())}]")


def chat(client: OpenAI, **more: Any) -> Any:
    asked = {"max_tokens": 24, "temperature": 0.7, "logit_bias": LETTERS_ONLY} | more
    return client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "tell me of the tide"}], **asked
    )


def complete(client: OpenAI, **more: Any) -> Any:
    asked = {"max_tokens": 24, "temperature": 0.7, "logit_bias": LETTERS_ONLY} | more
    asked = {"prompt": "tell me of the tide"} | asked
    return client.completions.create(model=MODEL, **asked)


def until(told: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not told():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_chat_and_completion_agree_with_their_own_streams_when_greedy(deployment: Deployment):
    client = deployment.client()
    whole = chat(client, temperature=0)
    chunks = list(
        chat(
            client,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].message.content
    assert len(text) == 24
    assert whole.choices[0].finish_reason == "length"
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens == 24
    assert whole.usage.model_extra["tidegate"]["bits"] > 0
    plain = complete(client, temperature=0)
    parts = list(complete(client, temperature=0, stream=True))
    assert "".join(part.choices[0].text for part in parts) == plain.choices[0].text
    assert len(plain.choices[0].text) == 24


def test_two_choices_are_two_answers_and_the_best_of_two_is_one(deployment: Deployment):
    client = deployment.client()
    two = chat(client, n=2)
    assert [choice.index for choice in two.choices] == [0, 1]
    assert two.choices[0].message.content != two.choices[1].message.content
    assert two.usage.completion_tokens == 48
    best = complete(client, n=1, best_of=2)
    assert len(best.choices) == 1
    # Only the winner leaves, so only the winner is paid for.
    assert best.usage.completion_tokens == 24
    streamed = list(chat(client, n=2, stream=True))
    texts = ["", ""]
    for choice in (choice for chunk in streamed for choice in chunk.choices):
        texts[choice.index] += choice.delta.content or ""
    assert [len(text) for text in texts] == [24, 24]


def test_a_stop_string_ends_an_answer_and_is_no_part_of_it(deployment: Deployment):
    client = deployment.client()
    text = chat(client, temperature=0).choices[0].message.content
    stop = text[9:12]
    cut = chat(client, temperature=0, stop=[stop, "never said"])
    assert cut.choices[0].message.content == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


def test_an_end_token_ends_an_answer(deployment: Deployment):
    answer = chat(deployment.client(), logit_bias={str(tiny_pair.ENDS[0]): 100})
    assert answer.choices[0].message.content == ""
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == 1


def test_the_same_user_seed_in_another_request_is_another_draw(deployment: Deployment):
    # spec/sampling-seed.md, rule 2: the user's seed is one field of six.
    client = deployment.client()
    answers = {chat(client, seed=7, temperature=1).choices[0].message.content for _ in range(2)}
    assert len(answers) == 2


def test_a_bias_and_penalties_change_what_is_said(deployment: Deployment):
    client = deployment.client()
    letter = tiny_pair.LETTERS.index("w")
    said = chat(client, logit_bias=LETTERS_ONLY | {str(letter): 100}).choices[0].message.content
    assert said == "w" * 24
    kept = chat(
        client,
        logit_bias=LETTERS_ONLY | {str(letter): 20},
        frequency_penalty=2,
        presence_penalty=2,
        extra_body={"repetition_penalty": 1.5},
    )
    assert len(set(kept.choices[0].message.content)) > 1


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"logprobs": True}, 400, "unsupported_parameter"),
        ({"n": 99}, 400, "invalid_value"),
        ({"max_tokens": 10**6}, 400, "invalid_value"),
        ({"extra_body": {"unheard_of": 1}}, 400, "unknown_parameter"),
        ({"model": "another"}, 404, "model_not_found"),
    ],
)
def test_what_is_not_served_is_refused(
    deployment: Deployment, asked: dict[str, Any], status: int, code: str
):
    with pytest.raises(openai.APIStatusError) as caught:
        deployment.client().chat.completions.create(
            **{"model": MODEL, "messages": [{"role": "user", "content": "x"}]} | asked
        )
    assert caught.value.status_code == status
    assert caught.value.code == code


def test_a_wrong_key_is_refused(deployment: Deployment):
    with pytest.raises(openai.AuthenticationError):
        chat(deployment.client("nobody"))


def test_a_prompt_the_strong_model_cannot_hold_is_the_clients_mistake(deployment: Deployment):
    # The weak model could hold it, and the settings would allow it.
    assert deployment.settings.models.max_context > tiny_pair.CONTEXT
    with pytest.raises(openai.BadRequestError) as caught:
        complete(deployment.client(), prompt="x" * tiny_pair.CONTEXT)
    assert caught.value.code == "context_length_exceeded"
    fits = complete(deployment.client(), prompt="x" * (tiny_pair.CONTEXT - 2), max_tokens=2)
    assert fits.usage.total_tokens <= tiny_pair.CONTEXT


def review(deployment: Deployment, reference: str, credential: str) -> Any:
    file = deployment.folder / "credential"
    file.write_text(credential + "\n")
    return deployment.run("review", "read", reference, "--credential-file", str(file))


def test_reasoning_stays_inside_and_can_be_referred_to_and_reviewed(deployment: Deployment):
    client = deployment.client("dave")
    answer = chat(client, extra_body={"reasoning": True})
    reference = answer.choices[0].model_extra["reasoning_ref"]
    said = answer.choices[0].message.content
    assert len(said) == answer.usage.completion_tokens == 24
    read = review(deployment, reference, REVIEWER)
    thought = read.stdout.removesuffix("\n")
    assert read.returncode == 0
    assert 0 < len(thought) <= THINKING_TOKENS
    assert ">" not in thought
    assert len(thought) < 3 or thought not in said
    streamed = list(chat(client, stream=True, extra_body={"reasoning": True}))
    assert streamed[-1].choices[0].model_extra["reasoning_ref"] != reference

    again = chat(client, temperature=0, extra_body={"reasoning_ref": reference})
    without = chat(client, temperature=0)
    assert again.choices[0].message.content != without.choices[0].message.content
    with pytest.raises(openai.APIStatusError):
        chat(deployment.client("bob"), extra_body={"reasoning_ref": reference})

    refused = review(deployment, reference, "not the credential")
    assert refused.returncode == 2
    assert thought not in refused.stdout + refused.stderr
    assert review(deployment, "00" * 16, REVIEWER).returncode == 2
    log = (deployment.folder / "inner.log").read_text()
    assert '"allowed": true' in log
    assert '"allowed": false' in log
    assert thought not in log


def test_a_spent_budget_refuses_one_principal_until_it_is_topped_up(deployment: Deployment):
    alice, bob = deployment.client("alice"), deployment.client("bob")
    asked = {"max_tokens": 300}
    assert chat(alice, **asked).usage.completion_tokens == 300

    def spend() -> None:
        for _ in range(ALLOWED_AN_HOUR // 300):
            chat(alice, **asked)

    with pytest.raises(openai.RateLimitError) as caught:
        spend()
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert caught.value.code == "upload_budget_exceeded"
    assert chat(bob).usage.completion_tokens > 0
    spent = balance(deployment, "alice")["spent"]
    assert spent > 0
    done = deployment.run("ledger", "top-up", "principal:alice", "60000", "--reason", "approved")
    assert done.returncode == 0, done.stderr
    assert chat(alice, **asked).usage.completion_tokens == 300
    assert balance(deployment, "alice")["spent"] > spent
    sound = deployment.run("ledger", "verify")
    assert (sound.returncode, sound.stdout[:5]) == (0, "sound")
    assert deployment.run("ledger", "verify", "--half", "inner").returncode == 0


def balance(deployment: Deployment, principal: str) -> dict[str, int]:
    until(lambda: deployment.metric("tidegate_active_streams") == 0)
    shown = deployment.run("ledger", "show", "--principal", principal).stdout
    row = next(line for line in shown.splitlines() if f"principal:{principal}" in line)
    spent, held, left = (int(n.replace(",", "")) for n in re.findall(r"[\d,]+", row)[-3:])
    return {"spent": spent + held, "left": left}


def test_readers_who_leave_free_their_slots(deployment: Deployment):
    client = deployment.client("carol")
    for _ in range(3):
        streams = [chat(client, max_tokens=100, stream=True) for _ in range(8)]
        for stream in streams:
            next(iter(stream))
            stream.close()
    # Every slot was taken three times over; one that is not freed would be missing now.
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: chat(client, max_tokens=4), range(8)))
    assert {answer.usage.completion_tokens for answer in answers} == {4}
    until(lambda: deployment.metric("tidegate_active_streams") == 0)


def test_a_reader_who_waits_holds_up_nobody_and_misses_nothing(deployment: Deployment):
    host, port = deployment.url.removeprefix("http://").removesuffix("/v1").split(":")
    body = json.dumps(
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": "x"}],
            "max_tokens": 400,
            "logit_bias": LETTERS_ONLY,
            "stream": True,
        }
    )
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n"
            "authorization: Bearer key of dave\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n{body}".encode()
        )
        assert chat(deployment.client("bob")).usage.completion_tokens > 0
        until(lambda: deployment.metric("tidegate_active_streams") == 0)
        received = b""
        while data := connection.recv(1 << 16):
            received += data
    assert received.rstrip().endswith(b"0")  # the last chunk of HTTP's own coding
    assert b"data: [DONE]" in received
    events = re.findall(rb"data: (\{.*\})", received)
    text = "".join(json.loads(e)["choices"][0]["delta"].get("content", "") for e in events)
    assert len(text) == 400
