"""What the HTTP application is configured with; units in names or types, reasons beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tidegate.openai_api.requests import Caps
from tidegate.units import Bytes, Seconds

_BODY = Bytes(1 << 20)
"""Eight bytes of JSON for each token of a context of 128k."""

_IDLE = Seconds(30.0)
"""A peer that does nothing for this long is taken for gone."""

STREAMS: Final = 256
"""Streams that may be open for everybody together, for each lane."""

_TICK = Seconds(0.05)
"""Coarser than a step of the link takes, finer than a reader notices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """The one model behind the engine, as users see it.

    `fingerprint` is the `system_fingerprint` of answers: equal values mean equal weights and code.
    """

    id: str
    created: int
    context_length: int
    vocab_size: int
    fingerprint: str
    owner: str = "tidegate"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Limits and paces of the HTTP side.

    `chunk_interval`: answers leave only at multiples of it on the outer monotonic clock, so that
    the moment at which the inner half answered is not passed on. 0 passes them on as they come.
    `max_waiting_chars`: decoded text that one answer may have waiting for its reader; beyond it the
    answer is cancelled. A reader is never waited for, since streams advance in lock-step.
    `send_timeout`: how long one write may be blocked by a reader that stopped reading.
    `reasoning`: whether the inner half has delimiters for it.
    `open_metrics`: serve `/metrics` without a key; for a scraper on a network of its own.
    """

    max_tokens: int = 4096
    max_choices: int = 16
    max_best_of: int = 16
    max_body: Bytes = _BODY
    body_timeout: Seconds = _IDLE
    chunk_interval: Seconds = _TICK
    max_waiting_chars: int = 1 << 18
    send_timeout: Seconds = _IDLE
    streams_per_principal: int = 32
    streams: int = STREAMS
    open_metrics: bool = False
    reasoning: bool = False

    def caps(self, model: ServedModel) -> Caps:
        """What one request may ask of `model`."""
        return Caps(
            context_length=model.context_length,
            vocab_size=model.vocab_size,
            max_tokens=min(self.max_tokens, model.context_length),
            max_choices=self.max_choices,
            max_best_of=self.max_best_of,
            reasoning=self.reasoning,
        )
