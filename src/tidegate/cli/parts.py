"""From settings to models: the only place that knows which adapter stands behind a name."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tidegate.config import Models
from tidegate.errors import ConfigError
from tidegate.models import load, tokenizer
from tidegate.models.cache import Progress, no_progress
from tidegate.models.cpu import quick_dtype
from tidegate.models.packages import pins
from tidegate.models.port import Model, ModelInfo
from tidegate.models.prepared import MANIFEST, manifest_of, prepare
from tidegate.models.tokenizer import FileTokenizer
from tidegate.vault.seal_files import NOTE

NGRAM = "ngram"

PAIRS = {
    "smollm2": Models(strong="smollm2", weak=NGRAM, max_context=2048),
    "qwen": Models(strong="qwen2.5-coder-1.5b", weak="qwen2.5-coder-0.5b", weak_dtype="bfloat16"),
}
"""Pairs to try without settings; `smollm2` is the default."""


def pair(name: str) -> Models:
    """The models of a named pair, in types this machine is quick at. Raises ConfigError."""
    if name not in PAIRS:
        raise ConfigError(f"there is no pair {name!r}; choose one of {', '.join(PAIRS)}")
    models, quick = PAIRS[name], quick_dtype()
    # Both halves of a pair run on this machine, so they come to the same choice.
    slow = {
        field: quick
        for field in ("dtype", "weak_dtype")
        if quick == "float32" and getattr(models, field) == "bfloat16"
    }
    return models.model_copy(update=slow)


def fetch_all(models: Models, progress: Progress = no_progress) -> None:
    """Bring everything both halves need into the cache. Raises ModelError."""
    prepare(models.strong, dtype=models.dtype, progress=progress)
    if models.weak not in (NGRAM, load.STUDENT) and not models.weak.endswith(".json"):
        prepare(models.weak, dtype=models.weak_dtype, progress=progress)


def strong_model(models: Models, progress: Progress = no_progress) -> Model:
    """The strong model, ready to run here. Raises ModelError, or ConfigError for a server's."""
    if models.engine in ("vllm", "sglang"):
        raise ConfigError(f"{models.engine} runs as a server, which only an inner half can ask")
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
    """The weak model; without torch where it is the n-gram or the student. Raises ModelError."""
    return load.load_weak(
        None if models.weak == NGRAM else models.weak,
        load_tokenizer(models, progress),
        dtype=models.weak_dtype,
        threads=models.threads,
        progress=progress,
    )


def load_tokenizer(models: Models, progress: Progress = no_progress) -> FileTokenizer:
    """The tokenizer both models share. Raises ModelError."""
    return tokenizer.load(_tokenizer_folder(models, progress))


def context_length(models: Models) -> int:
    """Tokens of prompt and answer: the settings' bound, or the strong model's own if less.

    The outer half reads the latter beside the tokenizer, where it is known.
    """
    try:
        text = (_tokenizer_folder(models) / "config.json").read_bytes()
    except FileNotFoundError:
        return models.max_context
    longest = msgspec.json.decode(text, type=_Config).max_position_embeddings
    return min(models.max_context, longest or models.max_context)


class _Config(msgspec.Struct):
    max_position_embeddings: int | None = None


def strong_parameters(models: Models) -> int:
    """How many parameters the budgets guard; from the settings or the strong model's manifest.

    Raises ConfigError where neither says.
    """
    if models.parameters is not None:
        return models.parameters
    folder = prepare(models.strong, dtype=models.dtype)
    found = manifest_of(folder, frozenset()).parameters if (folder / MANIFEST).exists() else 0
    if not found:
        raise ConfigError(
            f"{models.strong} does not say how many parameters it has, on which the budgets "
            "depend; set [models] parameters"
        )
    return found


def _tokenizer_folder(models: Models, progress: Progress = no_progress) -> Path:
    if models.tokenizer:
        return Path(models.tokenizer)
    if (Path(models.strong) / NOTE).is_file():
        raise ConfigError(
            f"{models.strong} is sealed, its tokenizer with it; set [models] tokenizer to a folder "
            "that holds the tokenizer's files and no weights"
        )
    return prepare(models.strong, dtype=models.dtype, progress=progress)


def title(spec: str) -> str:
    """What people call the model that settings call `spec`."""
    pin = pins().get(spec)
    return pin.title if pin is not None else spec


def weak_card(models: Models, info: ModelInfo) -> str:
    """The weak model in one sentence: size, licence, provenance, and how much worse it is."""
    size = f"{info.name}, {info.parameters / 1e6:,.1f} M parameters, {info.licence}. "
    return size + info.provenance
