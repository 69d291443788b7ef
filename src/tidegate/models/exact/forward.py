"""One pass of a decoder over some rows: the whole model in three functions, and all of them in one.

The engine, the prover's recorder and the verifier without weights all run this code; they differ in
the `Linear` they hand in and in nothing else (source: spec/exact.md §4). Where several hosts run a
model together, each runs a part of it: `h_ND` is all that passes between them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tidegate.models.exact.ops import Array, Linear, Ops, Pool, Rows
from tidegate.models.exact.parameters import Parameters
from tidegate.models.exact.shape import HEAD


def run(
    parameters: Parameters, linear: Linear, ops: Ops, pool: Pool, rows: Rows
) -> NDArray[np.float32]:
    """Append `rows` to their sequences; logits_LV after each row in `rows.last_L`.

    Raises ModelError if an activation leaves the specified range; the pool then holds positions
    that the caller must not count as written.
    """
    linear.begin(rows)
    h_ND = embed(parameters, ops, rows)
    h_ND = layers(parameters, linear, ops, pool, rows, h_ND)
    return head(parameters, linear, ops, rows, h_ND)


def embed(parameters: Parameters, ops: Ops, rows: Rows) -> Array:
    """h_ND before the first layer."""
    return ops.embed(*parameters.embedding.rows(rows.token_N))


def layers(
    parameters: Parameters, linear: Linear, ops: Ops, pool: Pool, rows: Rows, h_ND: Array
) -> Array:
    """h_ND after the last of these layers; may overwrite what it is given. Raises as `run`."""
    for number, layer in enumerate(parameters.layers):
        x = ops.normalise(h_ND, layer.attn_norm)
        acc = linear.multiply(number, "qkv", x.q)
        queries = ops.append(acc, x.scale, layer.qkv, rows, pool, number)
        x = ops.attend(queries, rows, pool, number)
        acc = linear.multiply(number, "o", x.q)
        h_ND = ops.add(h_ND, acc, x.scale, layer.o)
        x = ops.normalise(h_ND, layer.mlp_norm)
        acc = linear.multiply(number, "gate_up", x.q)
        x = ops.gate(acc, x.scale, layer.gate_up)
        acc = linear.multiply(number, "down", x.q)
        h_ND = ops.add(h_ND, acc, x.scale, layer.down)
    return h_ND


def head(
    parameters: Parameters, linear: Linear, ops: Ops, rows: Rows, h_ND: Array
) -> NDArray[np.float32]:
    """logits_LV from h_ND after the last layer. Raises as `run`."""
    x = ops.normalise(ops.take(h_ND, rows.last_L), parameters.norm)
    acc = linear.multiply(parameters.shape.layers, HEAD, x.q)
    return ops.logits(acc, x.scale, parameters.head)
