"""Servers that are not what was promised: another model, temperature, seed or sampler."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tidegate.redteam.lab import Honest, Turn
from tidegate.redteam.outer import named


class WrongSampler(Honest):
    """Draws with other parameters than were asked for: `temperature`, or `top_k`, where given."""

    def __init__(
        self, vocab_size: int, *, temperature: float | None = None, top_k: int | None = None
    ) -> None:
        super().__init__(vocab_size)
        self._temperature = temperature
        self._top_k = top_k

    def send(self, turn: Turn) -> Sequence[int]:
        jobs = []
        for job in turn.jobs:
            params = job.params
            if self._temperature is not None:
                params = dataclasses.replace(params, temperature=self._temperature)
            if self._top_k is not None:
                params = dataclasses.replace(params, top_k=self._top_k)
            jobs.append(dataclasses.replace(job, params=params))
        return super().send(Turn(tuple(jobs), turn.position, turn.logits_NV))


class WrongSeed(Honest):
    """Draws with a seed of its own in place of the one it was given."""

    def send(self, turn: Turn) -> Sequence[int]:
        jobs = [dataclasses.replace(job, seed=named(f"own {job.index}")) for job in turn.jobs]
        return super().send(Turn(tuple(jobs), turn.position, turn.logits_NV))
