"""Played back, what a real vLLM said passes every check and gives our tokens and states.

Recorded by `tools/record_engine.py`, which compared each answer with our own sampler's over the
same weights. A request of ours that changes by a byte is not answered here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from record_engine import SETTINGS, VOCABULARY, asks
from transcript import Player, Transcript, load
from vllm_server import running

from tidegate.models.engine_port import EngineLostError
from tidegate.models.engine_replicas import Replicas
from tidegate.models.engine_vllm import Vllm
from tidegate.models.port import ModelInfo
from tidegate.models.replay_vllm import Head, VllmReplay
from tidegate.models.vllm_contract import TESTED_VERSIONS

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def transcript() -> Transcript:
    return load(HERE / f"vllm-{TESTED_VERSIONS[0]}.json")


@pytest.fixture
def player(transcript: Transcript) -> Iterator[Player]:
    with running(Player(transcript)) as playing:
        yield playing


def _answers(transcript: Transcript) -> list[tuple[dict[str, object], list[int], list[float]]]:
    """Body, tokens and log-probabilities of each recorded answer beyond the probe's."""
    found = []
    for one in transcript.exchanges:
        body = msgspec.json.decode(one.asked) if one.asked else {}
        if body.get("stream") and len(body["prompt"]) > 6:
            lines = [line[6:] for line in one.answered.splitlines() if line.startswith("data: {")]
            choices = [msgspec.json.decode(line)["choices"][0] for line in lines]
            tokens = [token for choice in choices for token in choice["token_ids"]]
            values = [
                value
                for choice in choices
                for value in (choice.get("logprobs") or {}).get("token_logprobs", [])
            ]
            found.append((body, tokens, values))
    return found


def test_a_real_servers_words_pass_every_check(player: Player, transcript: Transcript):
    engine = Replicas(Vllm(accepted=""), [player.url], vocab_size=VOCABULARY)
    assert engine.describe().name == "smollm2"
    assert engine.context_length == 1024
    assert engine.replicas()[0].version == transcript.version
    engine.close()
    assert player.unknown == []


def test_answers_are_read_as_recorded(player: Player, transcript: Transcript):
    engine = Replicas(Vllm(accepted=""), [player.url], vocab_size=VOCABULARY)
    answers = _answers(transcript)
    assert len(answers) == len(SETTINGS)
    for (body, tokens, values), ask in zip(
        answers, asks(tuple(answers[0][0]["prompt"])), strict=True
    ):
        drawing = engine.start(ask)
        drawn = [drawing.take() for _ in tokens]
        drawing.close()
        assert [one.token for one in drawn] == tokens
        assert [one.logprob for one in drawn if one.logprob is not None] == values
        assert bool(values) == ask.logprobs
        assert body["temperature"] == 0.0
    engine.close()
    assert player.unknown == []


def test_what_differs_by_a_byte_is_not_answered(player: Player, transcript: Transcript):
    engine = Replicas(Vllm(accepted=""), [player.url], vocab_size=VOCABULARY)
    first = asks(tuple(_answers(transcript)[0][0]["prompt"]))[0]
    drawing = engine.start(replace(first, max_tokens=11))
    with pytest.raises(EngineLostError, match="599"):
        drawing.take()
    engine.close()


def test_hidden_states_are_read_as_recorded():
    transcript = load(HERE / f"vllm-{TESTED_VERSIONS[0]}-states.json")
    bodies = [msgspec.json.decode(one.asked) for one in transcript.exchanges if one.asked]
    width = 576
    head = Head(
        weight_VD=np.eye(3, width, dtype=np.float32),
        fingerprint="",
        eos_ids=frozenset(),
        info=ModelInfo(name="", parameters=0, licence="", provenance="", numerics="float32"),
        brain=False,
    )
    with running(Player(transcript)) as playing:
        replay = VllmReplay(playing.url, head, accepted="")
        states_TD = replay.hidden_states(bodies[-1]["input"])
        replay.close()
    assert states_TD.shape == (len(bodies[-1]["input"]), width)
    assert np.isfinite(states_TD).all()
    assert replay.context_length == 1024
    assert playing.unknown == []
