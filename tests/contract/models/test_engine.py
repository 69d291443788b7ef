"""What every adapter of `engine_port.DrawingEngine` must keep: the tokens our sampling draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from link_world import VOCABULARY, TableModel
from sglang_server import SglangServer
from vllm_server import VllmServer, running

from tidegate.models.engine_model import ModelEngine
from tidegate.models.engine_port import Ask, DrawingEngine, EngineLostError, EngineRefusedError
from tidegate.models.engine_replicas import Dialect, Replicas
from tidegate.models.engine_sglang import Sglang
from tidegate.models.engine_vllm import Vllm
from tidegate.sampling.params import SamplingParams

CONTEXT = 600
SEED = bytes(range(32))
ASK = Ask(prompt=(3, 5, 8), seed=SEED, params=SamplingParams(temperature=0.8), max_tokens=12)


def table() -> TableModel:
    return TableModel(1.5, context=CONTEXT)


@pytest.fixture(scope="module", params=["model", "vllm", "sglang"])
def engine(request: pytest.FixtureRequest) -> Iterator[DrawingEngine]:
    if request.param == "model":
        yield ModelEngine(table())
        return
    server: VllmServer | SglangServer = VllmServer()
    dialect: Dialect = Vllm(accepted="")
    if request.param == "sglang":
        server, dialect = SglangServer(), Sglang(accepted="0.5.23")
    with running(server):
        replicas = Replicas(dialect, [server.url], vocab_size=VOCABULARY)
        yield replicas
        replicas.close()


def drawn(engine: DrawingEngine, ask: Ask) -> list[int]:
    drawing = engine.start(ask)
    tokens: list[int] = []
    while len(tokens) < ask.max_tokens and (not tokens or tokens[-1] not in ask.ends):
        tokens.append(drawing.take().token)
    drawing.close()
    return tokens


SETTINGS = [
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=1.0),
    SamplingParams(temperature=0.7, top_p=0.9),
    SamplingParams(temperature=1.3, top_k=5),
    SamplingParams(temperature=1.0, top_k=20, top_p=0.8, min_p=0.02),
    SamplingParams(temperature=0.9, presence_penalty=1.1, frequency_penalty=0.4),
    SamplingParams(temperature=0.9, repetition_penalty=1.4, logit_bias=((7, 3.0), (9, -50.0))),
]


@pytest.mark.parametrize("params", SETTINGS, ids=repr)
def test_tokens_are_those_that_our_sampling_draws(engine: DrawingEngine, params: SamplingParams):
    ask = replace(ASK, params=params, max_tokens=25)
    assert drawn(engine, ask) == drawn(ModelEngine(table()), ask)


def test_another_seed_gives_another_answer_and_the_same_seed_the_same(engine: DrawingEngine):
    other = replace(ASK, seed=bytes(32))
    assert drawn(engine, ASK) != drawn(engine, other)
    assert drawn(engine, ASK) == drawn(engine, ASK)


def test_sequences_that_run_together_do_not_mix(engine: DrawingEngine):
    asks = [replace(ASK, prompt=(3, place), seed=bytes([place]) * 32) for place in range(8)]
    drawings = [engine.start(ask) for ask in asks]
    rows: list[list[int]] = [[] for _ in asks]
    for _ in range(ASK.max_tokens):
        for row, drawing in zip(rows, drawings, strict=True):
            row.append(drawing.take().token)
    for drawing in drawings:
        drawing.close()
    assert rows == [drawn(ModelEngine(table()), ask) for ask in asks]


def test_an_end_token_is_part_of_the_answer_and_nothing_follows(engine: DrawingEngine):
    whole = drawn(engine, ASK)
    ask = replace(ASK, ends=(whole[4],))
    assert drawn(engine, ask) == whole[: whole.index(whole[4]) + 1]
    drawing = engine.start(ask)
    for _ in range(whole.index(whole[4]) + 1):
        drawing.take()
    with pytest.raises(EngineLostError):
        drawing.take()


def test_log_probabilities_are_those_before_filters_or_refused(engine: DrawingEngine):
    ask = replace(ASK, params=SamplingParams(temperature=1.0, top_k=3), logprobs=True)
    if engine.describe().provenance.startswith("SGLang"):
        with pytest.raises(EngineRefusedError, match="log-probabilities"):
            engine.start(ask)
        return
    one, other = engine.start(ask), ModelEngine(table()).start(ask)
    for _ in range(6):
        mine, theirs = one.take(), other.take()
        assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-5)
    one.close()
    other.close()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda ask: replace(ask, prompt=()),
        lambda ask: replace(ask, max_tokens=0),
        lambda ask: replace(ask, max_tokens=CONTEXT),
    ],
    ids=["no prompt", "nothing to draw", "too long"],
)
def test_what_cannot_be_drawn_is_refused(engine: DrawingEngine, spoil: Callable[[Ask], Ask]):
    with pytest.raises(EngineRefusedError):
        engine.start(spoil(ASK))


def test_a_sequence_may_be_left_in_the_middle(engine: DrawingEngine):
    drawing = engine.start(ASK)
    drawing.take()
    drawing.close()
    drawing.close()
    assert len(drawn(engine, ASK)) == ASK.max_tokens


def test_it_says_what_it_is(engine: DrawingEngine):
    assert engine.context_length == CONTEXT
    assert engine.describe().name == "table"
