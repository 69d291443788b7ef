"""The back ends of the exact engine by name, and how each is put together.

They differ in speed only. Names say what multiplies: `native-avx2` this package's kernels for that
instruction set, `native-int_mm` the same with torch's int8 product for many rows (it may use AMX),
`torch-blas` and `torch-int_mm` torch alone, `cuda-…` torch on a GPU, `numpy` the definition.
"""

from __future__ import annotations

import importlib.util
import os
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import ConfigError, ModelError
from tidegate.models.exact.ops import Linear, Ops, Rows
from tidegate.models.exact.ops_native import NativeLinear, NativeOps, kernels
from tidegate.models.exact.ops_numpy import NumpyLinear, NumpyOps
from tidegate.models.exact.parameters import Parameters, Tensors

DEVICES = ("cpu", "cuda")

_TORCH = {
    "cpu": ("native-int_mm", "torch-blas", "torch-int_mm"),
    "cuda": ("cuda-blas", "cuda-int_mm"),
}


MANY_ROWS = 64
"""From here on `native-int_mm` lets torch multiply; below, memory is the limit, not arithmetic."""


class Engine(NamedTuple):
    """What a pass runs on."""

    name: str
    linear: Linear
    ops: Ops


def names(device: str = "cpu") -> list[str]:
    """Back ends this machine can run on a device, the likely fastest first.

    Raises ConfigError for an unknown device, ModelError where torch sees no GPU.
    """
    if device not in DEVICES:
        raise ConfigError(f"there is no device {device!r}; choose one of {', '.join(DEVICES)}")
    torch_ones = list(_TORCH[device]) if importlib.util.find_spec("torch") is not None else []
    if device == "cuda":
        _require_cuda()
        return torch_ones
    return [*(f"native-{kernel}" for kernel in reversed(kernels())), *torch_ones, "numpy"]


def default_threads() -> int:
    """OMP_NUM_THREADS if it is set, else the processors this process may use."""
    chosen = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(chosen) if chosen.isdecimal() and int(chosen) else len(os.sched_getaffinity(0))


def build(name: str, parameters: Parameters, tensors: Tensors, *, threads: int = 1) -> Engine:
    """A back end over a model. `tensors` hold the weights. Raises ConfigError for a wrong name."""
    if name not in (*names(), *_TORCH["cuda"]):
        raise ConfigError(f"there is no back end {name!r}; here are {', '.join(names())}")
    shape = parameters.shape
    where, _, how = name.partition("-")
    if name == "numpy":
        return Engine(name, NumpyLinear(shape, tensors), NumpyOps(parameters))
    if where == "native":
        kernel = how if how in kernels() else kernels()[-1]
        native = NativeOps(parameters, kernel=kernel, threads=threads)
        linear = NativeLinear(shape, tensors, native.buffers, kernel=kernel, threads=threads)
        if how == kernel:
            return Engine(name, linear, native)
    try:
        from tidegate.models.exact import ops_torch
    except ImportError as error:
        raise ModelError(f"{name} needs tidegate[torch]: {error}") from error
    ops_torch.settle(threads)
    product: ops_torch.Product = "blas" if how == "blas" else "int_mm"
    if where == "native":
        many = ops_torch.TorchLinear(shape, tensors, product, host=True)
        return Engine(name, _ByRows(linear, many), native)
    device = "cuda" if where == "cuda" else "cpu"
    return Engine(
        name,
        ops_torch.TorchLinear(shape, tensors, product, device=device),
        ops_torch.TorchOps(parameters, device=device),
    )


class _ByRows:
    """Products by one back end for few rows and by another for many."""

    def __init__(self, few: Linear, many: Linear) -> None:
        self._few = few
        self._many = many

    def begin(self, rows: Rows) -> None:
        """Nothing to prepare."""

    def multiply(self, layer: int, op: str, q_NK: NDArray[np.int8]) -> NDArray[np.int32]:
        """See `ops.Linear.multiply`."""
        chosen = self._many if len(q_NK) >= MANY_ROWS else self._few
        acc_NO: NDArray[np.int32] = chosen.multiply(layer, op, q_NK)
        return acc_NO


def _require_cuda() -> None:
    try:
        import torch
    except ImportError as error:
        raise ModelError(f"a GPU needs tidegate[torch]: {error}") from error
    if not torch.cuda.is_available():
        raise ModelError("torch sees no GPU here: install a CUDA build of torch, and check drivers")
