"""The record's pure core: what entries add up to, and which entry may follow.

A writer decides by it what it may write, a restart recovers with it, and a reader checks with it:
a record that is lived, recovered and read is the same one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tidegate.ledger.entries import next_head
from tidegate.record.entries import Begin, End, Entry, Open, Prefill, Stack, Tokens
from tidegate.transparency.tree import Frontier, frontier_root, grow, leaf_hash
from tidegate.verify.record_findings import Kind
from tidegate.verify.record_lines import GENESIS, Live, Mark

MAX_LIVE: Final = 4_096
"""Answers that may run at once: four times the slots of a link, so that waiting ones have room."""


@dataclass(slots=True)
class Fold:
    """The state after `size` entries; `take` moves it on. Grows with running answers only."""

    size: int = 0
    time: int = 0
    head: bytes = GENESIS
    frontier: Frontier = ()
    stack: Stack | None = None
    live: dict[int, Live] = field(default_factory=dict)
    tree: bool = True
    """Whether the tree is kept; a reader who lost an entry cannot."""

    @classmethod
    def of(cls, mark: Mark) -> Fold:
        """The state that a mark states."""
        return cls(
            mark.n,
            mark.time,
            bytes.fromhex(mark.head),
            tuple(map(bytes.fromhex, mark.frontier)),
            mark.stack,
            {live.response: live for live in mark.live},
        )

    def mark(self) -> Mark:
        """The state, to open a segment with."""
        return Mark(
            n=self.size,
            time=self.time,
            head=self.head.hex(),
            frontier=tuple(part.hex() for part in self.frontier),
            stack=self.stack,
            live=tuple(self.live.values()),
        )

    @property
    def root(self) -> bytes:
        """The Merkle root over every entry so far."""
        return frontier_root(self.frontier)

    def wrong(self, entry: Entry) -> tuple[Kind, str] | None:
        """What keeps `entry` from following, whatever its number; None if nothing does."""
        if entry.time < self.time:
            return Kind.REORDERED, "An entry goes back in time."
        match entry.does:
            case Begin():
                if self.stack is None:
                    return Kind.MISSING, "An answer begins before anybody said what answers."
                if len(self.live) >= MAX_LIVE:
                    return Kind.OVERSIZED, "More answers run at once than any writer lets."
            case Prefill(response=response) | Tokens(response=response) | End(response=response):
                live = self.live.get(response)
                if live is None:
                    if response < self.size:
                        return Kind.REORDERED, "An entry speaks of an answer that is not running."
                    return Kind.MISSING, "An entry speaks of an answer that never began."
                return _wrong_of(live, entry)
        return None

    def take(self, raw: bytes, entry: Entry, head: bytes | None = None) -> None:
        """Move on by one entry that nothing is wrong with; `head` is the chain's, if known."""
        self.link(raw, head or next_head(self.head, raw))
        self.time = entry.time
        match entry.does:
            case Open(stack=stack):
                self.stack = stack
            case Begin(max_tokens=most):
                self.live[entry.n] = Live(entry.n, 0, most, False)
            case Prefill(response=response):
                live = self.live[response]
                self.live[response] = Live(response, live.tokens, live.most, True)
            case Tokens(response=response, ids=ids):
                live = self.live[response]
                self.live[response] = Live(response, live.tokens + len(ids), live.most, live.placed)
            case End(response=response):
                del self.live[response]

    def link(self, raw: bytes, head: bytes) -> None:
        """Move chain and tree on, without what the entry says."""
        if self.tree:
            self.frontier = grow(self.frontier, self.size, leaf_hash(raw))
        self.head = head
        self.size += 1


def _wrong_of(live: Live, entry: Entry) -> tuple[Kind, str] | None:
    match entry.does:
        case Prefill() if live.placed or live.tokens:
            return Kind.DUPLICATED, "An answer is placed twice, or after its first token."
        case Tokens(start=start) if start < live.tokens:
            return Kind.DUPLICATED, "Tokens of an answer are recorded twice."
        case Tokens(start=start) if start > live.tokens:
            return Kind.MISSING, "Tokens of an answer are missing."
        case Tokens(ids=ids) if live.tokens + len(ids) > live.most:
            return Kind.OVERSIZED, "An answer has more tokens than were asked for."
        case End(tokens=tokens) if tokens > live.tokens:
            return Kind.MISSING, "The last tokens of an answer are missing."
        case End(tokens=tokens) if tokens < live.tokens:
            return Kind.DUPLICATED, "An answer has more tokens than its end says."
    return None
