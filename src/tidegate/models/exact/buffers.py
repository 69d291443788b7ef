"""Arrays that stay between calls, and their addresses for the kernels.

Looking an address up costs a tenth of asking cffi for it, and a pass needs thousands.
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
        self._views: dict[tuple[str, int], NDArray[Any]] = {}
        self._known: dict[int, tuple[NDArray[Any], Any]] = {}

    def get(self, name: str, dtype: Any, rows: int, *columns: int) -> NDArray[Any]:
        """An array (rows, *columns) with arbitrary contents; asked again, the same one."""
        view = self._views.get((name, rows))
        if view is None:
            whole = self._whole.get(name)
            if whole is None or len(whole) < rows:
                for key in [key for key in self._views if key[0] == name]:
                    del self._known[id(self._views.pop(key))]
                whole = self._whole[name] = np.empty((rows, *columns), dtype)
            view = self._views[name, rows] = whole[:rows]
            self.keep(view)
        return view

    def keep(self, array: NDArray[Any]) -> None:
        """Remember the address of an array that will be asked for often."""
        # The entry keeps the array alive, so no other object can come to have its id.
        self._known[id(array)] = (array, ffi.from_buffer(_TYPES[array.dtype.name], array))

    def address(self, array: NDArray[Any]) -> Any:
        """A typed pointer to an array's numbers, which must lie without gaps."""
        known = self._known.get(id(array))
        if known is not None:
            return known[1]
        return ffi.from_buffer(_TYPES[array.dtype.name], array)
