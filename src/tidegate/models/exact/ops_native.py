"""The exact engine in C: one call an operation, for all rows of a pass, in buffers that stay.

`kernel` names an instruction set; results depend neither on it nor on `threads`.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tidegate._native._exact import ffi, lib
from tidegate.models.exact.buffers import Buffers
from tidegate.models.exact.ops import PAGE, Channels, Pool, Quantised, Queries, Rows, too_loud
from tidegate.models.exact.ops_numpy import F32, I32, NumpyOps, attention_unit
from tidegate.models.exact.parameters import Parameters, Tensors, weight_name
from tidegate.models.exact.shape import Shape

T = TypeVar("T")

KERNELS: dict[str, int] = {"portable": lib.TG_PORTABLE, "avx2": lib.TG_AVX2, "vnni": lib.TG_VNNI}
"""Instruction sets by name, from the plainest to the fastest."""


def kernels() -> list[str]:
    """Those that this processor has."""
    best: int = lib.tg_exact_best()
    return [name for name, number in KERNELS.items() if number <= best]


class NativeLinear:
    """Products by the weights. `buffers` are those of the `NativeOps` it works with."""

    def __init__(
        self, shape: Shape, tensors: Tensors, buffers: Buffers, *, kernel: str, threads: int
    ) -> None:
        self._buffers = buffers
        self._kernel = KERNELS[kernel]
        self._threads = threads
        self._weights = {}
        for layer, op in shape.products():
            w_OK = np.ascontiguousarray(tensors[weight_name(shape, layer, op)], np.int8)
            buffers.keep(w_OK)
            self._weights[layer, op] = (buffers.address(w_OK), *w_OK.shape)

    def begin(self, rows: Rows) -> None:
        """Nothing to prepare."""

    def multiply(self, layer: int, op: str, q_NK: NDArray[np.int8]) -> I32:
        """See `ops.Linear.multiply`."""
        weight, outputs, inputs = self._weights[layer, op]
        n = len(q_NK)
        acc_NO = self._buffers.get(op, np.int32, n, outputs)
        address = self._buffers.address
        q, acc = address(q_NK), address(acc_NO)
        lib.tg_exact_multiply(self._kernel, self._threads, n, inputs, outputs, q, weight, acc)
        return acc_NO


class _Struct(NamedTuple):
    """A C struct, and what its pointers lead to."""

    pointer: Any
    owner: Any
    arrays: tuple[Any, ...]


class NativeOps(NumpyOps):
    """`ops.Ops` in C; what costs next to nothing stays in numpy."""

    def __init__(self, parameters: Parameters, *, kernel: str, threads: int) -> None:
        super().__init__(parameters)
        self.buffers = Buffers()
        self._kernel = KERNELS[kernel]
        self._threads = threads
        self._unit = attention_unit(self._shape)
        for layer in parameters.layers:
            self.buffers.keep(layer.attn_norm)
            self.buffers.keep(layer.mlp_norm)
        for array in (parameters.norm, self._cos_TR, self._sin_TR):
            self.buffers.keep(array)
        self._channels: dict[int, _Struct] = {}
        self._rows: _Struct | None = None
        self._layers: list[_Struct] = []

    def embed(self, q_ND: NDArray[Any], scale_N: F32) -> F32:
        """See `ops.Ops.embed`."""
        h_ND = self.buffers.get("residual", np.float32, *q_ND.shape)
        np.multiply(q_ND, scale_N[:, None], out=h_ND, dtype=np.float32)
        return h_ND

    def normalise(self, h_ND: F32, gain_D: F32) -> Quantised:
        """See `ops.Ops.normalise`."""
        n, width = h_ND.shape
        out, address = self._quantised("normalised", n, width), self.buffers.address
        refused = lib.tg_exact_normalise(
            self._threads,
            n,
            width,
            self._shape.eps,
            address(h_ND),
            address(gain_D),
            address(out.q),
            address(out.scale),
        )
        return _unless(refused, out)

    def append(
        self, acc_NO: I32, scale_N: F32, qkv: Channels, rows: Rows, pool: Pool, layer: int
    ) -> Queries:
        """See `ops.Ops.append`."""
        n, outputs = acc_NO.shape
        heads, get, address = self._shape.heads, self.buffers.get, self.buffers.address
        out = Queries(
            get("queries", np.int16, n, heads, self._shape.head_size),
            get("query scales", np.float32, n, heads),
        )
        refused = lib.tg_exact_append(
            self._threads,
            address(acc_NO),
            address(scale_N),
            self._channels_of(qkv),
            address(self._cos_TR),
            address(self._sin_TR),
            self._rows_of(rows),
            self._pages_of(pool, layer),
            address(get("rotated", np.float32, n, outputs)),
            address(out.q),
            address(out.scale),
        )
        return _unless(refused, out)

    def attend(self, queries: Queries, rows: Rows, pool: Pool, layer: int) -> Quantised:
        """See `ops.Ops.attend`."""
        n, heads, size = queries.q.shape
        out, address = self._quantised("attended", n, heads * size), self.buffers.address
        pages = self._pages_of(pool, layer)
        needed = lib.tg_exact_work(self._threads, rows.tables_SP.shape[1] * PAGE, pages)
        refused = lib.tg_exact_attend(
            self._kernel,
            self._threads,
            address(queries.q),
            address(queries.scale),
            self._unit,
            self._rows_of(rows),
            pages,
            address(self.buffers.get("work", np.int8, needed)),
            address(self.buffers.get("mixed", np.float32, n, heads * size)),
            address(out.q),
            address(out.scale),
        )
        return _unless(refused, out)

    def add(self, h_ND: F32, acc_ND: I32, scale_N: F32, channels: Channels) -> F32:
        """See `ops.Ops.add`."""
        address = self.buffers.address
        lib.tg_exact_add(
            self._threads,
            len(h_ND),
            address(acc_ND),
            address(scale_N),
            self._channels_of(channels),
            address(h_ND),
        )
        return h_ND

    def gate(self, acc_NO: I32, scale_N: F32, gate_up: Channels) -> Quantised:
        """See `ops.Ops.gate`."""
        n, size = len(acc_NO), self._shape.ffn_size
        out, address = self._quantised("gated", n, size), self.buffers.address
        refused = lib.tg_exact_gate(
            self._threads,
            n,
            address(acc_NO),
            address(scale_N),
            self._channels_of(gate_up),
            address(self.buffers.get("opened", np.float32, n, size)),
            address(out.q),
            address(out.scale),
        )
        return _unless(refused, out)

    def logits(self, acc_LV: I32, scale_L: F32, head: Channels) -> F32:
        """See `ops.Ops.logits`."""
        logits_LV, address = np.empty(acc_LV.shape, np.float32), self.buffers.address
        refused = lib.tg_exact_logits(
            self._threads,
            len(acc_LV),
            address(acc_LV),
            address(scale_L),
            self._channels_of(head),
            address(logits_LV),
        )
        return _unless(refused, logits_LV)

    def _quantised(self, name: str, rows: int, columns: int) -> Quantised:
        q_NK = self.buffers.get(name, np.int8, rows, columns)
        return Quantised(q_NK, self.buffers.get(f"{name} scales", np.float32, rows))

    def _channels_of(self, channels: Channels) -> Any:
        known = self._channels.get(id(channels))
        if known is None:
            scale = ffi.from_buffer("float[]", channels.scale)
            bias = channels.bias
            bias = ffi.NULL if bias is None else ffi.from_buffer("float[]", bias)
            struct = ffi.new("tg_channels *", (len(channels.scale), scale, bias))
            known = self._channels[id(channels)] = _Struct(struct, channels, (scale, bias))
        return known.pointer

    def _rows_of(self, rows: Rows) -> Any:
        known = self._rows
        if known is None or known.owner is not rows:
            arrays = tuple(
                ffi.from_buffer("int32_t[]", array)
                for array in (rows.sequence_N, rows.position_N, rows.tables_SP)
            )
            struct = ffi.new("tg_rows *", (len(rows.position_N), rows.tables_SP.shape[1], *arrays))
            known = self._rows = _Struct(struct, rows, arrays)
        return known.pointer

    def _pages_of(self, pool: Pool, layer: int) -> Any:
        if not self._layers or self._layers[0].owner is not pool.keys:
            self._layers = [self._layer_of(pool, number) for number in range(len(pool.keys))]
        return self._layers[layer].pointer

    def _layer_of(self, pool: Pool, layer: int) -> _Struct:
        shape = self._shape
        arrays = (
            ffi.from_buffer("int16_t[]", pool.keys[layer]),
            ffi.from_buffer("int16_t[]", pool.values[layer]),
            ffi.from_buffer("float[]", pool.key_scales[layer]),
            ffi.from_buffer("float[]", pool.value_scales[layer]),
        )
        sizes = (shape.heads, shape.kv_heads, shape.head_size)
        return _Struct(ffi.new("tg_pages *", (*sizes, *arrays)), pool.keys, arrays)


def _unless(refused: int, result: T) -> T:
    if refused:
        raise too_loud()
    return result
