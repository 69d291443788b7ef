"""Freivalds' check of integer products mod 2⁶⁴: x·(Wᵀr) = y·r for secret r.

A wrong y differs from W·x by d ≠ 0. With |y| ≤ 127²·K, which is checked, 2^v divides d for
v = ⌊log₂(2·127²·K)⌋ at most, so r·d ≡ 0 for a share 2^(v−64) of all r; further columns multiply
their shares. Method: Freivalds, "Probabilistic machines can use less running time", IFIP
1977; bound and encoding: `spec/prove.md`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidegate._native._kernels import ffi, lib

I8Array = NDArray[np.int8]
I32Array = NDArray[np.int32]
U64Array = NDArray[np.uint64]

SECRET_BYTES = 32
SECURITY_BITS = 78
"""A wrong row passes with probability 2**-SECURITY_BITS at most."""

_DOMAIN = b"tidegate.freivalds.v1"
_LARGEST_CODE = 127


def range_limit(inputs: int) -> int:
    """The largest absolute value a product of `inputs` int8 pairs can have: 127²·K."""
    return _LARGEST_CODE**2 * inputs


def column_bits(inputs: int) -> int:
    """-log₂ of the chance that one column misses a wrong row."""
    return 64 - (2 * range_limit(inputs)).bit_length() + 1


def columns_for(inputs: int) -> int:
    """Secret columns needed for SECURITY_BITS: two up to 2,080 inputs, three beyond."""
    return -(-SECURITY_BITS // column_bits(inputs))


def row_bits(inputs: int) -> int:
    """-log₂ of the chance that a wrong row passes under all columns."""
    return columns_for(inputs) * column_bits(inputs)


def draw(secret: bytes, layer: int, op: str, outputs: int, columns: int) -> U64Array:
    """The secret columns r_CO of one product: SHAKE256 (FIPS 202) of the secret and the place."""
    rows = []
    for column in range(columns):
        label = _DOMAIN + secret + struct.pack("<II", layer, column) + op.encode()
        raw = hashlib.shake_256(label).digest(8 * outputs)
        rows.append(np.frombuffer(raw, "<u8"))
    return np.stack(rows).astype(np.uint64)


def combine(weight_OK: I8Array, r_CO: U64Array) -> U64Array:
    """Wᵀr mod 2⁶⁴ as [C, K]: the owner's side, once a key."""
    columns, outputs = r_CO.shape
    sums_CK = np.zeros((columns, weight_OK.shape[1]), np.uint64)
    # In slices, so that the weights are never held eight times over.
    for start in range(0, outputs, 64):
        part_OK = weight_OK[start : start + 64].astype(np.int64).view(np.uint64)
        for column in range(columns):
            r_O = r_CO[column, start : start + 64]
            sums_CK[column] += (part_OK * r_O[:, None]).sum(axis=0, dtype=np.uint64)
    return sums_CK


def products(rows_NI: I32Array, secret_CI: U64Array, limit: int) -> tuple[U64Array, int | None]:
    """rows·secret mod 2⁶⁴ as [N, C], and the first row with an entry beyond ±limit.

    Raises ValueError for shapes or types that do not fit.
    """
    count, inputs = rows_NI.shape
    fits = rows_NI.dtype == np.int32 and secret_CI.dtype == np.uint64
    if not fits or secret_CI.shape[1:] != (inputs,) or not 0 <= limit < 1 << 31:
        raise ValueError("rows are int32 [N, I], secret columns uint64 [C, I], limits 31 bits")
    columns = secret_CI.shape[0]
    out_NC = np.empty((count, columns), np.uint64)
    if not out_NC.size or not inputs:
        out_NC[:] = 0
        return out_NC, None
    beyond = lib.tg_freivalds(
        ffi.from_buffer("int32_t[]", np.ascontiguousarray(rows_NI)),
        count,
        inputs,
        ffi.from_buffer("uint64_t[]", np.ascontiguousarray(secret_CI)),
        columns,
        limit,
        ffi.from_buffer("uint64_t[]", out_NC),
    )
    return out_NC, None if beyond < 0 else int(beyond)


def reference_products(rows_NI: I32Array, secret_CI: U64Array) -> list[list[int]]:
    """The definition, in Python integers; tests hold the kernel to it."""
    mask = (1 << 64) - 1
    return [
        [
            sum(int(y) * int(r) for y, r in zip(row, column, strict=True)) & mask
            for column in secret_CI
        ]
        for row in rows_NI
    ]


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """What is secret about one product: r_CO and (Wᵀr)_CK, uint64."""

    r_CO: U64Array
    weighted_CK: U64Array

    @property
    def inputs(self) -> int:
        """K, the length of the rows that are multiplied by the weights."""
        return int(self.weighted_CK.shape[1])

    @property
    def bits(self) -> int:
        """-log₂ of the chance that a wrong row passes."""
        return row_bits(self.inputs)

    def first_wrong(self, q_NK: I8Array, acc_NO: I32Array) -> tuple[int, str] | None:
        """The first row of `acc_NO` that is out of range or not the product of `q_NK`'s row.

        With None every row is right, but for a chance of 2**-row_bits(K) each.
        """
        found_NC, beyond = products(acc_NO, self.r_CO, range_limit(self.inputs))
        expected_NC, _ = products(q_NK.astype(np.int32), self.weighted_CK, _LARGEST_CODE)
        wrong_N = np.flatnonzero((found_NC != expected_NC).any(axis=1))
        if beyond is not None and not (wrong_N.size and wrong_N[0] < beyond):
            return beyond, f"a number lies outside ±{range_limit(self.inputs)}, which 8 bits allow"
        if wrong_N.size:
            return int(wrong_N[0]), "this is not the product of the weights and the inputs"
        return None


Multiply = Callable[[int, str, I8Array], I32Array]
"""The engine's port for linear layers: (layer, op, q_NK) -> acc_NO."""
