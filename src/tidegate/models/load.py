"""Strong model, weak model and tokenizer by name. For the command line, which wires the halves.

The two halves themselves take ready `port.Model` objects, so importing them loads no engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tidegate.errors import ConfigError, ModelError
from tidegate.models import mixture, ngram, tokenizer
from tidegate.models.cache import Progress, no_progress
from tidegate.models.exact import load as exact
from tidegate.models.exact.format import is_converted
from tidegate.models.ngram_tables import NgramManifest
from tidegate.models.port import Model
from tidegate.models.prepared import Dtype, prepare
from tidegate.models.tokenizer import FileTokenizer

STUDENT = "student"
"""The packaged student of SmolLM2, mixed with the packaged n-gram."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What a link runs on: names, paths or hub ids; `weak` None is the packaged n-gram."""

    strong: str
    weak: str | None


PAIRS = {
    "smollm2": Pair("smollm2", None),
    "qwen": Pair("qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b"),
}


def pair(name: str) -> Pair:
    """A named pair. Raises ConfigError for an unknown name."""
    if name not in PAIRS:
        raise ConfigError(f"no pair is called {name!r}; known: {', '.join(sorted(PAIRS))}")
    return PAIRS[name]


def load_tokenizer(
    spec: str, *, cache_dir: Path | None = None, progress: Progress = no_progress
) -> FileTokenizer:
    """The tokenizer of a model, which is fetched and converted first if need be."""
    return tokenizer.load(prepare(spec, cache_dir=cache_dir, progress=progress))


def load_strong(
    spec: str,
    *,
    dtype: Dtype = "bfloat16",
    threads: int | None = None,
    max_context: int | None = None,
    cache_dir: Path | None = None,
    progress: Progress = no_progress,
) -> Model:
    """A model on the exact engine, if its folder is converted, else on transformers and torch.

    Raises ModelError or IntegrityError.
    """
    folder = prepare(spec, dtype=dtype, cache_dir=cache_dir, progress=progress)
    if is_converted(folder):
        return exact.load(folder, threads=threads, max_context=max_context)
    try:
        from tidegate.models import transformers_torch
    except ImportError as error:
        raise ModelError(f"running {spec!r} needs tidegate[torch]: {error}") from error
    return transformers_torch.load(folder, dtype=dtype, threads=threads, max_context=max_context)


def load_weak(
    spec: str | None,
    words: FileTokenizer,
    *,
    dtype: Dtype = "bfloat16",
    threads: int | None = None,
    cache_dir: Path | None = None,
    progress: Progress = no_progress,
) -> Model:
    """The weak model: the packaged n-gram if `spec` is None, the packaged student beside it if it
    is STUDENT, an n-gram's manifest, or a model.

    Raises ModelError, also if what is packaged was made for another vocabulary than `words` has.
    """
    if spec == STUDENT:
        student = mixture.load(threads=threads)
        _require_vocabulary(student.manifest, words)
        return student
    if spec is not None and not spec.endswith(".json"):
        return load_strong(
            spec, dtype=dtype, threads=threads, cache_dir=cache_dir, progress=progress
        )
    model = ngram.load(None if spec is None else Path(spec))
    _require_vocabulary(model.manifest, words)
    return model


def _require_vocabulary(
    manifest: NgramManifest | mixture.MixtureManifest, words: FileTokenizer
) -> None:
    if manifest.vocabulary_hash != words.vocabulary_hash:
        raise ModelError(f"{manifest.name} was made for another tokenizer")
