"""The one way to an engine that draws tokens itself, such as vLLM with the plug-in in it.

Beside `port.Model`, which hands out logits: here prompt, seed and parameters go in and tokens come
out, each the one that `sampling` draws from the same logits. An adapter that cannot make sure of
that refuses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tidegate.errors import EngineError, ModelError
from tidegate.models.port import ModelInfo
from tidegate.sampling.params import SamplingParams


class EngineLostError(EngineError):
    """The engine fell silent or went away; another one may be asked the same."""

    code = "engine_lost"


class EngineRefusedError(ModelError):
    """The engine will not do what was asked, or cannot be trusted to; the message names why."""

    code = "engine_refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One sequence to draw.

    The token at place n of the answer is drawn with the noise of (`seed`, n). `seed` has 32 bytes
    and does not matter at temperature 0. The sequence ends after `max_tokens` or after a token of
    `ends`, which is part of it; nothing else ends it.
    """

    prompt: tuple[int, ...]
    seed: bytes
    params: SamplingParams
    max_tokens: int
    ends: tuple[int, ...] = ()
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class Drawn:
    """A token, and where asked for its natural log-probability before filters and penalties."""

    token: int
    logprob: float | None = None


class Drawing(Protocol):
    """A sequence that is being drawn."""

    def take(self) -> Drawn:
        """The next token; waits for it, but not for ever.

        Raises EngineLostError where the engine went away, fell silent, ended too early or sent
        nonsense; EngineRefusedError where it will not draw this.
        """
        ...

    def close(self) -> None:
        """Let the engine stop; may be called at any time, and twice."""
        ...


class DrawingEngine(Protocol):
    """An engine, or several of the same model. Calls may come from any thread."""

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and answer together."""
        ...

    def describe(self) -> ModelInfo: ...

    def start(self, ask: Ask) -> Drawing:
        """Begin a sequence; many run at once.

        Raises EngineRefusedError for a prompt that is empty or too long, EngineDownError where
        there is nobody left to ask.
        """
        ...

    def close(self) -> None:
        """End everything; the object is unusable afterwards."""
        ...


def check_ask(ask: Ask, context_length: int) -> None:
    """Raise EngineRefusedError unless `ask` has a prompt and room for its answer."""
    if not ask.prompt or ask.max_tokens < 1:
        raise EngineRefusedError("an engine needs a prompt and at least one token to draw")
    if len(ask.prompt) + ask.max_tokens > context_length:
        raise EngineRefusedError(
            f"{len(ask.prompt)} + {ask.max_tokens} tokens exceed the engine's context of "
            f"{context_length}",
            context_length=context_length,
        )
