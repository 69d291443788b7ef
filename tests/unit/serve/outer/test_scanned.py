"""Answers looked at before they leave: what is found, what is told, what is withheld."""

from __future__ import annotations

import base64
import random
from collections.abc import AsyncIterator

import numpy as np
import pytest
import structlog

from tidegate.openai_api.errors import of_failure
from tidegate.sampling.finish import Limits
from tidegate.sampling.params import SamplingParams
from tidegate.serve.jobs import Delta, Event, Failed, Finished, Job
from tidegate.serve.outer.scanned import CODE, ScannedEngine
from tidegate.serve.telemetry import Metrics
from tidegate.units import Bits


def _job(principal: str = "alice") -> Job:
    return Job(
        request_id="r1",
        choice=0,
        principal=principal,
        prompt_ids=(1,),
        params=SamplingParams(),
        limits=Limits(max_tokens=8),
    )


class _Says:
    """An engine that says a text in small deltas, then ends."""

    def __init__(self, text: str, end: Event | None = None) -> None:
        self.text, self._end = text, end or Finished("stop", Bits(9), 3)
        self.closed = False

    def healthy(self) -> bool:
        return True

    async def stream(self, job: Job) -> AsyncIterator[Event]:
        try:
            for start in range(0, len(self.text), 40):
                yield Delta((1,), self.text[start : start + 40])
            yield self._end
        finally:
            self.closed = True


def _stolen(count: int) -> str:
    drawn = np.random.default_rng(5).standard_normal(count // 4) * 0.02
    raw = (drawn.astype(np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
    return base64.b64encode(raw).decode()


def _honest(words: int) -> str:
    drawn = random.Random(3)
    known = ["the", "gate", "keeps", "what", "users", "ask", "and", "answers", "are", "short"]
    return " ".join(drawn.choice(known) for _ in range(words))


async def _heard(engine: ScannedEngine, job: Job | None = None) -> list[Event]:
    return [event async for event in engine.stream(job or _job())]


def _incidents(metrics: Metrics) -> bool:
    return f'tidegate_incidents_total{{kind="{CODE}"}}' in metrics.render().decode()


@pytest.mark.parametrize("on_sight", ["alarm", "stop"])
async def test_honest_answers_leave_unchanged(on_sight: str) -> None:
    metrics, text = Metrics(), _honest(6_000)
    engine = ScannedEngine(_Says(text), on_sight, metrics)
    told = await _heard(engine)
    assert "".join(event.text for event in told if isinstance(event, Delta)) == text
    assert isinstance(told[-1], Finished)
    assert not _incidents(metrics)


async def test_weights_in_an_answer_are_withheld_from_where_they_are_seen() -> None:
    metrics, text = Metrics(), _stolen(60_000)
    says = _Says(text)
    with structlog.testing.capture_logs() as logs:
        told = await _heard(ScannedEngine(says, "stop", metrics))
    left = sum(len(event.text) for event in told if isinstance(event, Delta))
    assert left < 32_000
    assert told[-1] == Failed(CODE, told[-1].message)
    assert says.closed
    assert _incidents(metrics)
    assert logs[0]["principal"] == "alice"
    assert text[:100] not in str(logs)


async def test_an_alarm_alone_withholds_nothing() -> None:
    metrics, text = Metrics(), _stolen(60_000)
    told = await _heard(ScannedEngine(_Says(text), "alarm", metrics))
    assert "".join(event.text for event in told if isinstance(event, Delta)) == text
    assert _incidents(metrics)


async def test_a_payload_cut_over_many_answers_adds_up() -> None:
    text = _stolen(60_000)
    says = _Says("")
    engine = ScannedEngine(says, "stop", Metrics())
    for start in range(0, len(text), 1_000):
        says.text = text[start : start + 1_000]
        told = await _heard(engine)
        if isinstance(told[-1], Failed):
            break
    assert isinstance(told[-1], Failed)
    says.text = "hello"
    assert isinstance((await _heard(engine))[-1], Failed)
    assert isinstance((await _heard(engine))[-1], Finished)


async def test_a_users_finds_bar_nobody_else() -> None:
    says = _Says(_stolen(60_000))
    engine = ScannedEngine(says, "stop", Metrics())
    await _heard(engine)
    says.text = "hello"
    assert isinstance((await _heard(engine, _job("bob")))[-1], Finished)


async def test_a_failure_behind_stays_that_failure() -> None:
    failed = Failed("engine_error", "broken")
    told = await _heard(ScannedEngine(_Says("hello", failed), "stop", Metrics()))
    assert told[-1] == failed


def test_users_are_told_that_the_answer_was_withheld_and_not_why_in_detail() -> None:
    error = of_failure(CODE)
    assert (error.status, error.code) == (403, "answer_withheld")
