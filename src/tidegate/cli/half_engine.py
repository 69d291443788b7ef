"""The strong model as a server that draws: which kind, where, and who speaks to it."""

from __future__ import annotations

from tidegate.config import Engine, Settings
from tidegate.errors import ConfigError
from tidegate.models.engine_replicas import Dialect, Replicas
from tidegate.models.engine_sglang import Sglang
from tidegate.models.engine_vllm import Vllm

SERVERS = ("vllm", "sglang")
"""Engines that are asked over HTTP."""


def opened(settings: Settings, vocab_size: int) -> Replicas | None:
    """The engine, each replica checked; None where the strong model runs in this process.

    Raises ConfigError for settings that do not fit, EngineRefusedError where no replica passes.
    """
    models, asked = settings.models, settings.engine
    if models.engine not in SERVERS:
        if asked != Engine():
            raise ConfigError(f"[engine] is set, but [models] engine is none of {SERVERS}")
        return None
    if not asked.urls:
        raise ConfigError(f"{models.engine} runs as a server: name its replicas in [engine] urls")
    if models.parameters is None:
        raise ConfigError(
            f"{models.engine} does not say how many parameters its model has, on which the budgets "
            "depend; set [models] parameters"
        )
    if settings.inner.measurements is not None:
        raise ConfigError("[inner] measurements need logits, which an engine of its own keeps")
    spoken = dialect(models.engine, asked)
    return Replicas(spoken, asked.urls, vocab_size=vocab_size, key=key_of(asked))


def dialect(engine: str, asked: Engine) -> Dialect:
    """How `engine` is spoken to. Raises ConfigError for one that is no server."""
    if engine == "vllm":
        return Vllm(asked.model, accepted=asked.version)
    if engine == "sglang":
        return Sglang(accepted=asked.version)
    raise ConfigError(f"{engine} is not asked over HTTP; choose one of {', '.join(SERVERS)}")


def key_of(asked: Engine) -> str | None:
    """What is sent as a bearer token. Raises ConfigError."""
    if asked.key_file is None:
        return None
    try:
        return asked.key_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the engine's key from {asked.key_file}: {error}") from error
