"""Cuts a record into shards, by the very code that verifies one: `Run` reads, selects and opens.

What stands where the workers would notes each answer and hands back an empty result, so that what
is planned is exactly what a verification of the same record would re-execute, in that order.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tidegate.errors import RecordError
from tidegate.record.entries import parse
from tidegate.verify.fleet_plan import VERSION, Answer, Plan, Shard, Ticket
from tidegate.verify.record_findings import Finding
from tidegate.verify.record_lines import EntryLine, parse_line
from tidegate.verify.record_reader import Reader
from tidegate.verify.record_response import Response
from tidegate.verify.record_store import Source
from tidegate.verify.replay_answer import Checked, Task
from tidegate.verify.replay_model import Spec
from tidegate.verify.replay_results import Subject

SHARD_TOKENS: Final = 16_384
"""Tokens of prompts and answers in a shard, or a few more: what a lost worker loses at most."""

MAX_ANSWERS: Final = 256
"""Answers in a shard."""


class Placed:
    """A `Source` that passes on what it reads, and remembers about where each entry lies."""

    def __init__(self, inner: Source) -> None:
        self._inner = inner
        self._numbers: list[int] = []
        self._places: list[tuple[int, int]] = []

    def segments(self) -> tuple[int, ...]:
        return self._inner.segments()

    def read(self, segment: int, offset: int, limit: int) -> bytes:
        data = self._inner.read(segment, offset, limit)
        # One place a read is enough: from there a worker reads on.
        if offset == 0:
            self._remember(segment, segment, 0)
        else:
            begin = data.find(b"\nE ") + 1
            end = data.find(b"\n", begin)
            if begin and end > 0:
                self._look(segment, offset + begin, data[begin:end])
        return data

    def place(self, number: int) -> tuple[int, int]:
        """Segment and offset at or before which entry `number` does not begin earlier."""
        return self._places[max(0, bisect_right(self._numbers, number) - 1)]

    def _look(self, segment: int, offset: int, line: bytes) -> None:
        try:
            parsed = parse_line(line)
            if isinstance(parsed, EntryLine):
                self._remember(parse(parsed.raw).n, segment, offset)
        except RecordError:
            return  # the reader names it; an earlier place serves as well

    def _remember(self, number: int, segment: int, offset: int) -> None:
        if not self._numbers or number > self._numbers[-1]:
            self._numbers.append(number)
            self._places.append((segment, offset))


class Noting(Reader):
    """A reader that remembers where each answer ends until it is asked."""

    _ends: deque[tuple[int, int]]

    def read(self) -> Iterator[Response | Finding]:
        self._ends = deque()
        for item in super().read():
            if isinstance(item, Response):
                self._ends.append((item.number, item.last))
            yield item

    def last(self, number: int) -> int:
        """The entry with which answer `number` ends; ask in the order of the record, once."""
        while self._ends:
            found, last = self._ends.popleft()
            if found == number:
                return last
        raise RecordError("an answer was selected that was not read", answer=number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a plan takes over as it is; see `fleet_plan.Plan`."""

    subject: Subject
    spec: Spec
    flagged: float
    dangerous: float


class Cutter:
    """An `Executor` for `Run` that cuts what it is handed into shards; in memory are only names.

    `keep` is told each shard as it is closed.
    """

    def __init__(
        self,
        reader: Noting,
        source: Placed,
        terms: Terms,
        keep: Callable[[Ticket, Shard], None],
        *,
        shard_tokens: int = SHARD_TOKENS,
    ) -> None:
        self.tickets: list[Ticket] = []
        self._reader = reader
        self._source = source
        self._terms = terms
        self._keep = keep
        self._most = shard_tokens
        self._answers: list[Answer] = []
        self._tokens = 0
        self._last = 0
        self._unheard: deque[Checked] = deque()

    def room(self) -> bool:
        return True

    def pending(self) -> int:
        return len(self._unheard)

    def put(self, task: Task) -> None:
        digest = task.digest.hex()
        self._answers.append(Answer(task.response, digest))
        self._tokens += len(task.prompt) + len(task.tokens)
        self._last = max(self._last, self._reader.last(task.response))
        self._unheard.append(Checked(response=task.response, digest=digest))
        if self._tokens >= self._most or len(self._answers) >= MAX_ANSWERS:
            self.close()

    def take(self, timeout: float | None = None) -> Checked | None:
        return self._unheard.popleft() if self._unheard else None

    def close(self) -> None:
        """Make what was put since the last shard one, if there is any."""
        if not self._answers:
            return
        first = min(answer.number for answer in self._answers)
        segment, offset = self._source.place(first)
        shard = Shard(
            segment=segment,
            offset=offset,
            last=self._last,
            tokens=self._tokens,
            answers=tuple(self._answers),
        )
        ticket = Ticket(shard.name(self._terms.subject), len(shard.answers), shard.tokens)
        self._keep(ticket, shard)
        self.tickets.append(ticket)
        self._answers, self._tokens, self._last = [], 0, 0

    def plan(self, *, vocab_size: int, signed: int, findings: dict[str, int]) -> Plan:
        """The plan of all that was cut."""
        self.close()
        terms = self._terms
        return Plan(
            version=VERSION,
            subject=terms.subject,
            spec=terms.spec,
            vocab_size=vocab_size,
            flagged=terms.flagged,
            dangerous=terms.dangerous,
            signed=signed,
            findings=findings,
            tickets=tuple(self.tickets),
        )
