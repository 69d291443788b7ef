"""Weak models worse on purpose, to see how cost follows the distance between the models."""

from __future__ import annotations

from tidegate.config import Models
from tidegate.models.cache import Progress
from tidegate.models.port import Model
from tidegate.models.prepared import prepare
from tidegate.models.transformers_torch import load

SKIPPED = (2, 5)
"""Layers left out of the weak model, before its last."""


def weaker(models: Models, progress: Progress) -> dict[str, Model]:
    """The pair's weak model without some of its layers, by name. Raises ModelError."""
    folder = prepare(models.weak, dtype=models.weak_dtype, progress=progress)
    return {
        f"{models.weak}-minus-{count}": load(
            folder, threads=models.threads, max_context=models.max_context, skip_layers=count
        )
        for count in SKIPPED
    }
