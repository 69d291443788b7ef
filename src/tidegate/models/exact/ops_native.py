"""The exact engine in C: one call an operation, for all rows of a pass, in buffers that stay.

`kernel` names an instruction set; results depend neither on it nor on `threads`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

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
        self._sums: dict[tuple[str, int], tuple[I32, Any]] = {}
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
        sums = self._sums.get((op, n))
        if sums is None:
            acc_NO = self._buffers.make(op, np.int32, n, outputs)
            sums = self._sums[op, n] = (acc_NO, self._buffers.address(acc_NO))
        q = self._buffers.address(q_NK)
        lib.tg_exact_multiply(self._kernel, self._threads, n, inputs, outputs, q, weight, sums[1])
        return sums[0]


class _Out(NamedTuple, Generic[T]):
    """What an operation returns for some number of rows, and the addresses it writes to."""

    result: T
    addresses: tuple[Any, ...]


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
        self.buffers.keep(parameters.norm)
        self._rope = tuple(
            ffi.from_buffer("float[]", table_TR) for table_TR in (self._cos_TR, self._sin_TR)
        )
        self._outs: dict[tuple[str, int], _Out[Any]] = {}
        self._work = np.empty(0, np.int8)
        self._channels: dict[int, _Struct] = {}
        self._rows: _Struct | None = None
        self._layers: list[_Struct] = []

    def embed(self, q_ND: NDArray[Any], scale_N: F32) -> F32:
        """See `ops.Ops.embed`."""
        n, width = q_ND.shape
        h_ND: F32 = self._out("embed", n, np.asarray, (np.float32, width)).result
        np.multiply(q_ND, scale_N[:, None], out=h_ND, dtype=np.float32)
        return h_ND

    def normalise(self, h_ND: F32, gain_D: F32) -> Quantised:
        """See `ops.Ops.normalise`."""
        n, width = h_ND.shape
        out = self._out("normalise", n, Quantised, (np.int8, width), (np.float32,))
        h, gain = self.buffers.address(h_ND), self.buffers.address(gain_D)
        eps = self._shape.eps
        _demand(lib.tg_exact_normalise(self._threads, n, width, eps, h, gain, *out.addresses))
        return out.result

    def append(
        self, acc_NO: I32, scale_N: F32, qkv: Channels, rows: Rows, pool: Pool, layer: int
    ) -> Queries:
        """See `ops.Ops.append`."""
        n, outputs = acc_NO.shape
        heads, size = self._shape.heads, self._shape.head_size
        scratch, q, scale = (np.float32, outputs), (np.int16, heads, size), (np.float32, heads)
        out = self._out("append", n, Queries, scratch, q, scale)
        _demand(
            lib.tg_exact_append(
                self._threads,
                self.buffers.address(acc_NO),
                self.buffers.address(scale_N),
                self._channels_of(qkv),
                *self._rope,
                self._rows_of(rows),
                self._pages_of(pool, layer),
                *out.addresses,
            )
        )
        return out.result

    def attend(self, queries: Queries, rows: Rows, pool: Pool, layer: int) -> Quantised:
        """See `ops.Ops.attend`."""
        n, heads, size = queries.q.shape
        outputs, scale = heads * size, (np.float32,)
        out = self._out("attend", n, Quantised, (np.float32, outputs), (np.int8, outputs), scale)
        pages = self._pages_of(pool, layer)
        needed = lib.tg_exact_work(self._threads, rows.tables_SP.shape[1] * PAGE, pages)
        if len(self._work) < needed:
            self._work = np.empty(2 * needed, np.int8)
            self.buffers.keep(self._work)
        _demand(
            lib.tg_exact_attend(
                self._kernel,
                self._threads,
                self.buffers.address(queries.q),
                self.buffers.address(queries.scale),
                self._unit,
                self._rows_of(rows),
                pages,
                self.buffers.address(self._work),
                *out.addresses,
            )
        )
        return out.result

    def add(self, h_ND: F32, acc_ND: I32, scale_N: F32, channels: Channels) -> F32:
        """See `ops.Ops.add`."""
        address = self.buffers.address
        acc, scale, h = address(acc_ND), address(scale_N), address(h_ND)
        known = self._channels_of(channels)
        lib.tg_exact_add(self._threads, len(h_ND), acc, scale, known, h)
        return h_ND

    def gate(self, acc_NO: I32, scale_N: F32, gate_up: Channels) -> Quantised:
        """See `ops.Ops.gate`."""
        n, size = len(acc_NO), self._shape.ffn_size
        out = self._out("gate", n, Quantised, (np.float32, size), (np.int8, size), (np.float32,))
        acc, scale = self.buffers.address(acc_NO), self.buffers.address(scale_N)
        known = self._channels_of(gate_up)
        _demand(lib.tg_exact_gate(self._threads, n, acc, scale, known, *out.addresses))
        return out.result

    def logits(self, acc_LV: I32, scale_L: F32, head: Channels) -> F32:
        """See `ops.Ops.logits`."""
        logits_LV, address = np.empty(acc_LV.shape, np.float32), self.buffers.address
        acc, scale, out = address(acc_LV), address(scale_L), address(logits_LV)
        known = self._channels_of(head)
        _demand(lib.tg_exact_logits(self._threads, len(acc_LV), acc, scale, known, out))
        return logits_LV

    def _out(
        self, name: str, rows: int, kind: Callable[..., T], *arrays: tuple[Any, ...]
    ) -> _Out[T]:
        """Arrays (dtype, *columns) for so many rows; `kind` takes the last two of them."""
        out: _Out[T] | None = self._outs.get((name, rows))
        if out is None:
            made = [
                self.buffers.make(f"{name} {number}", dtype, rows, *columns)
                for number, (dtype, *columns) in enumerate(arrays)
            ]
            out = _Out(kind(*made[-2:]), tuple(map(self.buffers.address, made)))
            self._outs[name, rows] = out
        return out

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


def _demand(refused: int) -> None:
    if refused:
        raise too_loud()
