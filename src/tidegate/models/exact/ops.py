"""The ports of the exact engine: what a pass computes, and where its products come from.

An array is whatever the back end uses (numpy or torch); a pass never mixes two back ends. What an
operation returns may be overwritten by the next operation of the same name: keep a copy if need be.
Source of every operation: spec/exact.md, under the same name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import ModelError

Array = Any
"""A numpy array or a torch tensor."""

PAGE = 64
"""Tokens of one sequence whose keys and values lie together."""

QUIET = np.float32(2.0**-100)
"""A row whose largest magnitude is below this becomes zeros: no denormal can matter."""

LOUDEST = np.float32(2.0**40)
"""A row with a magnitude above this is refused: nothing can overflow."""

EXP2 = tuple(
    np.float32(float.fromhex(text))
    for text in (
        "0x1p+0",
        "0x1.62e432p-1",
        "0x1.ebfbe2p-3",
        "0x1.c6ae72p-5",
        "0x1.3b270ep-7",
        "0x1.5f7276p-10",
        "0x1.470b4ap-13",
    )
)
"""2**f ≈ Σ EXP2[i] · f**i on [-1/2, 1/2]: minimax in relative error with EXP2[0] = 1 fixed.

Rounding included, the relative error is at most 1.079e-7 (over every float32 of the interval).
"""

LOG2E = np.float32(1.4426950408889634)
"""log2(e), rounded to float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """N tokens that run together, of S sequences; a sequence's rows ascend in position.

    `token_N` ids; `sequence_N` index into `tables_SP`; `position_N` place in its sequence;
    `tables_SP` page numbers of each sequence, enough for its last row; `last_L` rows whose logits
    are wanted; `ids` the caller's name for each sequence. All arrays int32 on the host.
    """

    token_N: NDArray[np.int32]
    sequence_N: NDArray[np.int32]
    position_N: NDArray[np.int32]
    tables_SP: NDArray[np.int32]
    last_L: NDArray[np.int32]
    ids: tuple[int, ...]


class Quantised(NamedTuple):
    """Rows of integers and one float32 scale a row; q is int8, scale (N,)."""

    q: Array
    scale: Array


class Queries(NamedTuple):
    """Rotated queries: q int16 (N, heads, head size), scale float32 (N, heads)."""

    q: Array
    scale: Array


class Channels(NamedTuple):
    """What turns int32 sums into floats: scale (O,) float32, and bias (O,) float32 or None."""

    scale: Array
    bias: Array | None = None


@dataclass(slots=True)
class Pool:
    """Keys and values of all layers in pages: L layers, P pages, H heads, T = PAGE, D head size.

    `keys` and `values` int16 LPHTD, their scales float32 LPHT.
    """

    keys: Array
    key_scales: Array
    values: Array
    value_scales: Array

    @property
    def pages(self) -> int:
        return int(self.keys.shape[1])


class Linear(Protocol):
    """Answers products: from weights, from a trace, or from weights while keeping a trace."""

    def begin(self, rows: Rows) -> None:
        """A pass over `rows` starts; its products follow in the order of `Shape.products`."""
        ...

    def multiply(self, layer: int, op: str, q_NK: Array) -> Array:
        """acc_NO int32 = Σ_k q_nk · w_ok, for int8 rows and the weight of `op` in `layer`.

        For the head, N is the number of rows whose logits are wanted.
        """
        ...


class Ops(Protocol):
    """Everything of a pass that is not a product. Raises ModelError for a row beyond LOUDEST."""

    def place(self, array: NDArray[Any]) -> Array:
        """A host array as this back end's."""
        ...

    def fetch(self, array: Array) -> NDArray[Any]:
        """This back end's array as a host one."""
        ...

    def pool(self, pages: int) -> Pool:
        """An empty pool."""
        ...

    def grow(self, pool: Pool, pages: int) -> None:
        """Give `pool` more pages, keeping what it holds."""
        ...

    def copy_page(self, pool: Pool, source: int, target: int) -> None:
        """Make one page equal to another in every layer."""
        ...

    def embed(self, q_ND: Array, scale_N: Array) -> Array:
        """h_ND float32 from rows of the embedding (int8 or int16, host arrays)."""
        ...

    def normalise(self, h_ND: Array, gain_D: Array) -> Quantised:
        """RMSNorm, then q8."""
        ...

    def append(
        self, acc_NO: Array, scale_N: Array, qkv: Channels, rows: Rows, pool: Pool, layer: int
    ) -> Queries:
        """Rotate queries and keys; quantise all three to q13; store keys and values."""
        ...

    def attend(self, queries: Queries, rows: Rows, pool: Pool, layer: int) -> Quantised:
        """Attention of each row over its sequence up to its own position, then q8."""
        ...

    def add(self, h_ND: Array, acc_ND: Array, scale_N: Array, channels: Channels) -> Array:
        """The residual stream with a product added; may overwrite `h_ND`."""
        ...

    def gate(self, acc_NO: Array, scale_N: Array, gate_up: Channels) -> Quantised:
        """SiLU(gate) · up, then q8. The first half of O is the gate."""
        ...

    def take(self, h_ND: Array, last_L: NDArray[np.int32]) -> Array:
        """The rows whose logits are wanted."""
        ...

    def logits(self, acc_LV: Array, scale_L: Array, head: Channels) -> NDArray[np.float32]:
        """logits_LV on the host, the caller's own."""
        ...


def too_loud() -> ModelError:
    """What is raised where an activation leaves the range of the specification."""
    return ModelError(
        "an activation is not a number or larger than 2**40; the weights or their scales are "
        "damaged, or the model needs another conversion"
    )
