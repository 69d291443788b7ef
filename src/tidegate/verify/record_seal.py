"""Seals what is private of an answer to a verifier's key, and opens and checks it there.

HPKE (RFC 9180), base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305, one message
a key encapsulation; `info` is `record.private.binding`. Base mode does not say who sealed: that the
outer half did is what the record's signed tree says.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from tidegate.errors import ConfigError, RecordError
from tidegate.record.entries import Begin, params_of
from tidegate.record.private import Private, binding_of, unpack
from tidegate.sampling.params import SamplingParams
from tidegate.sampling.seed import commitment, prompt_digest
from tidegate.verify.record_findings import Finding, Kind

_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


class Seeds(Protocol):
    """Where seeds come from; `sampling.seed.SeedService` is one."""

    def derive(
        self,
        *,
        request_id: str,
        prompt_hash: bytes,
        params: SamplingParams,
        attempt: int,
        user_seed: int | None,
        choice: int,
    ) -> bytes: ...


def key_id(public_key: bytes) -> str:
    """The first eight bytes of SHA-256(public key), in hexadecimal."""
    return hashlib.sha256(public_key).hexdigest()[:16]


class SealTo:
    """`record.private.Seal` to an X25519 public key of 32 bytes. Raises ConfigError for another."""

    def __init__(self, public_key: bytes) -> None:
        try:
            self._public = X25519PublicKey.from_public_bytes(public_key)
        except ValueError as error:
            raise ConfigError("a verifier's key has 32 bytes") from error
        self.key = key_id(public_key)

    def seal(self, plain: bytes, info: bytes) -> bytes:
        """`enc || ciphertext`, 48 bytes longer than `plain`."""
        return _SUITE.encrypt(plain, self._public, info)


class Opener:
    """A verifier's X25519 private key."""

    def __init__(self, key: X25519PrivateKey) -> None:
        self._key = key
        self.public_key = key.public_key().public_bytes_raw()
        self.key = key_id(self.public_key)

    def __repr__(self) -> str:
        return f"Opener({self.key})"

    def open(self, begin: Begin) -> Private:
        """What is private of an answer, sealed or not.

        Raises:
            RecordError: sealed to another key, moved from another answer, or malformed.
        """
        if not begin.key:
            return unpack(begin.private)
        if begin.key != self.key:
            raise RecordError("What is private of an answer is sealed to another verifier's key.")
        try:
            return unpack(_SUITE.decrypt(begin.private, self._key, binding_of(begin)))
        except (InvalidTag, ValueError) as error:
            raise RecordError("What is private of an answer does not open.") from error


def open_private(
    begin: Begin, number: int, opener: Opener | None, seeds: Seeds | None = None
) -> Private | Finding:
    """What is private of answer `number`, once it was held against what was said in the clear.

    1. It opens, and the sampling parameters are some.
    2. The seed is the one committed to.
    3. The prompt is as long as was said.
    4. Where the verifier has the key of `seeds`, the seed is the one derived from all of it: then
       nobody chose it, and neither prompt nor parameters were put in its place afterwards.
    """
    try:
        private = unpack(begin.private) if not begin.key else _opened(begin, opener)
        params = params_of(begin)
    except RecordError as error:
        return _found(Kind.UNREADABLE, error.message, number)
    if not hmac.compare_digest(commitment(private.seed).hex(), begin.seed):
        return _found(Kind.CONTRADICTORY_SEEDS, "The seed is not the one committed to.", number)
    if len(private.prompt) != begin.prompt_tokens:
        return _found(Kind.CORRUPT, "The prompt is not as long as was said.", number)
    if seeds is not None:
        derived = seeds.derive(
            request_id=begin.request,
            prompt_hash=prompt_digest(private.prompt),
            params=params,
            attempt=begin.attempt,
            user_seed=private.user_seed,
            choice=begin.choice,
        )
        if not hmac.compare_digest(derived, private.seed):
            reason = "The seed is not the one that request, prompt and parameters give."
            return _found(Kind.CONTRADICTORY_SEEDS, reason, number)
    return private


def _opened(begin: Begin, opener: Opener | None) -> Private:
    if opener is None:
        raise RecordError("What is private of an answer is sealed, and there is no key.")
    return opener.open(begin)


def _found(kind: Kind, reason: str, number: int) -> Finding:
    return Finding(kind=kind, reason=reason, entry=number, response=number)
