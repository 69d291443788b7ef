"""Bearer tokens of the broker's API: a token says who asks, and nothing about what he may.

What he may is the policy's to say. Tokens have 256 random bits, so one fast hash keeps a file of
them from giving any away.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Annotated

import msgspec

from tidegate.errors import ConfigError
from tidegate.ledger.budgets import Name
from tidegate.vault.grant_policy import Hash

PREFIX = "tgv-"
_LONGEST = 128


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    principal: Name
    digest: Hash


class Tokens(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose tokens are taken. Immutable; `with_token` gives a larger one."""

    tokens: Annotated[tuple[_Entry, ...], msgspec.Meta(max_length=4096)] = ()

    @classmethod
    def decode(cls, raw: bytes) -> Tokens:
        """What `encode` made. Raises ConfigError."""
        try:
            return msgspec.json.decode(raw, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"The file of tokens is malformed: {error}") from error

    def encode(self) -> bytes:
        """JSON, without the tokens themselves."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    def with_token(self, principal: str, token: str) -> Tokens:
        """These and one more. Raises ConfigError for a name that cannot be recorded."""
        try:
            entry = msgspec.convert({"principal": principal, "digest": _digest(token)}, _Entry)
        except msgspec.ValidationError as error:
            raise ConfigError(f"Not a principal's name: {error}") from error
        return Tokens((*self.tokens, entry))

    def principal(self, presented: str) -> str | None:
        """Whose token that is; every one is compared, in constant time each."""
        if len(presented) > _LONGEST:
            return None
        digest, found = _digest(presented), None
        for entry in self.tokens:
            if hmac.compare_digest(digest, entry.digest):
                found = entry.principal
        return found


def mint() -> str:
    """A new token; shown once, then only its digest is kept."""
    return PREFIX + secrets.token_urlsafe(32)


def _digest(token: str) -> str:
    return hashlib.sha256(b"tidegate vault token v1\n" + token.encode()).hexdigest()
