"""Each write is broken in each way; afterwards the record holds all that left, and verifies."""

from __future__ import annotations

import asyncio

import pytest
from record_world import EXPECTED, KEY, SIGNER, STACK, RecordWorld, beginning, read_all

from tidegate.clock import ManualClock
from tidegate.errors import RecordError
from tidegate.record.entries import Does, End, Reason, Tokens
from tidegate.verify.record_commit import REOPEN_AFTER, GroupCommit, OnFailure
from tidegate.verify.record_findings import Finding, Kind
from tidegate.verify.record_reader import Reader
from tidegate.verify.record_response import Response
from tidegate.verify.record_store_memory import Fault, MemoryStore
from tidegate.verify.record_writer import Writer

REQUESTS = ("r1", "r2", "r3")
SEGMENT = 1_500
"""Small, so that the broken writes include the first ones of segments."""


class Line:
    """An outer half that sends what is recorded, and stops at the first error."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.sent: dict[str, list[int]] = {}

    def run(self) -> bool:
        world = RecordWorld(store=self._store, segment_bytes=SEGMENT)
        try:
            world.open()
            for request in REQUESTS:
                name = f"{request}-{self._store.writes}"
                (number,) = world.put(beginning(name))
                for start in range(3):
                    world.put(Tokens(number, start, None, (start + 1,)))
                    self.sent.setdefault(name, []).append(start + 1)
                world.put(End(number, Reason.STOP, "", 3, 0))
        except RecordError:
            return False
        return True


def writes() -> int:
    store = MemoryStore()
    assert Line(store).run()
    return store.writes


WRITES = writes()


def check(store: MemoryStore, sent: dict[str, list[int]]) -> None:
    """What was sent is recorded, token for token, with at most one chunk more."""
    responses, summary = read_all(store)
    assert summary.sound, summary.findings
    recorded = {response.begin.request: response for response in responses}
    for name, tokens in sent.items():
        held = recorded[name].tokens
        assert list(held[: len(tokens)]) == tokens
        assert len(held) <= len(tokens) + 1
        whole = recorded[name].end.reason is Reason.STOP
        assert whole or recorded[name].end.reason is Reason.CUT


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("broken", range(WRITES))
def test_after_a_broken_write_a_restart_holds_all_that_was_sent(broken: int, fault: Fault) -> None:
    store = MemoryStore(lambda n: fault if n == broken else None)
    line = Line(store)
    assert not line.run()
    assert line.run()
    check(store, line.sent)


@pytest.mark.parametrize("second", Fault)
@pytest.mark.parametrize("first", Fault)
@pytest.mark.parametrize("broken", range(0, WRITES, 3))
def test_a_recovery_that_breaks_too_is_recovered_from(
    broken: int, first: Fault, second: Fault
) -> None:
    """The write after the broken one is the recovery's own: a cut, or the opening entry."""
    store = MemoryStore(lambda n: {broken: first, broken + 1: second}.get(n))
    line = Line(store)
    for _ in range(4):
        if line.run():
            break
    check(store, line.sent)


def test_a_broken_writer_writes_no_more() -> None:
    store = MemoryStore(lambda n: Fault.NOT_PERSISTED if n == 2 else None)
    world = RecordWorld(store=store)
    writer = world.open()
    with pytest.raises(RecordError):
        world.put(beginning("r1"))
    with pytest.raises(RecordError, match="open another"):
        writer.append([beginning("r2")])


def test_a_whole_line_that_no_writer_leaves_stops_the_half() -> None:
    """Only what was never finished is dropped; damage is for somebody to look at."""
    world = RecordWorld()
    world.answer("r1", [1, 2, 3])
    assert isinstance(world.store, MemoryStore)
    held = world.store.data[0]
    held[-300] ^= 1
    with pytest.raises(RecordError, match="what no writer leaves"):
        world.open()


def test_segments_that_lost_their_beginning_are_not_begun_anew() -> None:
    store = MemoryStore()
    store.data = {0: bytearray(), 40: bytearray(b"M {")}
    with pytest.raises(RecordError):
        RecordWorld(store=store).open()


class Half:
    """The record as the outer half holds it, over a store that may break."""

    def __init__(self, store: MemoryStore, on_failure: OnFailure = "stop") -> None:
        self.clock = ManualClock()
        self.store = store
        self.incidents: list[str] = []
        self.commit = GroupCommit(
            self._open, self.clock, on_failure=on_failure, incident=self.incidents.append
        )

    def _open(self, more: object) -> Writer:
        assert isinstance(more, tuple | list)
        kept: list[Does] = list(more)
        return Writer(self.store, SIGNER, self.clock, STACK, more=kept, segment_bytes=1 << 20)


