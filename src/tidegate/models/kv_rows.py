"""Keys and values of many sequences of different length in one preallocated block per layer.

Row r holds one sequence, left-aligned; a decode step writes one position per row in place and reads
the first `n` rows as a view, so no step copies what earlier steps wrote. Rows and positions double
when they run out. Padding is masked, never attended to.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache

_FIRST_ROWS = 4
_FIRST_POSITIONS = 256


class KvRows(Cache):  # type: ignore[misc]
    """A transformers cache over rows; the caller says which rows a forward call is for.

    Block shapes are (rows, heads, positions, head size) for keys and for values.
    """

    def __init__(self) -> None:
        super().__init__(layers=[])
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        self._rows = slice(0, 0)
        self._start: torch.Tensor | int = 0
        self._each_row = torch.arange(0)
        self._width = 0

    def aim_at_one(self, row: int, start: int, count: int) -> None:
        """The next forward appends `count` tokens to `row`, which holds `start`."""
        self._rows = slice(row, row + 1)
        self._start = start
        self._width = start + count

    def aim_at_all(self, lengths: list[int]) -> None:
        """The next forward appends one token to each of the first len(lengths) rows."""
        self._rows = slice(0, len(lengths))
        self._start = torch.tensor(lengths)
        self._each_row = torch.arange(len(lengths))
        self._width = max(lengths) + 1

    def mask(self) -> torch.Tensor | None:
        """For `aim_at_all`: which positions each row may attend to, (rows, 1, 1, width) bool."""
        lengths = self._start
        if isinstance(lengths, int) or bool((lengths == lengths[0]).all()):
            return None
        return (torch.arange(self._width) <= lengths[:, None])[:, None, None, :]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new keys and values of one layer; returns views of all that may be read."""
        keys = self._reserve(self._keys, layer_idx, key_states)
        values = self._reserve(self._values, layer_idx, value_states)
        for block_RHPD, fresh_BHTD in ((keys, key_states), (values, value_states)):
            if isinstance(self._start, int):
                block_RHPD[self._rows, :, self._start : self._width] = fresh_BHTD
            else:
                block_RHPD[self._each_row, :, self._start] = fresh_BHTD[:, :, 0]
        return keys[self._rows, :, : self._width], values[self._rows, :, : self._width]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens the aimed-at row holds; unused, since positions are always given."""
        return self._start if isinstance(self._start, int) else int(self._start.max())

    def copy_row(self, source: int, target: int, length: int) -> None:
        """Make `target` hold the first `length` positions of `source`."""
        for blocks in (self._keys, self._values):
            for layer, block in enumerate(blocks):
                block_RHPD = _grown(block, target + 1, 0)
                block_RHPD[target, :, :length] = block_RHPD[source, :, :length]
                blocks[layer] = block_RHPD

    def swap_rows(self, one: int, other: int, length: int) -> None:
        """Exchange the first `length` positions of two rows."""
        for blocks in (self._keys, self._values):
            for block_RHPD in blocks:
                kept = block_RHPD[one, :, :length].clone()
                block_RHPD[one, :, :length] = block_RHPD[other, :, :length]
                block_RHPD[other, :, :length] = kept

    def _reserve(
        self, blocks: list[torch.Tensor], layer: int, fresh_BHTD: torch.Tensor
    ) -> torch.Tensor:
        if layer == len(blocks):
            _, heads, _, size = fresh_BHTD.shape
            blocks.append(fresh_BHTD.new_zeros((_FIRST_ROWS, heads, _FIRST_POSITIONS, size)))
        blocks[layer] = _grown(blocks[layer], self._rows.stop, self._width)
        return blocks[layer]


def _grown(block_RHPD: torch.Tensor, rows: int, positions: int) -> torch.Tensor:
    """The block, or a copy with each short dimension doubled until it is long enough."""
    have_rows, heads, have_positions, size = block_RHPD.shape
    if rows <= have_rows and positions <= have_positions:
        return block_RHPD
    new_rows, new_positions = have_rows, have_positions
    while new_rows < rows:
        new_rows *= 2
    while new_positions < positions:
        new_positions *= 2
    # Zeros, not uninitialised memory: a masked NaN would still poison the weighted sum.
    grown = block_RHPD.new_zeros((new_rows, heads, new_positions, size))
    grown[:have_rows, :, :have_positions] = block_RHPD
    return grown
