"""Retries, counted: asking the same again is another attempt, and its seed says which."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

from tidegate.sampling.params import SamplingParams
from tidegate.sampling.seed import prompt_digest


class Attempts:
    """How often each principal asked each thing, of the `remembered` things asked last."""

    def __init__(self, remembered: int = 1 << 16) -> None:
        self._remembered = remembered
        self._seen: OrderedDict[bytes, int] = OrderedDict()

    def count(
        self,
        principal: str,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        user_seed: int | None,
    ) -> int:
        """How many times this was asked before; asking counts."""
        told = hashlib.blake2b(params.canonical(), digest_size=16, person=b"tidegate.attempt")
        told.update(repr((principal, user_seed)).encode())
        for prompt in prompts:
            told.update(prompt_digest(prompt))
        key = told.digest()
        before = self._seen.pop(key, 0)
        self._seen[key] = before + 1
        if len(self._seen) > self._remembered:
            self._seen.popitem(last=False)
        return before
