"""From settings to models: the only place that knows which adapter stands behind a name."""

from __future__ import annotations

from pathlib import Path

from tidegate.config import Models
from tidegate.errors import ConfigError
from tidegate.models import ngram, tokenizer
from tidegate.models.cache import Progress, no_progress
from tidegate.models.port import Model
from tidegate.models.prepared import prepare

PAIRS = {
    "smollm2": Models(strong="smollm2", weak="ngram", max_context=2048),
    "qwen": Models(strong="qwen2.5-coder-1.5b", weak="qwen2.5-coder-0.5b", weak_dtype="bfloat16"),
}
"""Pairs to try without settings; `smollm2` is the default."""

NGRAM = "ngram"


def pair(name: str) -> Models:
    """The models of a named pair. Raises ConfigError."""
    if name not in PAIRS:
        raise ConfigError(f"there is no pair {name!r}; choose one of {', '.join(PAIRS)}")
    return PAIRS[name]


def fetch_all(models: Models, progress: Progress = no_progress) -> None:
    """Bring everything both halves need into the cache. Raises ModelError."""
    if models.engine == "transformers":
        prepare(models.strong, dtype=models.dtype, progress=progress)
    if models.weak != NGRAM:
        prepare(models.weak, dtype=models.weak_dtype, progress=progress)


def strong_model(models: Models, progress: Progress = no_progress) -> Model:
    """The strong model, ready to run. Raises ModelError."""
    if models.engine == "llama.cpp":
        # Imported here, so that a half which runs another engine need not have it installed.
        from tidegate.models import llamacpp
        from tidegate.models.sources import locate

        return llamacpp.load(
            locate(models.strong, None, progress),
            threads=models.threads,
            max_context=models.max_context,
        )
    from tidegate.models import transformers_torch

    return transformers_torch.load(
        prepare(models.strong, dtype=models.dtype, progress=progress),
        threads=models.threads,
        max_context=models.max_context,
    )


def weak_model(models: Models, progress: Progress = no_progress) -> Model:
    """The weak model; without torch where it is the n-gram. Raises ModelError."""
    if models.weak == NGRAM:
        return ngram.load(context_length=models.max_context)
    from tidegate.models import transformers_torch

    return transformers_torch.load(
        prepare(models.weak, dtype=models.weak_dtype, progress=progress),
        threads=models.threads,
        max_context=models.max_context,
    )


def load_tokenizer(models: Models, progress: Progress = no_progress) -> tokenizer.FileTokenizer:
    """The tokenizer both models share. Raises ModelError."""
    folder = (
        Path(models.tokenizer)
        if models.tokenizer
        else prepare(models.strong, dtype=models.dtype, progress=progress)
    )
    return tokenizer.load(folder)
