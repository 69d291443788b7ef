from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

from tidegate.cli.record import RecordingEngine, read
from tidegate.sampling.finish import Limits
from tidegate.sampling.params import SamplingParams
from tidegate.sampling.seed import SeedService, commitment, prompt_digest
from tidegate.serve.jobs import Delta, Event, Failed, Finished, Job
from tidegate.units import Bits

SEEDS = SeedService(b"a key of sixteen bytes at least")


class Scripted:
    def __init__(self, *events: Event) -> None:
        self.events = events
        self.closed = False

    def healthy(self) -> bool:
        return True

    async def stream(self, job: Job) -> AsyncIterator[Event]:
        try:
            for event in self.events:
                yield event
        finally:
            self.closed = True


def job(name: str = "r-1") -> Job:
    return Job(
        request_id=name,
        choice=2,
        principal="alice",
        prompt_ids=(4, 5),
        params=SamplingParams(temperature=0.7),
        limits=Limits(max_tokens=9),
        user_seed=3,
    )


async def test_a_finished_answer_is_recorded_under_its_seeds_commitment(tmp_path: Path):
    end = Finished("stop", Bits(40), 3)
    inside = Scripted(Delta((1, 2), "ab"), Delta((3,), "c"), end)
    engine = RecordingEngine(inside, SEEDS, tmp_path / "new" / "answers.jsonl")
    assert engine.healthy()
    events = [event async for event in engine.stream(job())]
    assert events == list(inside.events)
    (answer,) = read(tmp_path / "new" / "answers.jsonl")
    seed = SEEDS.derive(
        request_id="r-1",
        prompt_hash=prompt_digest((4, 5)),
        params=SamplingParams(temperature=0.7),
        attempt=0,
        user_seed=3,
        choice=2,
    )
    assert answer.seed == commitment(seed).hex()
    assert (answer.request_id, answer.choice, answer.tokens, answer.bits) == (
        "r-1",
        2,
        (1, 2, 3),
        40,
    )


async def test_a_failed_answer_is_not_recorded(tmp_path: Path):
    inside = Scripted(Delta((1,), "a"), Failed("link_error", "broke"))
    engine = RecordingEngine(inside, SEEDS, tmp_path / "answers.jsonl")
    assert len([event async for event in engine.stream(job())]) == 2
    assert read(tmp_path / "answers.jsonl") == []


async def test_a_reader_who_leaves_ends_the_stream_at_once(tmp_path: Path):
    inside = Scripted(Delta((1,), "a"), Finished("stop", Bits(1), 1))
    engine = RecordingEngine(inside, SEEDS, tmp_path / "answers.jsonl")
    async with aclosing(engine.stream(job())) as events:  # type: ignore[type-var]
        await anext(events)
        assert not inside.closed
    assert inside.closed
