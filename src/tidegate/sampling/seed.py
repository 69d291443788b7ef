"""Seeds that the inner zone cannot choose.

A request's seed is a keyed pseudo-random function of everything that names the draw. The key stays
outside the inner zone, so whoever owns the model host can neither pick a seed nor try many: a retry
is another `attempt`, and attempts are counted. A user's own seed is one input among the others.
The encoding is specified in `spec/sampling-seed.md`; the function is keyed BLAKE2b (RFC 7693).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from tidegate.errors import ConfigError
from tidegate.sampling.params import SamplingParams

SEED_BYTES = 32
MIN_KEY_BYTES = 16
MAX_KEY_BYTES = hashlib.blake2b.MAX_KEY_SIZE

_DERIVE = b"tidegate.seed.v1"
_SUB_SEED = b"tidegate.sub.v1"
_COMMITMENT = b"tidegate.com.v1"
_PROMPT = b"tidegate.pmt.v1"


class SeedService:
    """Derives request seeds from a secret key of 16 to 64 bytes.

    Equal inputs give equal seeds, so that a request can be re-executed; any difference gives an
    unrelated seed. Raises ConfigError for a key of the wrong length.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
            raise ConfigError(
                f"the seed key must have {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes; make one with "
                "`secrets.token_bytes(32)`",
                key_bytes=len(key),
            )
        self._key = bytes(key)

    def __repr__(self) -> str:
        return f"SeedService(<secret key of {len(self._key)} bytes>)"

    def derive(
        self,
        *,
        request_id: str,
        prompt_hash: bytes,
        params: SamplingParams,
        attempt: int,
        user_seed: int | None,
        choice: int,
    ) -> bytes:
        """The 32-byte seed of one choice of one attempt of one request.

        `attempt` counts retries from 0, `choice` the n answers from 0; `user_seed` may be any
        integer. `prompt_hash` is `prompt_digest` of the prompt's token ids.
        """
        fields = (
            request_id.encode(),
            prompt_hash,
            params.canonical(),
            _integer(attempt),
            b"" if user_seed is None else _integer(user_seed),
            _integer(choice),
        )
        return _blake2b(fields, _DERIVE, key=self._key)


def sub_seed(seed: bytes, domain: str, index: int = 0) -> bytes:
    """A 32-byte seed for another use of the same request; `domain` names the use.

    Raises ConfigError unless `seed` has 32 bytes.
    """
    return _blake2b((domain.encode(), _integer(index)), _SUB_SEED, key=_checked(seed))


def commitment(seed: bytes) -> bytes:
    """32 bytes that fix `seed` and say nothing else of it; safe to publish before the answer.

    Hiding rests on the seed being 256 unpredictable bits, binding on BLAKE2b's collision
    resistance. Raises ConfigError unless `seed` has 32 bytes.
    """
    return _blake2b((), _COMMITMENT, key=_checked(seed))


def prompt_digest(prompt_ids: Iterable[int]) -> bytes:
    """The 32-byte hash of a prompt's token ids that seeds are bound to."""
    return _blake2b(map(_integer, prompt_ids), _PROMPT)


def _checked(seed: bytes) -> bytes:
    if len(seed) != SEED_BYTES:
        raise ConfigError(f"a seed has {SEED_BYTES} bytes", seed_bytes=len(seed))
    return seed


def _integer(value: int) -> bytes:
    """Shortest two's-complement little-endian form; never empty, so None can be the empty field."""
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


def _blake2b(fields: Iterable[bytes], person: bytes, key: bytes = b"") -> bytes:
    digest = hashlib.blake2b(digest_size=SEED_BYTES, key=key, person=person)
    for field in fields:
        # The length goes first, so no two lists of fields share an encoding.
        digest.update(len(field).to_bytes(8, "little"))
        digest.update(field)
    return digest.digest()
