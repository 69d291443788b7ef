"""Opens a converted folder as a model: hashed, range-checked, and on a back end that was tested."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tidegate.models.exact.backends import default_threads
from tidegate.models.exact.format import Converted, read
from tidegate.models.exact.model import ExactModel
from tidegate.models.exact.parameters import parameters_of
from tidegate.models.exact.selftest import choose
from tidegate.models.port import ModelInfo
from tidegate.models.tokenizer import eos_ids_of


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
    # Copied into memory of its own: faster than a mapped file, and out of reach of its writers.
    tensors = {name: np.array(tensor) for name, tensor in converted.tensors.items()}
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
