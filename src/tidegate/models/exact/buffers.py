"""Arrays that stay between calls, and their addresses for the kernels.

Asking cffi for an address costs several times what looking it up does, and a pass needs thousands.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate._native._exact import ffi

_TYPES = {name: f"{name}_t[]" for name in ("int8", "int16", "int32")} | {"float32": "float[]"}


class Buffers:
    """Arrays made once for each purpose and number of rows."""

    def __init__(self) -> None:
        self._whole: dict[str, NDArray[Any]] = {}
        self._known: dict[int, tuple[NDArray[Any], Any]] = {}

    def make(self, name: str, dtype: Any, rows: int, *columns: int) -> NDArray[Any]:
        """An array (rows, *columns) with arbitrary contents.

        Arrays of one name share memory, as long as none of them needed more than there was.
        """
        whole = self._whole.get(name)
        if whole is None or len(whole) < rows:
            # Powers of two: while rows grow one by one, few arrays that are too small pile up.
            whole = np.empty((1 << (rows - 1).bit_length(), *columns), dtype)
            self._whole[name] = whole
        view = whole[:rows]
        self.keep(view)
        return view

    def keep(self, array: NDArray[Any]) -> None:
        """Remember the address of an array that will be asked for often."""
        # The entry keeps the array alive, so no other object can come to have its id.
        self._known[id(array)] = (array, ffi.from_buffer(_TYPES[array.dtype.name], array))

    def address(self, array: NDArray[Any]) -> Any:
        """A typed pointer to an array's numbers, which must lie without gaps."""
        try:
            return self._known[id(array)][1]
        except KeyError:
            return ffi.from_buffer(_TYPES[array.dtype.name], array)
