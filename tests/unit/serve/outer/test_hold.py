"""Gate mode: nothing leaves before its verifier passed it, whatever becomes of him."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tidegate.cli.verify_gate import Gate, listening
from tidegate.errors import ConfigError
from tidegate.sampling.finish import Limits
from tidegate.sampling.params import SamplingParams
from tidegate.serve.jobs import Delta, Event, Failed, Finished, Job
from tidegate.serve.outer.hold import CODE, HeldEngine, Question, SocketExaminer, Verdict
from tidegate.units import Bits, Seconds
from tidegate.verify.replay_run import Name, Word

JOB = Job(
    request_id="r1",
    choice=2,
    principal="alice",
    prompt_ids=(1,),
    params=SamplingParams(),
    limits=Limits(max_tokens=8),
)
SAID: list[Event] = [Delta((1, 2), "ab"), Delta((3,), "c"), Finished("stop", Bits(9), 3)]


class Script:
    """An engine that says a script, and whether its stream was closed."""

    def __init__(self, events: list[Event]) -> None:
        self._events = events
        self.closed = False

    def healthy(self) -> bool:
        return True

    async def stream(self, job: Job) -> AsyncIterator[Event]:
        try:
            for event in self._events:
                yield event
        finally:
            self.closed = True


class Says:
    """An examiner with one verdict, given when he is let."""

    def __init__(self, *, passed: bool, let: asyncio.Event | None = None) -> None:
        self._verdict = Verdict(passed, "so it is")
        self._let = let
        self.asked: list[Question] = []

    async def examine(self, question: Question) -> Verdict:
        self.asked.append(question)
        if self._let is not None:
            await self._let.wait()
        return self._verdict


async def heard(engine: HeldEngine) -> list[Event]:
    return [event async for event in engine.stream(JOB)]


async def test_an_answer_that_passes_leaves_whole_and_unchanged():
    examiner = Says(passed=True)
    assert await heard(HeldEngine(Script(SAID), examiner)) == SAID
    assert examiner.asked == [Question("r1", 2)]


async def test_nothing_leaves_before_the_verdict():
    let = asyncio.Event()
    engine = HeldEngine(Script(SAID), Says(passed=True, let=let))
    told: list[Event] = []

    async def listen() -> None:
        async for event in engine.stream(JOB):
            told.append(event)  # noqa: PERF401  what came before the verdict is the point

    listening_task = asyncio.create_task(listen())
    for _ in range(20):
        await asyncio.sleep(0)
    assert told == []
    let.set()
    await listening_task
    assert told == SAID


async def test_an_answer_that_is_refused_leaves_nothing_of_itself():
    (only,) = await heard(HeldEngine(Script(SAID), Says(passed=False)))
    assert isinstance(only, Failed)
    assert only.code == CODE
    assert "so it is" not in only.message


async def test_an_answer_that_breaks_leaves_only_that_it_broke():
    examiner = Says(passed=True)
    failed = Failed("engine_error", "broken")
    assert await heard(HeldEngine(Script([*SAID[:2], failed]), examiner)) == [failed]
    assert examiner.asked == []


async def test_a_reader_who_leaves_closes_the_stream_behind():
    script = Script(SAID)
    stream = HeldEngine(script, Says(passed=True)).stream(JOB)
    async for _ in stream:
        break
    await stream.aclose()  # type: ignore[attr-defined]
    assert script.closed


async def ask(path: Path, request: str = "r1", patience: float = 30.0) -> Verdict:
    return await SocketExaminer(str(path), Seconds(patience)).examine(Question(request, 2))


async def test_a_verifier_who_is_not_there_or_too_slow_is_a_refusal(tmp_path: Path):
    path = tmp_path / "gate.sock"
    assert not (await ask(path)).passed
    with listening(path):
        late = await ask(path, patience=0.05)
        assert (late.passed, late.reason) == (False, "the verifier did not answer in time")
    assert not path.exists()


async def test_a_verdict_travels_over_the_socket(tmp_path: Path):
    path = tmp_path / "gate.sock"
    with listening(path) as gate:
        gate.tell(Name("r1", 2), Word(True))
        gate.tell(Name("r2", 2), Word(False, "other_token"))
        assert (await ask(path)).passed
        refused = await ask(path, "r2")
        assert (refused.passed, refused.reason) == (False, "other_token")
        waiting = asyncio.create_task(ask(path, "r3"))
        await asyncio.sleep(0.02)
        gate.tell(Name("r3", 2), Word(True))
        assert (await waiting).passed


async def test_whoever_waits_when_the_verifier_stops_is_refused(tmp_path: Path):
    path = tmp_path / "gate.sock"
    with listening(path):
        waiting = asyncio.create_task(ask(path))
        await asyncio.sleep(0.05)
    assert not (await waiting).passed


def test_the_first_word_on_an_answer_stands():
    gate = Gate()
    gate.tell(Name("r1", 0), Word(False, "other_token"))
    gate.tell(Name("r1", 0), Word(True))
    assert not gate.wait(Name("r1", 0)).passed


async def test_what_is_no_question_gets_a_refusal(tmp_path: Path):
    path = tmp_path / "gate.sock"
    with listening(path):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b'{"request": 7}\n')
        assert b'"passed":false' in await reader.readline()
        writer.close()


def test_a_gate_replaces_the_socket_of_a_killed_one_but_no_file(tmp_path: Path):
    path = tmp_path / "gate.sock"
    with listening(path):
        path.rename(tmp_path / "left")
        (tmp_path / "left").rename(path)
    path.write_text("mine")
    with pytest.raises(ConfigError), listening(path):
        pass
    assert path.read_text() == "mine"
