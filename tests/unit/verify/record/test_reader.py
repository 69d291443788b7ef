"""A reader hands out what was written, says what is wrong by name, and passes nothing damaged."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_world import (
    EXPECTED,
    KEY,
    STACK,
    RecordWorld,
    beginning,
    entry_places,
    kinds,
    lines_of,
    notes_of,
    read_all,
    with_lines,
)

from tidegate.errors import RecordError
from tidegate.ledger.entries import next_head
from tidegate.record.entries import Does, End, Entry, Gap, Open, Prefill, Reason, Tokens, encode
from tidegate.verify.record_findings import KEPT, Finding, Findings, Kind
from tidegate.verify.record_lines import Mark, entry_line, mark_line, parse_line
from tidegate.verify.record_reader import Reader
from tidegate.verify.record_response import Chunk, Response
from tidegate.verify.record_store_memory import MemoryStore
from tidegate.verify.record_writer import Abandon


@pytest.fixture
def world() -> RecordWorld:
    """Three answers, about twenty entries."""
    world = RecordWorld()
    world.open()
    world.answer("r1", range(1, 8))
    world.answer("r2", range(10, 15))
    world.answer("r3", range(20, 26))
    return world


def store_of(world: RecordWorld) -> MemoryStore:
    assert isinstance(world.store, MemoryStore)
    return world.store


def test_what_was_written_is_read_back_token_for_token(world: RecordWorld) -> None:
    responses, summary = read_all(world.store)
    assert [response.tokens for response in responses] == [
        tuple(range(1, 8)),
        tuple(range(10, 15)),
        tuple(range(20, 26)),
    ]
    assert summary.sound
    assert (summary.responses, summary.tokens) == (3, 18)
    assert summary.signed == summary.entries
    first = responses[0]
    assert (first.begin, first.stack) == (beginning("r1"), STACK)
    assert first.prefill == Prefill(first.number, "0" * 32, 1, 7, 0, 0, ())
    assert [chunk.start for chunk in first.chunks] == [0, 2, 4, 6]
    assert first.chunks[1] == Chunk(2, first.began + 40, 9)
    assert first.end.reason is Reason.STOP


def test_answers_that_ran_at_once_are_told_apart() -> None:
    world = RecordWorld()
    one, two = world.put(beginning("a"), beginning("b"))
    world.put(Tokens(one, 0, None, (1,)), Tokens(two, 0, None, (2, 3)), Tokens(one, 1, None, (4,)))
    world.put(End(two, Reason.LENGTH, "", 2, 9), End(one, Reason.FAILED, "link_error", 2, 0))
    responses, summary = read_all(world.store)
    assert summary.sound
    assert {response.number: response.tokens for response in responses} == {
        one: (1, 4),
        two: (2, 3),
    }
    assert len({response.digest for response in responses}) == 2


def test_segments_are_read_as_one_record(world: RecordWorld) -> None:
    small = RecordWorld(segment_bytes=600)
    small.open()
    for request in ("r1", "r2", "r3"):
        small.answer(request, range(1, 9))
    assert len(small.store.segments()) > 3
    responses, summary = read_all(small.store)
    assert summary.sound
    assert [response.tokens for response in responses] == 3 * [tuple(range(1, 9))]


def test_a_growing_record_is_followed_without_a_false_alarm() -> None:
    world = RecordWorld(segment_bytes=900)
    world.open()
    store = store_of(world)
    reader = Reader(store, KEY, expected=EXPECTED)
    seen: list[Response] = []
    for request in ("r1", "r2", "r3", "r4"):
        world.answer(request, range(1, 6))
        last = store.segments()[-1]
        held = bytes(store.data[last])
        for length in (len(held) - 40, len(held)):
            store.data[last][:] = held[:length]
            for item in reader.read():
                assert isinstance(item, Response)
                seen.append(item)
    assert list(reader.finish()) == []
    assert len(seen) == 4
    assert reader.summary().sound


def test_a_flipped_bit_in_any_line_is_found(world: RecordWorld) -> None:
    lines = lines_of(store_of(world))
    for place, line in enumerate(lines):
        middle = len(line) // 2
        broken = line[:middle] + bytes([line[middle] ^ 1]) + line[middle + 1 :]
        found = kinds(with_lines([*lines[:place], broken, *lines[place + 1 :]]))
        named = {
            Kind.CORRUPT,
            Kind.FORGED_CHECKPOINT,
            Kind.ALTERED,
            Kind.REORDERED,
            Kind.DUPLICATED,
        }
        assert found & named, place


def test_an_altered_token_with_a_fitting_chain_is_found_by_the_checkpoint(
    world: RecordWorld,
) -> None:
    """Whoever can write the disk can chain anew; he cannot sign."""
    lines = lines_of(store_of(world))
    place = next(p for p in entry_places(lines) if b'"tokens","response"' in lines[p])
    forged = RecordWorld()
    forged.open()
    forged.answer("r1", [9, *range(2, 8)])
    altered = lines_of(store_of(forged))
    assert altered[place][:2] == b"E "
    kept_notes = [
        new if new.startswith(b"E") else old for new, old in zip(altered, lines, strict=False)
    ]
    assert Kind.ALTERED in kinds(with_lines(kept_notes))


def test_every_missing_entry_is_found(world: RecordWorld) -> None:
    lines = lines_of(store_of(world))
    places = entry_places(lines)
    for place in places[:-1]:
        assert Kind.MISSING in kinds(with_lines(lines[:place] + lines[place + 1 :])), place


def test_every_repeated_entry_is_found(world: RecordWorld) -> None:
    lines = lines_of(store_of(world))
    for place in entry_places(lines):
        assert Kind.DUPLICATED in kinds(with_lines([*lines[:place], lines[place], *lines[place:]]))


def test_every_swap_of_neighbours_is_found_as_such(world: RecordWorld) -> None:
    lines = lines_of(store_of(world))
    for place in entry_places(lines):
        if not lines[place + 1].startswith(b"E"):
            continue
        swapped = [*lines[:place], lines[place + 1], lines[place], *lines[place + 2 :]]
        found = kinds(with_lines(swapped))
        assert Kind.REORDERED in found, place
        assert Kind.DUPLICATED not in found, place


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_cut_within_a_line_passes(data: st.DataObject) -> None:
    world = RecordWorld()
    world.open()
    world.answer("r1", range(1, 8))
    whole = b"".join(lines_of(store_of(world)))
    length = data.draw(st.integers(1, len(whole) - 1))
    store = with_lines([whole[:length]])
    found = kinds(store)
    if whole[length - 1 : length] != b"\n":
        assert Kind.TRUNCATED in found
    else:
        kept = [KEY.open(notes_of(store_of(world))[-1])]
        assert kinds(store, kept) & {Kind.ROLLBACK}


def test_a_missing_segment_is_found() -> None:
    world = RecordWorld(segment_bytes=600)
    world.open()
    for request in ("r1", "r2", "r3"):
        world.answer(request, range(1, 9))
    store = store_of(world)
    for segment in store.segments()[:-1]:
        holed = MemoryStore()
        holed.data = {name: data for name, data in store.data.items() if name != segment}
        responses, summary = read_all(holed)
        assert Kind.MISSING in summary.counts
        assert all(response.tokens == tuple(range(1, 9)) for response in responses)


def test_a_mark_that_lies_is_found() -> None:
    world = RecordWorld(segment_bytes=600)
    world.open()
    for request in ("r1", "r2"):
        world.answer(request, range(1, 9))
    store = store_of(world)
    second = store.segments()[1]
    mark = parse_line(lines_of(store, second)[0].rstrip(b"\n"))
    assert isinstance(mark, Mark)
    liar = mark_line(msgspec.structs.replace(mark, time=mark.time + 1))
    store.data[second][:] = liar + b"".join(lines_of(store, second)[1:])
    assert Kind.CORRUPT in kinds(store)


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ("models", Kind.UNKNOWN_MODEL),
        ("tokenizers", Kind.WRONG_TOKENIZER),
        ("templates", Kind.WRONG_TEMPLATE),
        ("loras", Kind.UNKNOWN_LORA),
    ],
)
def test_what_answers_must_be_expected(world: RecordWorld, field: str, kind: Kind) -> None:
    other = replace(EXPECTED, **{field: frozenset({"d" * 64})})
    responses, summary = read_all(world.store, expected=other)
    assert kind in summary.counts
    assert responses == []


def test_a_token_outside_the_vocabulary_names_the_tokenizer() -> None:
    world = RecordWorld()
    world.answer("r1", [1, STACK.vocabulary])
    responses, summary = read_all(world.store)
    assert set(summary.counts) == {Kind.WRONG_TOKENIZER}
    assert responses == []


def test_one_seed_for_two_answers_is_a_contradiction() -> None:
    world = RecordWorld()
    world.answer("r1", [1])
    twin = msgspec.structs.replace(beginning("r1"), request="r2")
    (number,) = world.put(twin)
    world.put(End(number, Reason.STOP, "", 0, 0))
    assert Kind.CONTRADICTORY_SEEDS in kinds(world.store)


def test_an_answer_recorded_twice_is_found() -> None:
    world = RecordWorld()
    world.answer("r1", [1])
    other = msgspec.structs.replace(beginning("r1"), seed="e" * 64)
    (number,) = world.put(other)
    world.put(End(number, Reason.STOP, "", 0, 0))
    assert kinds(world.store) == {Kind.DUPLICATED}


def test_an_answer_that_has_not_ended_is_not_handed_out() -> None:
    world = RecordWorld()
    (number,) = world.put(beginning("r1"))
    world.put(Tokens(number, 0, None, (1, 2)))
    assert world.writer is not None
    world.writer.sign()
    responses, summary = read_all(world.store)
    assert responses == []
    assert set(summary.counts) == {Kind.UNFINISHED}
    assert not summary.conclusive


def test_entries_under_no_checkpoint_are_said_to_be() -> None:
    world = RecordWorld()
    world.put(beginning("r1"))
    assert Kind.UNSIGNED in kinds(world.store)


def test_what_the_writer_lost_is_never_a_pass() -> None:
    world = RecordWorld()
    world.open(more=[Gap(2, 70)])
    _, summary = read_all(world.store)
    assert set(summary.counts) == {Kind.UNRECORDED}
    assert not summary.sound


@pytest.mark.parametrize(
    ("does", "kind"),
    [
        (Tokens(1, 2, None, (5,)), Kind.MISSING),
        (Tokens(1, 0, None, (5,)), Kind.DUPLICATED),
        (Tokens(1, 1, None, (5,) * 64), Kind.OVERSIZED),
        (Tokens(0, 0, None, (5,)), Kind.REORDERED),
        (Tokens(99, 0, None, (5,)), Kind.MISSING),
        (End(1, Reason.STOP, "", 2, 0), Kind.MISSING),
        (End(1, Reason.STOP, "", 0, 0), Kind.DUPLICATED),
        (Prefill(1, "0" * 32, 0, 0, 0, 0, ()), Kind.DUPLICATED),
    ],
)
def test_an_entry_that_no_writer_would_write_is_named(does: Does, kind: Kind) -> None:
    """The writer refuses it; here somebody with the disk and the key wrote it all the same."""
    world = RecordWorld()
    world.put(beginning("r1"))
    world.put(Tokens(1, 0, None, (4,)))
    writer = world.writer
    assert writer is not None
    (refused,) = writer.append([does])
    assert isinstance(refused, RecordError)
    fold = writer._fold
    raw = encode(Entry(fold.size, fold.time, does))
    fold.link(raw, next_head(fold.head, raw))
    store_of(world).data[0] += entry_line(fold.head, raw)
    writer._offset = len(store_of(world).data[0])
    writer.sign()
    assert kind in kinds(world.store)
    assert read_all(world.store)[0] == []


def test_before_anybody_said_what_answers_nothing_begins() -> None:
    world = RecordWorld()
    writer = world.open()
    writer._fold.stack = None
    (refused,) = writer.append([beginning("r1")])
    assert not isinstance(refused, int)
    assert world.put(Open(STACK))


def test_an_abandoned_answer_ends_after_what_is_recorded() -> None:
    world = RecordWorld()
    (number,) = world.put(beginning("r1"))
    world.put(Tokens(number, 0, None, (1, 2)))
    assert world.writer is not None
    world.writer.append([Abandon(number, Reason.CANCELLED)])
    (response,), summary = read_all(world.store)
    assert response.end == End(number, Reason.CANCELLED, "", 2, 0)
    assert summary.sound


def test_a_hostile_record_cannot_make_findings_pile_up() -> None:
    findings = Findings()
    for n in range(KEPT + 5):
        findings.add(Finding(kind=Kind.CORRUPT, reason="x", entry=n))
    assert len(findings.kept) == KEPT
    assert findings.counts[Kind.CORRUPT] == KEPT + 5


def test_the_summary_is_plain_json_with_names_for_what_is_wrong() -> None:
    world = RecordWorld()
    world.put(beginning("r1"))
    _, summary = read_all(world.store)
    told = json.loads(summary.json(), parse_constant=pytest.fail)
    assert told["counts"] == {"unsigned": 1, "unfinished": 1}
    assert {finding["kind"] for finding in told["findings"]} == {"unsigned", "unfinished"}
