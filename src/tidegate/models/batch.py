"""What every adapter checks before it touches a sequence: a refused call changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tidegate.errors import ModelError

Batch = Sequence[tuple[int, Sequence[int]]]


def check_batch(
    batch: Batch, *, vocab_size: int, context_length: int, length_of: Callable[[int], int]
) -> None:
    """Raise ModelError unless `batch` may be run; `length_of` is tokens held by a sequence id."""
    if not batch:
        raise ModelError("a forward call needs at least one sequence")
    previous = None
    for sequence_id, tokens in batch:
        if previous is not None and sequence_id <= previous:
            raise ModelError("sequence ids must ascend", sequence_id=sequence_id)
        previous = sequence_id
        if not tokens:
            raise ModelError("a sequence needs at least one token", sequence_id=sequence_id)
        if not (min(tokens) >= 0 and max(tokens) < vocab_size):
            raise ModelError("a token id is outside the vocabulary", vocab_size=vocab_size)
        length = length_of(sequence_id) + len(tokens)
        if length > context_length:
            raise ModelError(
                f"{length} tokens exceed the model's context of {context_length}",
                sequence_id=sequence_id,
                length=length,
                context_length=context_length,
            )
