"""From settings to models: the only place that knows which adapter stands behind a name."""

from __future__ import annotations

from pathlib import Path

from tidegate.config import Models
from tidegate.errors import ConfigError
from tidegate.models import load, tokenizer
from tidegate.models.cache import Progress, no_progress
from tidegate.models.port import Model, ModelInfo
from tidegate.models.prepared import manifest_of, prepare
from tidegate.models.tokenizer import FileTokenizer

NGRAM = "ngram"

PAIRS = {
    "smollm2": Models(strong="smollm2", weak=NGRAM, max_context=2048),
    "qwen": Models(strong="qwen2.5-coder-1.5b", weak="qwen2.5-coder-0.5b", weak_dtype="bfloat16"),
}
"""Pairs to try without settings; `smollm2` is the default."""


def pair(name: str) -> Models:
    """The models of a named pair. Raises ConfigError."""
    if name not in PAIRS:
        raise ConfigError(f"there is no pair {name!r}; choose one of {', '.join(PAIRS)}")
    return PAIRS[name]


def fetch_all(models: Models, progress: Progress = no_progress) -> None:
    """Bring everything both halves need into the cache. Raises ModelError."""
    prepare(models.strong, dtype=models.dtype, progress=progress)
    if models.weak != NGRAM:
        prepare(models.weak, dtype=models.weak_dtype, progress=progress)


def strong_model(models: Models, progress: Progress = no_progress) -> Model:
    """The strong model, ready to run. Raises ModelError."""
    if models.engine == "llama.cpp":
        # Imported here, so that a half which runs another engine need not have it installed.
        from tidegate.models import llamacpp
        from tidegate.models.sources import locate

        return llamacpp.load(locate(models.strong, None, progress), threads=models.threads)
    return load.load_strong(
        models.strong,
        dtype=models.dtype,
        threads=models.threads,
        max_context=models.max_context,
        progress=progress,
    )


def weak_model(models: Models, progress: Progress = no_progress) -> Model:
    """The weak model; without torch where it is the n-gram. Raises ModelError."""
    return load.load_weak(
        None if models.weak == NGRAM else models.weak,
        load_tokenizer(models, progress),
        dtype=models.weak_dtype,
        threads=models.threads,
        progress=progress,
    )


def load_tokenizer(models: Models, progress: Progress = no_progress) -> FileTokenizer:
    """The tokenizer both models share. Raises ModelError."""
    if models.tokenizer:
        return tokenizer.load(Path(models.tokenizer))
    return tokenizer.load(prepare(models.strong, dtype=models.dtype, progress=progress))


def strong_parameters(models: Models) -> int:
    """How many parameters the budgets guard; from the settings or the strong model's manifest."""
    if models.parameters is not None:
        return models.parameters
    return manifest_of(prepare(models.strong, dtype=models.dtype), frozenset()).parameters


def weak_card(models: Models, info: ModelInfo) -> str:
    """The weak model in one sentence: size, licence, provenance, and how much worse it is."""
    size = f"{info.name}, {info.parameters / 1e6:,.1f} M parameters, {info.licence}. "
    return size + info.provenance
