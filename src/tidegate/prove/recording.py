"""The prover's side of a trace: keeps the engine's integer products while an answer is generated.

A recorder stands in the engine's `Linear` port and hands every product on. What it keeps of a
sequence leaves it in blocks, each as soon as its last position has run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tidegate.errors import EngineError
from tidegate.models.exact.ops import Linear, Rows
from tidegate.models.exact.shape import HEAD, LAYER_OPS, Shape
from tidegate.prove.trace import (
    BLOCK,
    Block,
    I32Array,
    Layout,
    block_hashes,
    position_leaf,
    split,
    trace_root,
)

Sink = Callable[[bytes | bytearray, list[bytes]], None]
"""Takes one block: its rows as they are stored, and the hashes of each of its positions. The rows
are written over afterwards; a sink copies what it keeps."""


class Buffers:
    """Memory for blocks that were sealed, to be filled again by any recording of one model.

    Touching fresh memory costs more than writing to memory that was used before.
    """

    def __init__(self) -> None:
        self._spare: dict[int, list[_Memory]] = {}

    def take(self, layout: Layout, block: Block) -> _Memory:
        """Memory of the block's size, with arbitrary contents."""
        size = layout.block_bytes(block)
        if spare := self._spare.get(size):
            return spare.pop()
        raw = bytearray(size)
        return _Memory(raw, split(raw, layout, block))

    def give_back(self, memory: _Memory) -> None:
        """Nobody reads it any more."""
        self._spare.setdefault(len(memory.raw), []).append(memory)


@dataclass(frozen=True, slots=True)
class _Memory:
    """A block's bytes, and its rows by product."""

    raw: bytearray
    parts: list[I32Array]


@dataclass(frozen=True, slots=True)
class _Open:
    """A block that is being filled."""

    block: Block
    memory: _Memory


class Recording:
    """One sequence's trace in the making; `finish` gives its root."""

    def __init__(self, shape: Shape, prompt: int, sink: Sink, buffers: Buffers) -> None:
        """`prompt` is how many tokens the prompt has; `sink` is called once a block, in order."""
        self._layout = Layout(shape, prompt, 1)
        self._sink = sink
        self._buffers = buffers
        self._open: dict[int, _Open] = {}
        self._next = 0
        self._leaves: list[bytes] = []

    def block(self, number: int) -> _Open:
        """The block that positions from `number` * BLOCK on are kept in.

        Raises EngineError if it has left already.
        """
        if number < self._next:
            raise EngineError("the engine ran a position twice")
        opened = self._open.get(number)
        if opened is None:
            block = Block(number * BLOCK, BLOCK, self._layout.prompt - 1)
            memory = self._buffers.take(self._layout, block)
            opened = self._open[number] = _Open(block, memory)
        return opened

    def settle(self, positions: int) -> None:
        """Every product of the first `positions` positions is there; full blocks leave.

        Raises EngineError where positions were left out.
        """
        while (self._next + 1) * BLOCK <= positions:
            if self._next not in self._open:
                raise EngineError("the engine left out positions; it must not reuse prefixes")
            opened = self._open.pop(self._next)
            self._seal(opened.block, opened.memory.raw, opened.memory.parts)
            self._buffers.give_back(opened.memory)

    def finish(self, answer: int) -> bytes:
        """The answer has `answer` tokens; the last block leaves. Returns the trace's root.

        Raises EngineError where products are missing.
        """
        whole = Layout(self._layout.shape, self._layout.prompt, answer)
        blocks = whole.blocks()
        if self._next < len(blocks):
            opened, block = self._open.pop(self._next, None), blocks[-1]
            if opened is None or self._next != len(blocks) - 1:
                raise EngineError("the engine computed less than an answer's products")
            products = whole.shape.products()
            parts = [
                part[: len(block.rows(op))]
                for (_, op), part in zip(products, opened.memory.parts, strict=True)
            ]
            self._seal(block, b"".join(part.tobytes() for part in parts), parts)
            self._buffers.give_back(opened.memory)
        return trace_root(self._leaves)

    def _seal(self, block: Block, raw: bytes | bytearray, parts: list[I32Array]) -> None:
        hashes = block_hashes(parts, block)
        self._leaves += map(position_leaf, hashes)
        self._sink(raw, hashes)
        self._next += 1


@dataclass(frozen=True, slots=True)
class _Run:
    """Rows of a pass, and where in a block they are kept."""

    rows: slice
    parts: list[I32Array]
    places: slice


class Recorder:
    """`Linear` that keeps the products of the sequences it follows and passes all on."""

    def __init__(self, linear: Linear, shape: Shape) -> None:
        self._linear = linear
        self._index = {product: number for number, product in enumerate(shape.products())}
        self._following: dict[int, Recording] = {}
        self._bodies: list[_Run] = []
        self._heads: list[_Run] = []
        self._ends: list[tuple[Recording, int]] = []

    def follow(self, sequence_id: int, recording: Recording) -> None:
        """Keep what the engine multiplies for a sequence, from its next position on."""
        self._following[sequence_id] = recording

    def release(self, sequence_id: int) -> None:
        """Stop following a sequence."""
        self._following.pop(sequence_id, None)

    def begin(self, rows: Rows) -> None:
        """See `ops.Linear.begin`."""
        self._linear.begin(rows)
        self._bodies, self._heads, self._ends = [], [], []
        sequence_N, position_N = rows.sequence_N.tolist(), rows.position_N.tolist()
        start = 0
        for stop in range(1, len(sequence_N) + 1):
            if stop == len(sequence_N) or sequence_N[stop] != sequence_N[start]:
                recording = self._following.get(rows.ids[sequence_N[start]])
                if recording is not None:
                    self._bodies += _runs(recording, start, position_N[start], stop - start)
                    self._ends.append((recording, position_N[stop - 1] + 1))
                start = stop
        for number, row in enumerate(rows.last_L.tolist()):
            recording = self._following.get(rows.ids[sequence_N[row]])
            if recording is not None:
                self._heads += _runs(recording, number, position_N[row], 1, HEAD)

    def multiply(self, layer: int, op: str, q_NK: Any) -> Any:
        """See `ops.Linear.multiply`."""
        acc_NO = self._linear.multiply(layer, op, q_NK)
        product = self._index[layer, op]
        for run in self._heads if op == HEAD else self._bodies:
            run.parts[product][run.places] = acc_NO[run.rows]
        if op == HEAD:
            for recording, positions in self._ends:
                recording.settle(positions)
        return acc_NO


def _runs(
    recording: Recording, row: int, position: int, count: int, op: str = LAYER_OPS[0]
) -> Iterator[_Run]:
    """`count` rows of a pass from `row` on, cut where blocks end."""
    while count:
        opened = recording.block(position // BLOCK)
        kept = opened.block.rows(op)
        size = min(count, kept.stop - position)
        place = position - kept.start
        yield _Run(slice(row, row + size), opened.memory.parts, slice(place, place + size))
        row, position, count = row + size, position + size, count - size