async def test_when_a_write_fails_every_answer_in_the_record_ends_there() -> None:
    broken = False
    store = MemoryStore(lambda _: Fault.PERSISTED if broken else None)
    half = Half(store)
    async with half.commit as log:
        one, two = await log.begin(beginning("a")), await log.begin(beginning("b"))
        await log.say(one, [Tokens(one or 0, 0, None, (1,))])
        broken = True
        with pytest.raises(RecordError):
            await log.say(one, [Tokens(one or 0, 1, None, (2,))])
        assert half.incidents == ["record_failed"]
        broken = False
        with pytest.raises(RecordError):
            await log.say(two, [Tokens(two or 0, 0, None, (3,))])
        with pytest.raises(RecordError):
            await log.begin(beginning("too soon"))
        half.clock.advance(2 * REOPEN_AFTER)
        three = await log.begin(beginning("c"))
        await log.say(three, [End(three or 0, Reason.STOP, "", 0, 0)])
    responses, summary = read_all(store)
    assert summary.sound
    ended = {response.begin.request: response for response in responses}
    assert ended["a"].tokens == (1, 2), "stored, though nobody could tell; it did not leave"
    assert (ended["a"].end.reason, ended["b"].end.reason) == (Reason.CUT, Reason.CUT)
    assert ended["c"].end.reason is Reason.STOP


async def test_told_to_go_on_it_serves_and_says_later_how_much_was_lost() -> None:
    broken = False
    store = MemoryStore(lambda _: Fault.NOT_PERSISTED if broken else None)
    half = Half(store, on_failure="go_on")
    async with half.commit as log:
        one = await log.begin(beginning("a"))
        broken = True
        await log.say(one, [Tokens(one or 0, 0, None, (1, 2, 3))])
        assert await log.begin(beginning("b")) is None
        await log.say(None, [Tokens(0, 0, None, (4, 5)), End(0, Reason.STOP, "", 2, 0)])
        broken = False
        half.clock.advance(2 * REOPEN_AFTER)
        two = await log.begin(beginning("c"))
        await log.say(two, [End(two or 0, Reason.STOP, "", 0, 0)])
    responses, summary = read_all(store)
    assert set(summary.counts) == {Kind.UNRECORDED}
    (finding,) = summary.findings
    assert finding.reason == "5 tokens left unrecorded, and 1 whole answers."
    assert [response.begin.request for response in responses] == ["a", "c"]


async def test_a_record_that_cannot_be_opened_keeps_the_half_from_starting() -> None:
    store = MemoryStore(lambda _: Fault.NOT_PERSISTED)
    with pytest.raises(RecordError):
        await Half(store, on_failure="go_on").commit.__aenter__()


async def test_answers_that_write_at_once_share_writes() -> None:
    store = MemoryStore()
    half = Half(store)
    async with half.commit as log:
        numbers = await asyncio.gather(*(log.begin(beginning(f"r{n}")) for n in range(20)))
        before = store.writes
        for start in range(5):
            await asyncio.gather(
                *(log.say(n, [Tokens(n or 0, start, None, (start,))]) for n in numbers)
            )
        assert store.writes - before <= 10
        for n in numbers:
            log.leave(n, Reason.CANCELLED)
    responses, summary = read_all(store)
    assert summary.sound
    assert {response.tokens for response in responses} == {(0, 1, 2, 3, 4)}
    assert {response.end.reason for response in responses} == {Reason.CANCELLED}


async def test_a_client_that_leaves_while_its_answer_is_begun_leaves_nothing_open() -> None:
    store = MemoryStore()
    async with Half(store).commit as log:
        task = asyncio.create_task(log.begin(beginning("a")))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    (response,), summary = read_all(store)
    assert summary.sound
    assert response.end.reason is Reason.CANCELLED


async def test_entries_are_signed_after_a_while_though_nothing_ends() -> None:
    store = MemoryStore()
    half = Half(store)
    half.commit._sign_after = 0.0  # type: ignore[assignment]
    async with half.commit as log:
        await log.begin(beginning("a"))
        reader = Reader(store, KEY, expected=EXPECTED)
        for _ in range(200):
            await asyncio.sleep(0.005)
            found: list[Response | Finding] = list(reader.read())
            assert found == []
            if reader.summary().signed == 2:
                break
        assert reader.summary().signed == 2
