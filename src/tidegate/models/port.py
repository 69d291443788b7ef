"""The one way to a model: next-token logits for a batch of growing sequences.

An adapter keeps a cache per sequence id. The same calls, in the same order and with the same
batches, give bit-identical logits on the same machine with the same thread count; a model with
`exact` gives them on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import TidegateError

MODEL_FAILURES: Final = (
    TidegateError,
    ArithmeticError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    ValueError,
)
"""What a model's code may raise."""

F32Array = NDArray[np.float32]

Message = Mapping[str, object]
"""A chat message: `role`, `content`, and whatever else the model's template reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What a reader must know of a model before he trusts a figure made with it.

    `parameters` counts learned numbers (an n-gram's stored counts). `numerics` names everything
    besides the calls that its floats depend on, e.g. dtype, library version and thread count.
    """

    name: str
    parameters: int
    licence: str
    provenance: str
    numerics: str


class Model(Protocol):
    """A strong or weak model. Not thread-safe: one caller at a time."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def eos_ids(self) -> frozenset[int]: ...

    @property
    def context_length(self) -> int:
        """Most tokens a sequence may hold."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 over everything that was loaded; equal on both halves for a weak model."""
        ...

    @property
    def exact(self) -> bool:
        """Whether logits are bit-identical on every machine and for every batch."""
        ...

    def describe(self) -> ModelInfo: ...

    def forward(self, batch: Sequence[tuple[int, Sequence[int]]]) -> F32Array:
        """Append tokens to sequences and return logits_NV for the token after each.

        `batch` holds (sequence id, at least one token id), ids ascending; an unknown id starts a
        new sequence. The result is the caller's own.

        Raises ModelError, with no sequence changed, if a batch is malformed, a token is outside the
        vocabulary or a sequence would exceed `context_length`.
        """
        ...

    def fork(self, sequence_id: int, new_id: int) -> None:
        """Start `new_id` as a copy of a sequence. Raises ModelError for an unknown or taken id."""
        ...

    def drop(self, sequence_id: int) -> None:
        """Forget a sequence. Raises ModelError for an unknown id."""
        ...


@runtime_checkable
class Recovering(Protocol):
    """A model that can be lost as a whole, as when one of several hosts that run it is gone.

    Its `forward` then raises EngineDownError, and goes on doing so until `recover` succeeded.
    """

    def recover(self) -> None:
        """Bring it back, without any sequence. Raises EngineDownError while that cannot be."""
        ...


class Tokenizer(Protocol):
    """Text to token ids and back; the same object on both halves."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def eos_ids(self) -> frozenset[int]: ...

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 over tokenizer, chat template and end tokens."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without added begin or end tokens."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`, special tokens left out; an unfinished character becomes U+FFFD."""
        ...

    def chat(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> list[int]:
        """Token ids of a conversation under the model's own template. Raises ModelError."""
        ...
