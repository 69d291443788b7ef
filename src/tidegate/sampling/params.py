"""Sampling parameters as one immutable value, with an encoding that a seed can be bound to."""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass

from tidegate.errors import TidegateError

MAX_BIAS = 100.0
_HEAD = struct.Struct("<dqddddd")
_BIAS = struct.Struct("<qd")
_RANGES = {
    "temperature": (0.0, 2.0),
    "top_k": (0, 2**31 - 1),
    # vLLM refuses 0; below this only the best token is left anyway.
    "top_p": (1e-9, 1.0),
    "min_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    # vLLM takes any positive number; beyond these float32 logits overflow.
    "repetition_penalty": (0.01, 100.0),
}


class InvalidParamsError(TidegateError):
    """A sampling parameter lies outside its range; `parameter` in the details names it."""

    code = "invalid_params"


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """What shapes the distribution a token is drawn from; names and meaning as in vLLM.

    `temperature` 0 is greedy; `top_k` 0, `top_p` 1 and `min_p` 0 are off. `logit_bias` holds
    (token id, bias in nats before temperature), ascending by id, biases within ±100.

    Raises InvalidParamsError for a value outside its range, NaN included.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise InvalidParamsError(
                    f"{name} must lie between {low:g} and {high:g}", parameter=name
                )
        ids = [-1, *(token for token, _ in self.logit_bias), 2**31]
        ascending = all(below < above for below, above in itertools.pairwise(ids))
        if not ascending or any(not -MAX_BIAS <= bias <= MAX_BIAS for _, bias in self.logit_bias):
            raise InvalidParamsError(
                f"logit_bias must name each token once, ascending, within ±{MAX_BIAS:g}",
                parameter="logit_bias",
            )

    def canonical(self) -> bytes:
        """One byte string per value: fixed-width little-endian fields, then the counted biases."""
        head = _HEAD.pack(
            self.temperature,
            self.top_k,
            self.top_p,
            self.min_p,
            self.presence_penalty,
            self.frequency_penalty,
            self.repetition_penalty,
        )
        biases = b"".join(_BIAS.pack(token, bias) for token, bias in self.logit_bias)
        return head + struct.pack("<q", len(self.logit_bias)) + biases

    @classmethod
    def from_canonical(cls, raw: bytes) -> SamplingParams:
        """The value whose `canonical` bytes are `raw`.

        Raises InvalidParamsError where there is none.
        """
        try:
            temperature, top_k, top_p, min_p, *penalties = _HEAD.unpack_from(raw)
            presence, frequency, repetition = penalties
            (count,) = struct.unpack_from("<q", raw, _HEAD.size)
            biases = tuple(_BIAS.iter_unpack(raw[_HEAD.size + 8 :]))
        except struct.error as error:
            raise InvalidParamsError("the bytes are not those of sampling parameters") from error
        params = cls(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            presence_penalty=presence,
            frequency_penalty=frequency,
            repetition_penalty=repetition,
            logit_bias=biases,
        )
        if count != len(biases) or params.canonical() != raw:
            raise InvalidParamsError("the bytes are not those of sampling parameters")
        return params
