"""The verifier's own copy of the model, by name: `exact:…`, `transformers:…`, `llama.cpp:…`, or
`vllm:NAME@URL` for a server of the verifier's that gives hidden states."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal

import msgspec

from tidegate.errors import ConfigError, ModelError
from tidegate.models import tokenizer as words
from tidegate.models.cache import Progress, no_progress
from tidegate.models.exact.format import is_converted
from tidegate.models.prepared import EXACT, Dtype, prepare
from tidegate.models.replay_port import Replay, States
from tidegate.models.sources import locate
from tidegate.models.tokenizer import FileTokenizer

Engine = Literal["exact", "transformers", "llama.cpp", "vllm"]

KEY_VARIABLE: Final = "VLLM_API_KEY"  # as vLLM itself calls it


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which model, on which engine. `dtype` matters to transformers and vllm; `tokenizer` names the
    model whose tokenizer served, where it is not the model's own. `threads` None: the engine's."""

    engine: Engine
    name: str
    dtype: Dtype = "bfloat16"
    tokenizer: str | None = None
    threads: int | None = None
    max_context: int | None = None


def parse(text: str) -> tuple[Engine, str]:
    """Engine and name in `engine:name`. Raises ConfigError for anything else."""
    engine, colon, name = text.partition(":")
    if colon and name:
        if engine == "exact":
            return "exact", name
        if engine == "transformers":
            return "transformers", name
        if engine == "llama.cpp":
            return "llama.cpp", name
        if engine == "vllm" and all(_served(name)):
            return "vllm", name
    raise ConfigError(
        f"{text!r} names no model; write exact:NAME, transformers:NAME, llama.cpp:NAME or "
        "vllm:NAME@http://host:port, with a packaged name (`tidegate models list`), a folder, a "
        "GGUF file or a hub id"
    )


def _served(name: str) -> tuple[str, str]:
    """The model's folder or name, and where it is served; one is empty in a malformed name."""
    model, _, url = name.rpartition("@")
    return model, url if url.startswith(("http://", "https://")) else ""


def folder_of(spec: Spec, progress: Progress = no_progress) -> Path:
    """What `spec` names, on disk, fetched and converted if need be. Raises ModelError."""
    if spec.engine == "llama.cpp":
        return locate(spec.name, None, progress)
    if spec.engine == "vllm":
        return prepare(_served(spec.name)[0], dtype=spec.dtype, progress=progress)
    path = Path(spec.name).expanduser()
    if spec.engine == "exact" and not (path.is_dir() and is_converted(path)):
        return prepare(EXACT + spec.name, progress=progress)
    return prepare(spec.name, dtype=spec.dtype, progress=progress)


def open_tokenizer(spec: Spec, progress: Progress = no_progress) -> FileTokenizer:
    """The tokenizer that finish rules need. Raises ModelError."""
    if spec.tokenizer is not None or spec.engine == "llama.cpp":
        return words.load(prepare(spec.tokenizer or spec.name, progress=progress))
    return words.load(folder_of(spec, progress))


def open_replay(spec: Spec, progress: Progress = no_progress) -> Replay:
    """The model, ready to score answers. Raises ModelError or IntegrityError."""
    folder = folder_of(spec, progress)
    if spec.engine == "exact":
        from tidegate.models.exact import load as exact
        from tidegate.models.replay_exact import ExactReplay

        model = exact.load(folder, threads=spec.threads, max_context=spec.max_context)
        return ExactReplay(model)
    if spec.engine == "vllm":
        from tidegate.models.replay_vllm import VllmReplay, open_head

        head = open_head(folder, spec.dtype)
        return VllmReplay(_served(spec.name)[1], head, key=os.environ.get(KEY_VARIABLE))
    try:
        if spec.engine == "llama.cpp":
            from tidegate.models import llamacpp
            from tidegate.models.replay_llama_cpp import LlamaCppReplay

            return LlamaCppReplay(llamacpp.load(folder, threads=spec.threads or 2, sequences=2))
        from tidegate.models import transformers_torch
        from tidegate.models.replay_transformers import TransformersReplay
    except ImportError as error:
        extra = "llama" if spec.engine == "llama.cpp" else "torch"
        raise ModelError(f"replaying on {spec.engine} needs tidegate[{extra}]: {error}") from error
    return TransformersReplay(
        transformers_torch.load(
            folder, dtype=spec.dtype, threads=spec.threads, max_context=spec.max_context
        )
    )


def open_states(spec: Spec, progress: Progress = no_progress) -> States:
    """An engine that shows its hidden states: transformers or vllm. Raises as `open_replay`, and
    ConfigError for another engine."""
    if spec.engine not in ("transformers", "vllm"):
        raise ConfigError(f"{spec.engine} shows no hidden states; compare transformers and vllm")
    states: States = open_replay(spec, progress)  # type: ignore[assignment]
    return states
