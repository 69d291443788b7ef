"""Which pages hold which sequence's keys and values; the pages themselves belong to the back end.

Full pages are shared between sequences that begin with the same tokens, also with ones that were
dropped lately: their contents are the same bits, so sharing cannot change a logit. A page that is
not full belongs to one sequence.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tidegate.errors import ModelError
from tidegate.models.exact.ops import PAGE, Ops, Pool, Rows
from tidegate.models.exact.shape import Shape

_FIRST_BYTES = 1 << 30
"""Of a new pool. Growing copies everything; memory that is never touched costs nothing."""

_FIRST_PAGES = (16, 512)
"""At least, and at most."""

_START = b""


@dataclass(slots=True)
class _Sequence:
    """`tokens` it holds; `keys` name the content of its full pages, which `pages` begins with."""

    tokens: list[int] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)


class Cache:
    """Sequences by id. `spare` full pages are kept after their last sequence was dropped."""

    def __init__(self, shape: Shape, ops: Ops, *, spare: int = 256) -> None:
        self._ops = ops
        self._spare = spare
        least, most = _FIRST_PAGES
        first = max(least, min(most, _FIRST_BYTES // page_bytes(shape)))
        self.pool: Pool = ops.pool(first)
        self._free = list(range(first))[::-1]
        self._users = [0] * first
        self._sequences: dict[int, _Sequence] = {}
        self._page_of: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}
        self._idle: OrderedDict[int, None] = (
            OrderedDict()
        )  # known pages of no sequence, oldest first

    def length(self, sequence_id: int) -> int:
        """Tokens that a sequence holds; 0 if there is none of this id."""
        sequence = self._sequences.get(sequence_id)
        return 0 if sequence is None else len(sequence.tokens)

    def start(self, sequence_id: int, tokens: Sequence[int]) -> int:
        """Begin a sequence with what is known of `tokens`; returns how many need not be run.

        At least one always has to be, for its logits.
        """
        sequence = self._sequences[sequence_id] = _Sequence()
        for start in range(0, len(tokens) - PAGE, PAGE):
            part = tokens[start : start + PAGE]
            key = _key(sequence.keys, part)
            page = self._page_of.get(key)
            if page is None:
                break
            self._hold(page)
            sequence.pages.append(page)
            sequence.keys.append(key)
            sequence.tokens += part
        return len(sequence.tokens)

    def rows(self, parts: Sequence[tuple[int, Sequence[int]]], last_L: Sequence[int]) -> Rows:
        """Rows that append `parts` to their sequences, with pages to write to; see `ops.Rows`."""
        positions: list[int] = []
        for sequence_id, tokens in parts:
            sequence = self._sequences[sequence_id]
            held = len(sequence.tokens)
            positions += range(held, held + len(tokens))
            while len(sequence.pages) * PAGE < held + len(tokens):
                sequence.pages.append(self._take())
        tables = [self._sequences[sequence_id].pages for sequence_id, _ in parts]
        tables_SP = np.zeros((len(parts), max(map(len, tables))), np.int32)
        for row_P, table in zip(tables_SP, tables, strict=True):
            row_P[: len(table)] = table
        counts = [len(tokens) for _, tokens in parts]
        return Rows(
            token_N=np.array([token for _, tokens in parts for token in tokens], np.int32),
            sequence_N=np.repeat(np.arange(len(parts), dtype=np.int32), counts),
            position_N=np.array(positions, np.int32),
            tables_SP=tables_SP,
            last_L=np.array(last_L, np.int32),
            ids=tuple(sequence_id for sequence_id, _ in parts),
        )

    def commit(self, parts: Sequence[tuple[int, Sequence[int]]]) -> None:
        """Count `parts` as written: their rows ran."""
        for sequence_id, tokens in parts:
            sequence = self._sequences[sequence_id]
            sequence.tokens += tokens
            for start in range(len(sequence.keys) * PAGE, len(sequence.tokens) - PAGE + 1, PAGE):
                key = _key(sequence.keys, sequence.tokens[start : start + PAGE])
                page = sequence.pages[len(sequence.keys)]
                sequence.keys.append(key)
                if key not in self._page_of:
                    self._page_of[key], self._key_of[page] = page, key

    def cut(self, sequence_id: int, length: int) -> None:
        """Shorten a sequence, if there is one; to nothing means that it is forgotten."""
        sequence = self._sequences.get(sequence_id)
        if sequence is None:
            return
        keep = -(-length // PAGE)
        for page in sequence.pages[keep:]:
            self._release(page)
        del sequence.pages[keep:], sequence.tokens[length:], sequence.keys[length // PAGE :]
        if not length:
            del self._sequences[sequence_id]
        elif length % PAGE and self._shared(sequence.pages[-1]):
            # Its end is about to be written over, but others read it in full.
            shared = sequence.pages[-1]
            sequence.pages[-1] = self._copy(shared)
            self._release(shared)

    def fork(self, sequence_id: int, new_id: int) -> None:
        """Start `new_id` as a copy. Raises ModelError for an unknown or taken id."""
        source = self._known(sequence_id)
        if new_id in self._sequences:
            raise ModelError("the sequence id is taken", sequence_id=new_id)
        full = len(source.keys)
        pages = source.pages[:full]
        for page in pages:
            self._hold(page)
        if len(source.tokens) > full * PAGE:
            pages.append(self._copy(source.pages[full]))
        self._sequences[new_id] = _Sequence(source.tokens[:], pages, source.keys[:])

    def drop(self, sequence_id: int) -> None:
        """Forget a sequence. Raises ModelError for an unknown id."""
        self._known(sequence_id)
        self.cut(sequence_id, 0)

    def _known(self, sequence_id: int) -> _Sequence:
        if sequence_id not in self._sequences:
            raise ModelError("no such sequence", sequence_id=sequence_id)
        return self._sequences[sequence_id]

    def _shared(self, page: int) -> bool:
        return self._users[page] > 1 or page in self._key_of

    def _copy(self, page: int) -> int:
        own = self._take()
        self._ops.copy_page(self.pool, page, own)
        return own

    def _take(self) -> int:
        if not self._free:
            have = self.pool.pages
            self._ops.grow(self.pool, 2 * have)
            self._free = list(range(have, 2 * have))[::-1]
            self._users += [0] * have
        page = self._free.pop()
        self._users[page] = 1
        return page

    def _hold(self, page: int) -> None:
        self._users[page] += 1
        self._idle.pop(page, None)

    def _release(self, page: int) -> None:
        self._users[page] -= 1
        if self._users[page]:
            return
        if page not in self._key_of:
            self._free.append(page)
            return
        self._idle[page] = None
        while len(self._idle) > self._spare:
            oldest, _ = self._idle.popitem(last=False)
            del self._page_of[self._key_of.pop(oldest)]
            self._free.append(oldest)


def page_bytes(shape: Shape) -> int:
    """What a page of keys and values takes, over all layers."""
    return shape.layers * shape.kv_heads * PAGE * 2 * (2 * shape.head_size + 4)


def _key(before: list[bytes], tokens: Sequence[int]) -> bytes:
    """Names the content of a full page: its tokens, and through `before` all that precede them."""
    parent = before[-1] if before else _START
    return hashlib.sha256(parent + np.array(tokens, np.int32).tobytes()).digest()
