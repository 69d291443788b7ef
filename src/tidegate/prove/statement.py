"""What was asked and what was answered, and the 32-byte values that a receipt holds of it.

The verifier takes a statement from whoever asked, never from the prover. Encoding and digests are
those of `spec/prove.md`. All but the nonce is hashed under the seed, so that a receipt tells
nothing of a prompt to somebody without the seed. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from tidegate.errors import ConfigError
from tidegate.sampling.finish import FinishReason, Limits
from tidegate.sampling.params import SamplingParams
from tidegate.sampling.seed import SEED_BYTES, commitment

NONCE_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One choice of one request, as the outer half asked it.

    `seed` is what the seed service derived (spec/sampling-seed.md). `nonce` names this request and
    no other. Raises ConfigError for a seed or nonce of the wrong length, or no prompt.
    """

    nonce: bytes
    seed: bytes
    prompt_ids: tuple[int, ...]
    params: SamplingParams
    limits: Limits

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_BYTES or len(self.nonce) != NONCE_BYTES:
            raise ConfigError(f"a request's seed and nonce have {SEED_BYTES} bytes each")
        if not self.prompt_ids or min(self.prompt_ids) < 0:
            raise ConfigError("a request needs a prompt of token ids")
        if self.limits.max_tokens < 1:
            raise ConfigError("a request asks for at least one token")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A request and its answer: the tokens, the one that ended it included, and why it ended."""

    request: Request
    tokens: tuple[int, ...]
    reason: FinishReason

    def __post_init__(self) -> None:
        if not self.tokens or min(self.tokens) < 0:
            raise ConfigError("an answer has at least one token")


FIELDS = ("nonce", "seed", "prompt", "sampling", "stop", "answer")
"""In the order receipts list and verifiers compare them."""


def digests(statement: Statement) -> dict[str, bytes]:
    """The 32 bytes a receipt holds for each of FIELDS."""
    request = statement.request
    limits = request.limits

    def hashed(person: bytes, parts: Iterable[bytes]) -> bytes:
        digest = hashlib.blake2b(digest_size=32, key=request.seed, person=person)
        for part in parts:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        return digest.digest()

    stop = (_integer(limits.max_tokens), _integer(limits.ignore_eos))
    return {
        "nonce": request.nonce,
        "seed": commitment(request.seed),
        "prompt": hashed(b"tidegate.prp.v1", map(_integer, request.prompt_ids)),
        "sampling": hashed(b"tidegate.prs.v1", [request.params.canonical()]),
        "stop": hashed(b"tidegate.pre.v1", [*stop, *(text.encode() for text in limits.stop)]),
        "answer": hashed(
            b"tidegate.pra.v1", [statement.reason.encode(), *map(_integer, statement.tokens)]
        ),
    }


def _integer(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    nonce: str
    seed: str
    prompt_ids: tuple[int, ...]
    params: dict[str, Any]
    max_tokens: int
    stop: tuple[str, ...]
    ignore_eos: bool


class _Stated(msgspec.Struct, forbid_unknown_fields=True):
    request: _Asked
    tokens: tuple[int, ...]
    reason: FinishReason


def encode(value: Request | Statement) -> bytes:
    """JSON, indented: it holds prompt and seed, so keep it as closely as those."""
    plain = _stated(value) if isinstance(value, Statement) else _asked(value)
    return msgspec.json.format(msgspec.json.encode(plain), indent=1)


def decode_request(raw: bytes) -> Request:
    """Read a request. Raises ConfigError (InvalidParamsError for a parameter out of range)."""
    try:
        return _request(msgspec.json.decode(raw, type=_Asked))
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise ConfigError(f"this is not a request: {error}") from error


def decode(raw: bytes) -> Statement:
    """Read a statement. Raises as `decode_request`."""
    try:
        stated = msgspec.json.decode(raw, type=_Stated)
        return Statement(
            request=_request(stated.request), tokens=stated.tokens, reason=stated.reason
        )
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise ConfigError(f"this is not a statement: {error}") from error


def _request(asked: _Asked) -> Request:
    biases = tuple((int(token), float(bias)) for token, bias in asked.params.pop("logit_bias", ()))
    return Request(
        nonce=bytes.fromhex(asked.nonce),
        seed=bytes.fromhex(asked.seed),
        prompt_ids=asked.prompt_ids,
        params=SamplingParams(**asked.params, logit_bias=biases),
        limits=Limits(max_tokens=asked.max_tokens, stop=asked.stop, ignore_eos=asked.ignore_eos),
    )


def _asked(request: Request) -> _Asked:
    return _Asked(
        nonce=request.nonce.hex(),
        seed=request.seed.hex(),
        prompt_ids=request.prompt_ids,
        params=asdict(request.params),
        max_tokens=request.limits.max_tokens,
        stop=request.limits.stop,
        ignore_eos=request.limits.ignore_eos,
    )


def _stated(statement: Statement) -> _Stated:
    return _Stated(_asked(statement.request), statement.tokens, statement.reason)
