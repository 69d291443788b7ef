"""Sampling parameters as one immutable value, with an encoding that a seed can be bound to."""

from __future__ import annotations

import struct
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """What shapes the distribution a token is drawn from; names and meaning as in vLLM.

    `temperature` 0 is greedy; `top_k` 0, `top_p` 1 and `min_p` 0 are off. `logit_bias` holds
    (token id, bias in nats before temperature), ascending by id.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()

    def canonical(self) -> bytes:
        """One byte string per value: fixed-width little-endian fields, then the counted biases."""
        head = struct.pack(
            "<dqddddd",
            self.temperature,
            self.top_k,
            self.top_p,
            self.min_p,
            self.presence_penalty,
            self.frequency_penalty,
            self.repetition_penalty,
        )
        biases = b"".join(struct.pack("<qd", token, bias) for token, bias in self.logit_bias)
        return head + struct.pack("<q", len(self.logit_bias)) + biases
