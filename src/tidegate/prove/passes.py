"""Runs a known sequence through the engine's own forward pass, some positions at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tidegate.models.exact import forward
from tidegate.models.exact.ops import PAGE, Linear, Ops, Rows
from tidegate.models.exact.ops_native import NativeOps, kernels
from tidegate.models.exact.parameters import Parameters
from tidegate.models.exact.selftest import examine
from tidegate.models.port import F32Array
from tidegate.prove.verdict import UnverifiableError

OpsOf = Callable[[Parameters], Ops]
"""Makes the back end that computes everything but products."""


class Passes:
    """One sequence of at most `positions` tokens; products come from `linear`."""

    def __init__(
        self, parameters: Parameters, linear: Linear, ops_of: OpsOf, positions: int
    ) -> None:
        self._parameters = parameters
        self._linear = linear
        self._ops = ops_of(parameters)
        pages = -(-positions // PAGE)
        self._pool = self._ops.pool(pages)
        self._table_1P = np.arange(pages, dtype=np.int32)[None]

    def run(self, tokens: Sequence[int], start: int, wanted: Sequence[int]) -> F32Array:
        """logits_LV after the positions `wanted`, having read `tokens`, the first at `start`.

        Everything before `start` must have run. Raises ModelError as `forward.run`, and whatever
        `linear` raises.
        """
        count = len(tokens)
        rows = Rows(
            token_N=np.array(tokens, np.int32),
            sequence_N=np.zeros(count, np.int32),
            position_N=np.arange(start, start + count, dtype=np.int32),
            tables_SP=self._table_1P,
            last_L=np.array([position - start for position in wanted], np.int32),
            ids=(0,),
        )
        return forward.run(self._parameters, self._linear, self._ops, self._pool, rows)


def native_ops(threads: int) -> OpsOf:
    """The kernels' back end, once it has computed the specified bits on this machine.

    Raises UnverifiableError where it does not.
    """
    kernel = kernels()[-1]
    found = examine(f"native-{kernel}", threads=threads)
    if found.differs:
        raise UnverifiableError(
            f"this machine does not compute the specified bits: native-{kernel} differs in "
            f"{found.differs}"
        )
    return lambda parameters: NativeOps(parameters, kernel=kernel, threads=threads)
