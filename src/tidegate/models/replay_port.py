"""The one way to re-execute answers: the logits every token was drawn from, in one forced pass.

Beside `port.Model`, which grows sequences a step at a time: here the answer is known, so all of its
rows run together. An adapter takes an opened model and must be its only user.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from tidegate.errors import ModelError
from tidegate.models.port import F32Array, ModelInfo

Forced = tuple[Sequence[int], Sequence[int]]
"""Prompt ids and output ids, at least one of each."""

PIECE_ROWS: Final = 256
"""Rows of logits held at once: 156 MB at 151,936 words."""


class Replay(Protocol):
    """A model that scores given answers. Not thread-safe: one caller at a time."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and outputs together, the last output not counted."""
        ...

    @property
    def eos_ids(self) -> frozenset[int]: ...

    @property
    def fingerprint(self) -> str:
        """As `port.Model.fingerprint` of the model behind it."""
        ...

    @property
    def exact(self) -> bool:
        """Whether a row is, bit for bit, what decoding one token at a time gives."""
        ...

    def describe(self) -> ModelInfo: ...

    def logits(self, sequences: Sequence[Forced]) -> Iterator[F32Array]:
        """For each (prompt, outputs), in order: logits_TV, row t what output t was drawn from.

        Row 0 follows the whole prompt. An array is the caller's own, and held by nobody else.
        Several sequences may share a pass. Memory is that of the longest answer: use `pieces` where
        answers may be long.

        Raises:
            ModelError: a prompt or an answer is empty, a token is outside the vocabulary, or a
                sequence is longer than the model's context. Nothing was run then.
        """
        ...

    def pieces(self, prompt: Sequence[int], outputs: Sequence[int]) -> Iterator[F32Array]:
        """The rows of one answer, ascending, at most `PIECE_ROWS` at a time, memory bounded.

        Raises:
            ModelError: as `logits`.
        """
        ...


class States(Protocol):
    """An engine that shows what its last product is made from; a `Replay` may be one too."""

    @property
    def vocab_size(self) -> int: ...

    def hidden_states(self, tokens: Sequence[int]) -> F32Array:
        """states_TD, float32, after the final norm, one row a token.

        Raises:
            ModelError: the tokens cannot be run.
            EngineError: the engine failed.
        """
        ...


def check_forced(sequences: Sequence[Forced], *, vocab_size: int, context_length: int) -> None:
    """Raise ModelError unless all of `sequences` can be scored."""
    for number, (prompt, outputs) in enumerate(sequences):
        if not len(prompt) or not len(outputs):
            raise ModelError("a replay needs a prompt and an answer", sequence=number)
        for ids in (prompt, outputs):
            if not (min(ids) >= 0 and max(ids) < vocab_size):
                raise ModelError(
                    "a token id is outside the vocabulary", vocab_size=vocab_size, sequence=number
                )
        length = len(prompt) + len(outputs) - 1
        if length > context_length:
            raise ModelError(
                f"{length} tokens exceed the model's context of {context_length}",
                sequence=number,
                length=length,
                context_length=context_length,
            )
