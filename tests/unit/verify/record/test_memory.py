"""Reading a record takes memory for the answers that run, not for those that are over."""

from __future__ import annotations

import tracemalloc

import pytest
from record_world import EXPECTED, KEY, RecordWorld, beginning

from tidegate.record.entries import End, Reason, Tokens
from tidegate.verify.record_reader import Reader
from tidegate.verify.record_response import Response
from tidegate.verify.record_store_memory import MemoryStore


def record_of(answers: int) -> MemoryStore:
    store = MemoryStore()
    world = RecordWorld(store=store, segment_bytes=60_000)
    writer = world.open()
    for n in range(answers):
        (number,) = world.put(beginning(f"r{n}"))
        tokens = [Tokens(number, start, start, (start,)) for start in range(40)]
        writer.append([*tokens, End(number, Reason.LENGTH, "", 40, 0)])
    return store


def peak_of(store: MemoryStore) -> int:
    tracemalloc.start()
    reader = Reader(store, KEY, expected=EXPECTED)
    assert all(isinstance(item, Response) for item in reader.read())
    assert list(reader.finish()) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def size_of(store: MemoryStore) -> int:
    return sum(map(len, store.data.values()))


def test_a_longer_record_takes_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.verify.record_lines.READ", 4_096)
    short, long = record_of(15), record_of(120)
    peak_of(short)  # what is imported and compiled on first use is not counted
    # What does grow is the list of segments: eight bytes for each, which are small here.
    assert peak_of(long) - peak_of(short) < 0.05 * (size_of(long) - size_of(short))
