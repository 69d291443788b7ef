"""A worker's way back from a shard to the answers: it reads only the stretch where they lie.

The planner checked the record's chain, checkpoints and everything else that needs the whole of it.
Here an answer counts as read where the digest over all its entries is the planned one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tidegate.errors import RecordError
from tidegate.record.entries import Begin, End, Entry, Prefill, Stack, Tokens, parse
from tidegate.verify.fleet_plan import Shard
from tidegate.verify.record_lines import EntryLine, parse_line, pieces
from tidegate.verify.record_response import Building
from tidegate.verify.record_seal import Opener, Seeds
from tidegate.verify.record_store import Source
from tidegate.verify.replay_answer import Task
from tidegate.verify.replay_findings import Found
from tidegate.verify.replay_task import task_of

_NONE: Final = "0" * 64


def tasks_of(
    source: Source,
    shard: Shard,
    *,
    vocab_size: int,
    opener: Opener | None = None,
    seeds: Seeds | None = None,
) -> tuple[Task, ...]:
    """A shard's answers, ready to re-execute, in its order.

    Raises:
        RecordError: one of them is not there, is not what was planned, or does not open.
    """
    # The planner held the answers' stack against the model; no more of it is asked for here.
    stack = Stack(
        model=_NONE,
        tokenizer=_NONE,
        template="",
        weak="",
        vocabulary=vocab_size,
        engine="planned",
        numerics="planned",
    )
    wanted = {answer.number: answer.digest for answer in shard.answers}
    building: dict[int, Building] = {}
    tasks: dict[int, Task] = {}
    for entry, raw in _entries(source, shard):
        does = entry.does
        if isinstance(does, Begin) and entry.n in wanted:
            building[entry.n] = Building.of(entry.n, entry.time, stack, does, raw)
        elif isinstance(does, Prefill | Tokens) and does.response in building:
            building[does.response].add(does, entry.time, raw)
        elif isinstance(does, End) and does.response in building:
            response = building.pop(does.response).finish(entry.n, entry.time, does, raw)
            number = response.number
            if response.digest.hex() != wanted[number]:
                raise RecordError("An answer is not what was planned.", answer=number)
            task = task_of(response, vocab_size=vocab_size, opener=opener, seeds=seeds)
            if isinstance(task, Found):
                raise RecordError(f"An answer cannot be opened here: {task.reason}", answer=number)
            tasks[number] = task
            if len(tasks) == len(wanted):
                return tuple(tasks[answer.number] for answer in shard.answers)
    missing = next(number for number in wanted if number not in tasks)
    raise RecordError("An answer is not where it was when it was planned.", answer=missing)


def _entries(source: Source, shard: Shard) -> Iterator[tuple[Entry, bytes]]:
    """What can be read from where the shard begins to its last entry."""
    for segment in source.segments():
        if segment < shard.segment:
            continue
        offset = shard.offset if segment == shard.segment else 0
        for piece in pieces(source, segment, offset):
            try:
                line = parse_line(piece.data)
                if not isinstance(line, EntryLine):
                    continue
                entry = parse(line.raw)
            except RecordError:
                continue  # the planner's finding; if it is one of ours, it will be missed
            if entry.n > shard.last:
                return
            yield entry, line.raw
