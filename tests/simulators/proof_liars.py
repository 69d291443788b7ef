"""Provers that lie: what each puts in place of the engine's products, and how they commit to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from proof_world import Bundle, World

from tidegate.models.exact.ops import Linear, Rows
from tidegate.models.exact.shape import HEAD
from tidegate.prove.statement import Statement
from tidegate.prove.trace import Layout, block_hashes, position_leaf, split, trace_root

I32 = NDArray[np.int32]


@dataclass(slots=True)
class Meddling:
    """`Linear` that alters one row of one product as it is computed."""

    linear: Linear
    token: int
    layer: int
    op: str
    alter: Callable[[I32], None]
    rows: list[int] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)

    def begin(self, rows: Rows) -> None:
        self.linear.begin(rows)
        self.rows = rows.position_N.tolist()
        self.heads = rows.position_N[rows.last_L].tolist()

    def multiply(self, layer: int, op: str, q_NK: NDArray[np.int8]) -> I32:
        acc_NO = self.linear.multiply(layer, op, q_NK)
        places = self.heads if op == HEAD else self.rows
        if (layer, op) == (self.layer, self.op) and self.token in places:
            acc_NO = acc_NO.copy()
            self.alter(acc_NO[places.index(self.token)])
        return acc_NO


@dataclass(slots=True)
class SwappedLayers:
    """`Linear` that uses each of two layers' weights for the other."""

    linear: Linear
    one: int = 0
    other: int = 1

    def begin(self, rows: Rows) -> None:
        self.linear.begin(rows)

    def multiply(self, layer: int, op: str, q_NK: NDArray[np.int8]) -> I32:
        swapped = {self.one: self.other, self.other: self.one}
        return self.linear.multiply(swapped.get(layer, layer), op, q_NK)


def add(output: int, amount: int) -> Callable[[I32], None]:
    """Adds to one output."""

    def alter(acc_O: I32) -> None:
        acc_O[output] += amount

    return alter


def put(output: int, value: int) -> Callable[[I32], None]:
    """Replaces one output."""

    def alter(acc_O: I32) -> None:
        acc_O[output] = value

    return alter


def recommitted(
    world: World,
    bundle: Bundle,
    statement: Statement,
    alter: Callable[[dict[tuple[int, int, str], I32]], None],
) -> Bundle:
    """The trace after `alter` saw its rows by (token, layer, op), with hashes, root and signature
    made to fit, so that only the products themselves can give the lie away."""
    shape = world.converted.shape
    layout = Layout(shape, len(statement.request.prompt_ids), len(statement.tokens))
    raw = bytearray(bundle.rows)
    rows: dict[tuple[int, int, str], I32] = {}
    blocks = []
    for index, block in enumerate(layout.blocks()):
        at = layout.offset(index)
        parts = split(memoryview(raw)[at : at + layout.block_bytes(block)], layout, block)
        blocks.append((block, parts))
        for (layer, op), part in zip(shape.products(), parts, strict=True):
            for row, token in zip(part, block.rows(op), strict=True):
                rows[token, layer, op] = row
    alter(rows)
    hashes = [row for block, parts in blocks for row in block_hashes(parts, block)]
    return world.bundle(
        statement,
        trace_root([position_leaf(row) for row in hashes]),
        bytes(raw),
        b"".join(hashes),
    )
