"""A fleet in one process: a record of the small kind, its plan, and workers that do as told."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from record_world import EXPECTED, KEY, ORIGIN, STACK, RecordWorld

from tidegate.transparency.note import Verifier
from tidegate.verify.fleet_book import Book, Verdict
from tidegate.verify.fleet_executor import Done, Event, Failed, Lost
from tidegate.verify.fleet_plan import Plan, Shard
from tidegate.verify.fleet_planner import Cutter, Noting, Placed, Terms
from tidegate.verify.fleet_store import Objects, StoreError
from tidegate.verify.fleet_store_memory import MemoryObjects
from tidegate.verify.record_store import Source
from tidegate.verify.replay_answer import Checked, Rule
from tidegate.verify.replay_findings import Found
from tidegate.verify.replay_model import Spec
from tidegate.verify.replay_results import VERSION, Subject
from tidegate.verify.replay_run import Choice, Run
from tidegate.verify.replay_tally import Tally
from tidegate.verify.selection import Policy

SECRET = bytes(range(32))
SUBJECT = Subject(
    version=VERSION,
    record=KEY.encode(),
    model=STACK.model,
    tokenizer=STACK.tokenizer,
    rule=Rule(),
    rate="1",
    by="token",
    commitment="00" * 32,
    secret="00" * 32,
)
TERMS = Terms(subject=SUBJECT, spec=Spec("exact", "made-up"), flagged=0.05, dangerous=0.01)


def record(lengths: Sequence[int], segment_bytes: int = 1 << 20) -> RecordWorld:
    """A record of answers with so many tokens, named r0, r1 and so on."""
    world = RecordWorld(segment_bytes=segment_bytes)
    for number, length in enumerate(lengths):
        world.answer(f"r{number}", (token % 90 for token in range(length)))
    return world


def planned(
    source: Source,
    book: Book,
    shard_tokens: int,
    *,
    key: Verifier = KEY,
    rate: Fraction = Fraction(1),
) -> Plan:
    """The plan of a record, kept in `book`."""
    placed = Placed(source)
    reader = Noting(placed, key, expected=EXPECTED)
    cutter = Cutter(reader, placed, TERMS, book.put_shard, shard_tokens=shard_tokens)
    tally = Tally()
    choice = Choice(origin=ORIGIN, policy=Policy(rate, "message"), secret=bytes(32))
    run = Run(reader, cutter, tally, choice, vocab_size=STACK.vocabulary)
    run.round()
    run.finish()
    plan = cutter.plan(
        vocab_size=STACK.vocabulary, signed=reader.signed, findings=dict(tally.kinds)
    )
    book.put_plan(plan)
    return plan


def verdict_of(name: str, shard: Shard, findings: tuple[Found, ...] = ()) -> Verdict:
    """A verdict on every answer, with `findings` on the first."""
    checked = [Checked(response=one.number, digest=one.digest) for one in shard.answers]
    checked[0] = Checked(response=checked[0].response, digest=checked[0].digest, findings=findings)
    return Verdict(shard=name, checked=tuple(checked), worker="made-up", seconds=0.5)


@dataclass
class Fleet:
    """A planned record in a store that can be made to fail."""

    objects: Objects = field(default_factory=MemoryObjects)
    world: RecordWorld = field(default_factory=lambda: record([3] * 12))
    shard_tokens: int = 12

    def __post_init__(self) -> None:
        self.book = Book(self.objects, SECRET)
        self.plan = planned(self.world.store, self.book, self.shard_tokens)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(ticket.name for ticket in self.plan.tickets)

    def settle(self, names: Iterable[str]) -> None:
        for name in names:
            self.book.settle(verdict_of(name, self.book.shard(name)))


Fate = Callable[[str, int], str]
"""(shard, starts before) to done, lost, failed, fatal, or late, which is settled and then lost."""


class ScriptedExecutor:
    """An `Executor` whose workers meet the fate they are told to; it settles as workers do."""

    def __init__(self, book: Book, fate: Fate = lambda _name, _turn: "done", workers: int = 1):
        self._book = book
        self._fate = fate
        self._count = workers
        self._held: deque[str] = deque()
        self.started: list[str] = []
        self.sizes: list[int] = []
        self.most = 0

    @property
    def workers(self) -> int:
        return self._count

    def resize(self, workers: int) -> None:
        self._count = workers
        self.sizes.append(workers)

    def room(self) -> bool:
        return len(self._held) < self._count

    def start(self, name: str) -> None:
        self._held.append(name)
        self.most = max(self.most, len(self._held))

    def wait(self, timeout: float) -> tuple[Event, ...]:
        if not self._held:
            return ()
        name = self._held.popleft()
        fate = self._fate(name, self.started.count(name))
        self.started.append(name)
        try:
            shard = self._book.shard(name)
        except StoreError as error:
            return (Failed(name, error.message, fatal=error.again),)
        if fate in ("done", "late"):
            fresh = self._book.settle(verdict_of(name, shard))
            if fate == "done":
                return (Done(name, shard.tokens, 1.0, fresh),)
        if fate in ("failed", "fatal"):
            return (Failed(name, "it was told to", fatal=fate == "fatal"),)
        return (Lost(name, "it was told to"),)

    def close(self) -> None:
        self._held.clear()
