"""An engine that draws itself gives the streams that the strong model's own logits would give."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from link_world import VOCABULARY, Answer, TableModel, World, job, same

from tidegate.models.engine_model import ModelEngine
from tidegate.models.engine_port import Ask, Drawing, Drawn, EngineLostError
from tidegate.models.port import ModelInfo
from tidegate.sampling.finish import Limits
from tidegate.sampling.params import SamplingParams
from tidegate.serve.inner.draw_engine import EngineDrawer
from tidegate.serve.inner.reasoning import Thinking
from tidegate.serve.jobs import Failed, Job
from tidegate.serve.lockstep import Symbol, Voice

THINKING = Thinking(start=(90,), end=(91,), max_tokens=12)


class Breaking:
    """An engine whose sequences are lost where `plan` says; what it was asked is remembered."""

    def __init__(self, *plan: int, salt: int = 0) -> None:
        """The n-th sequence is lost after plan[n] tokens; those beyond the plan are not.

        With `salt`, sequences after the first come from another model.
        """
        self.engine = ModelEngine(TableModel())
        self.other = ModelEngine(TableModel(blur=float(salt)))
        self.plan = list(plan)
        self.asks: list[Ask] = []
        self.closed = 0
        self.context_length = self.engine.context_length

    def describe(self) -> ModelInfo:
        return self.engine.describe()

    def start(self, ask: Ask) -> Drawing:
        self.asks.append(ask)
        engine = self.other if len(self.asks) > 1 else self.engine
        return _Lossy(self, engine.start(ask), self.plan.pop(0) if self.plan else None)

    def close(self) -> None:
        """Nothing to end."""


class _Lossy:
    def __init__(self, owner: Breaking, drawing: Drawing, left: int | None) -> None:
        self.owner, self.drawing, self.left = owner, drawing, left

    def take(self) -> Drawn:
        if self.left is not None:
            if self.left == 0:
                raise EngineLostError("gone")
            self.left -= 1
        return self.drawing.take()

    def close(self) -> None:
        self.owner.closed += 1
        self.drawing.close()


async def _answer(engine: object, one: Job, **world: object) -> Answer:
    drawer = EngineDrawer(engine, VOCABULARY)  # type: ignore[arg-type]
    async with World(drawer=drawer, **world) as inside:  # type: ignore[arg-type]
        return await inside.answer(one)


async def _said(world: World, one: Job) -> tuple[Answer, list[object]]:
    """The answer, and what was said of it step by step."""
    generator = world.inner._generator
    symbols: list[object] = []
    step = generator.step

    def listening(voices: Sequence[Voice]) -> tuple[Symbol, ...]:
        said = step(voices)
        symbols.extend(said)
        return said

    generator.step = listening  # type: ignore[method-assign]
    answer = await world.answer(one)
    generator.step = step  # type: ignore[method-assign]
    return answer, symbols


def _jobs() -> Iterator[Job]:
    yield job(1)
    yield job(0, max_tokens=9)
    yield job(2, limits=Limits(max_tokens=30, ignore_eos=True))
    yield job(3, candidates=3, max_tokens=10)
    yield job(4, reasoning=True, max_tokens=10)
    yield job(5, reasoning=True, candidates=2, max_tokens=6)
    yield job(6, params=SamplingParams(temperature=0.9, top_p=0.8, frequency_penalty=0.7))
    yield job(7, params=SamplingParams(temperature=0.9, top_k=4, repetition_penalty=1.3))


@pytest.mark.parametrize("eos_logit", [0.0, 4.0])
async def test_every_kind_of_stream_is_said_as_from_logits(eos_logit: float):
    strong = TableModel(eos_logit=eos_logit)
    engine = ModelEngine(TableModel(eos_logit=eos_logit))
    drawer = EngineDrawer(engine, VOCABULARY)
    async with (
        World(strong=strong, thinking=THINKING) as plain,
        World(strong=strong, thinking=THINKING, drawer=drawer) as drawn,
    ):
        for one in _jobs():
            theirs, their_symbols = await _said(plain, one)
            ours, our_symbols = await _said(drawn, one)
            assert same(ours, theirs)
            # Waits too come at the same steps, since each is a symbol that crosses.
            assert our_symbols == their_symbols


async def test_many_streams_share_the_engine_and_do_not_mix():
    jobs = [job(number, max_tokens=4 + number) for number in range(24)]
    drawer = EngineDrawer(ModelEngine(TableModel()), VOCABULARY)
    async with World(drawer=drawer) as world:
        answers = await asyncio.gather(*(world.answer(one) for one in jobs))
        assert all(same(a, world.expected(one)) for one, a in zip(jobs, answers, strict=True))


async def test_a_lost_sequence_is_drawn_again_and_nobody_outside_sees_it():
    engine = Breaking(5)
    answer = await _answer(engine, job(1))
    async with World() as world:
        assert same(answer, world.expected(job(1)))
    assert len(engine.asks) == 2
    assert engine.asks[0] == engine.asks[1]


async def test_what_was_said_is_not_unsaid_by_a_replica_that_draws_otherwise():
    answer = await _answer(Breaking(5, salt=9), job(1))
    assert isinstance(answer.end, Failed)
    async with World() as world:
        assert answer.tokens == world.expected(job(1)).tokens[: len(answer.tokens)]


async def test_a_stream_that_is_lost_twice_fails_alone():
    engine = Breaking(3, 3)
    drawer = EngineDrawer(engine, VOCABULARY)
    async with World(drawer=drawer) as world:
        lost = await world.answer(job(1))
        after = await world.answer(job(4))
        assert isinstance(lost.end, Failed)
        assert same(after, world.expected(job(4)))


async def test_a_token_outside_the_vocabulary_fails_its_stream():
    engine = ModelEngine(TableModel())
    async with World(drawer=EngineDrawer(engine, 3)) as world:
        assert isinstance((await world.answer(job(1))).end, Failed)


async def test_penalties_that_count_reasoning_as_output_are_refused_by_name(
    capsys: pytest.CaptureFixture[str],
):
    one = job(4, reasoning=True, params=SamplingParams(temperature=0.9, presence_penalty=1.0))
    answer = await _answer(ModelEngine(TableModel()), one, thinking=THINKING)
    assert isinstance(answer.end, Failed)
    assert "engine_refused" in capsys.readouterr().out


async def test_a_stream_that_ends_lets_its_sequence_go():
    engine = Breaking()
    await _answer(engine, replace(job(1), limits=Limits(max_tokens=5)))
    assert engine.closed == 1
