"""Opens a converted folder as a model: hashed, range-checked, and on a back end that was tested."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.models.exact.backends import default_threads
from tidegate.models.exact.format import Converted, read, read_part
from tidegate.models.exact.model import ExactModel
from tidegate.models.exact.parameters import Tensors, expected, parameters_of
from tidegate.models.exact.ranks import Rank, RankedModel
from tidegate.models.exact.selftest import choose
from tidegate.models.exact.stage import Stage, layers_among, names_of, span_of, stage_of
from tidegate.models.port import ModelInfo
from tidegate.models.tokenizer import eos_ids_of

_LINE = 64
"""Bytes of a cache line."""


def load(
    folder: Path,
    *,
    threads: int | None = None,
    max_context: int | None = None,
    device: str = "cpu",
    backend: str | None = None,
) -> ExactModel:
    """The model in a converted folder; `backend` insists on one of `backends.names`.

    `threads` defaults to OMP_NUM_THREADS, or all processors. Raises ModelError or IntegrityError
    naming file and tensor, and ModelError where this machine fails the self-test.
    """
    return model_of(
        read(folder), threads=threads, max_context=max_context, device=device, backend=backend
    )


def model_of(
    converted: Converted,
    *,
    threads: int | None = None,
    max_context: int | None = None,
    device: str = "cpu",
    backend: str | None = None,
) -> ExactModel:
    """As `load`, for a folder that is open."""
    tensors = _in_memory(converted.tensors)
    parameters = parameters_of(converted.shape, tensors)
    count = threads or default_threads()
    engine = choose(parameters, tensors, threads=count, device=device, backend=backend)
    manifest = converted.manifest
    return ExactModel(
        parameters,
        engine.linear,
        engine.ops,
        info=ModelInfo(
            name=manifest.name,
            parameters=converted.shape.parameters,
            licence=manifest.licence,
            provenance=manifest.provenance,
            numerics=f"exact: the same bits everywhere; here {engine.name}, {count} threads",
        ),
        fingerprint=converted.root,
        eos_ids=eos_ids_of(converted.folder),
        max_context=max_context,
    )


def load_stage(
    folder: Path,
    rank: int,
    ranks: int,
    *,
    vouched: bool = False,
    threads: int | None = None,
    device: str = "cpu",
) -> tuple[Stage, Converted]:
    """One rank's part of a converted folder, and what the folder says.

    With `vouched` the folder may be a part itself, whose tensors somebody else has checked, as
    opening a sealed model does; otherwise it has to be whole, and every hash is checked here.
    Raises ModelError or IntegrityError, as `load` and `format.read_part`.
    """

    def needed(names: Collection[str]) -> frozenset[str]:
        return names_of(names, span_of(layers_among(names), rank, ranks))

    converted = read_part(folder, needed) if vouched else read(folder)
    span = span_of(converted.shape.layers, rank, ranks)
    own = names_of(expected(converted.shape), span)
    tensors = _in_memory({name: converted.tensors[name] for name in sorted(own)})
    return stage_of(converted.shape, span, tensors, threads=threads, device=device), converted


def leader_of(
    stage: Stage, converted: Converted, ranks: Sequence[Rank], *, max_context: int | None = None
) -> RankedModel:
    """The model of several ranks, of which `stage` is this process's. Call `recover` first."""
    manifest, shape = converted.manifest, converted.shape
    return RankedModel(
        stage,
        ranks,
        vocab_size=shape.vocab_size,
        context_length=min(shape.context_length, max_context or shape.context_length),
        info=ModelInfo(
            name=manifest.name,
            parameters=shape.parameters,
            licence=manifest.licence,
            provenance=manifest.provenance,
            numerics=f"exact: the same bits everywhere; here over {1 + len(ranks)} ranks",
        ),
        fingerprint=converted.root,
        eos_ids=eos_ids_of(converted.folder),
    )


def _in_memory(tensors: Tensors) -> dict[str, NDArray[Any]]:
    """Copies in one block: out of reach of who can write to the file, and on large pages.

    Large pages alone make decoding a single sequence an eighth faster.
    """
    starts = np.cumsum([0, *(-(-tensor.nbytes // _LINE) * _LINE for tensor in tensors.values())])
    block = np.empty(int(starts[-1]) + _LINE, np.uint8)
    block = block[-block.ctypes.data % _LINE :]
    copies = {}
    for start, (name, tensor) in zip(starts, tensors.items(), strict=False):
        part = block[start : start + tensor.nbytes].view(tensor.dtype)
        copies[name] = part.reshape(tensor.shape)
        copies[name][...] = tensor
    return copies
