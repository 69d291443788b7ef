"""Both halves as real processes, the strong model in servers that die, change and come back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import tiny_pair
from openai import OpenAI, OpenAIError
from serving_halves import Halves, ask, free_port, until
from vllm_server import VllmFaults, VllmServer, running

from tidegate.config import Engine
from tidegate.models import tokenizer

SAID = {"max_tokens": 24, "temperature": 0.0}


class World:
    """Two replicas of a random Llama, and the halves."""

    def __init__(self, folder: Path) -> None:
        from tidegate.models import transformers_torch

        self.strong = tiny_pair.write_llama(folder / "strong", seed=1)
        weak = tiny_pair.write_ngram(folder / "weak", self.strong)
        self.model, *theirs = (
            transformers_torch.load(self.strong, dtype="float32", threads=1) for _ in range(3)
        )
        self.servers = tuple(
            VllmServer(model=model, faults=VllmFaults(context=tiny_pair.CONTEXT))
            for model in theirs
        )
        models = {"engine": "vllm"}
        self.settings = tiny_pair.settings(
            folder, self.strong, weak, outer={"port": free_port()}, models=models
        )
        self.folder = folder

    def start(self) -> Halves:
        urls = tuple(server.url for server in self.servers)
        settings = self.settings.model_copy(update={"engine": Engine(urls=urls)})
        halves = Halves(self.folder, settings)
        halves.start("inner")
        halves.start("outer")
        until(halves.answered)
        return halves

    def expected(self) -> str:
        """What the model says greedily, worked out without any server."""
        words = tokenizer.load(self.strong)
        prompt = words.chat([{"role": "user", "content": "tell me"}])
        biases = dict.fromkeys(range(95, tiny_pair.VOCABULARY), -100.0)
        said: list[int] = []
        for _ in range(SAID["max_tokens"]):  # type: ignore[call-overload]
            logits_V = self.model.forward([(1, [*prompt, *said])])[0]
            self.model.drop(1)
            for token, bias in biases.items():
                logits_V[token] += bias
            said.append(int(logits_V.argmax()))
        return words.decode(said)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Halves]]:
    pytest.importorskip("transformers", reason="needs tidegate[torch]")
    made = World(tmp_path_factory.mktemp("engine"))
    with ExitStack() as stack:
        stack.enter_context(running(*made.servers))
        halves = made.start()
        yield made, halves
        halves.stop()
        assert "Traceback" not in halves.log("inner")


def said(client: OpenAI, **more: Any) -> str:
    answer = ask(client, **{**SAID, **more})
    return str(answer.choices[0].message.content)


def test_an_answer_is_the_models_own_through_vllm_and_the_link(world: tuple[World, Halves]):
    made, halves = world
    assert said(halves.client()) == made.expected()
    assert len(said(halves.client(), temperature=0.9)) == SAID["max_tokens"]


def test_a_replica_that_dies_in_answers_costs_nobody_an_answer(world: tuple[World, Halves]):
    made, halves = world
    expected = made.expected()
    made.servers[0].faults.break_after = 7
    assert [said(halves.client()) for _ in range(4)] == [expected] * 4
    made.servers[0].faults.break_after = None
    assert "engine_sequence_lost" in halves.log("inner")


def test_with_all_replicas_gone_the_half_says_no_and_comes_back(world: tuple[World, Halves]):
    made, halves = world
    for server in made.servers:
        server.faults.status = 503
    with pytest.raises(OpenAIError):
        said(halves.client())
    until(lambda: "engine_still_down" in halves.log("inner"))
    for server in made.servers:
        server.faults.status = None
    until(halves.answered)
    assert said(halves.client()) == made.expected()
    assert "engine_back" in halves.log("inner")
    downs = [
        json.loads(line) for line in halves.log("inner").splitlines() if "replica_down" in line
    ]
    assert {down["url"] for down in downs} == {server.url for server in made.servers}
