"""The exact engine at both ends: two machines that share no code path agree, and nobody echoes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from exact_models import model_of, shape_of, tensors
from link_world import VOCABULARY, World, job, same

from tidegate.models.exact.seeded import tensors_of
from tidegate.serve.outer import link_session

SHAPE = shape_of(vocab_size=VOCABULARY, context_length=400)


class Strong:
    """A model inside; `logits` re-executes a text on another back end, alone and from scratch."""

    def __init__(self) -> None:
        weights = tensors_of(SHAPE, "strong")
        self._inside = model_of(SHAPE, "native-portable", weights=weights, pass_rows=5)
        self._outside = model_of(SHAPE, "numpy", weights=weights)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inside, name)

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        logits_V = self._outside.forward([(0, tokens)])[0]
        self._outside.drop(0)
        return logits_V


async def test_exact_ends_agree_across_back_ends_without_an_echo(monkeypatch: Any) -> None:
    echoed: list[object] = []
    monkeypatch.setattr(link_session, "Echo", lambda *parts: echoed.append(parts))
    weights = tensors(SHAPE)
    weak = (
        model_of(SHAPE, "native-avx2", weights=weights, threads=2),
        model_of(SHAPE, "numpy", weights=weights, pass_rows=7),
    )
    jobs = [job(number, max_tokens=9) for number in range(8)]
    async with World(strong=Strong(), weak=weak) as world:
        answers = list(await asyncio.gather(*(world.answer(one) for one in jobs)))
        expected = [world.expected(one) for one in jobs]
    assert all(map(same, answers, expected))
    assert any(len(answer.tokens) > 4 for answer in answers)
    assert echoed == []
