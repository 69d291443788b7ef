"""Bearer keys: who is asking. The file holds keyed hashes, so reading it does not give a key away.

Keys are minted here with 256 bits of entropy, which is why one fast hash is enough: there is
nothing to guess, only a value to look up.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from tidegate.errors import ConfigError

PREFIX = "tg-"
Scope = Literal["infer", "metrics"]
PrincipalName = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}\Z")]

_LONGEST_KEY = 512
"""Characters of a presented key that are hashed at most; longer ones are refused unread."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Whose budget is charged, and what the key may do."""

    name: str
    scopes: frozenset[Scope] = frozenset({"infer"})


class KeyEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One key as stored: `digest` is BLAKE2b-256 of the key under the file's `salt`, in hex."""

    principal: PrincipalName
    digest: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    scopes: tuple[Scope, ...] = ("infer",)
    loopback_only: bool = False


class Keyring(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The keys that are accepted. Immutable; `with_key` gives a larger one."""

    salt: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    keys: tuple[KeyEntry, ...] = ()

    @classmethod
    def empty(cls) -> Keyring:
        """A keyring that accepts nothing, with a fresh salt."""
        return cls(salt=secrets.token_hex(32))

    @classmethod
    def read(cls, path: Path) -> Keyring:
        """A keyring from a JSON file. Raises ConfigError."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except OSError as error:
            raise ConfigError("The key file cannot be read.", path=str(path)) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"The key file is malformed: {error}", path=str(path)) from error

    def encode(self) -> bytes:
        """The JSON that `read` takes."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2)

    def with_key(
        self,
        key: str,
        principal: str,
        *,
        scopes: tuple[Scope, ...] = ("infer",),
        loopback_only: bool = False,
    ) -> Keyring:
        """This keyring and one more key. `loopback_only` keys work from the same host alone: the
        demo's key is public. Raises ConfigError for a principal's name that is not plain."""
        entry = {
            "principal": principal,
            "digest": self._digest(key),
            "scopes": scopes,
            "loopback_only": loopback_only,
        }
        try:
            return Keyring(salt=self.salt, keys=(*self.keys, msgspec.convert(entry, KeyEntry)))
        except msgspec.ValidationError as error:
            raise ConfigError(f"Not a key's entry: {error}") from error

    def principals(self) -> tuple[str, ...]:
        """Everybody who has a key, sorted."""
        return tuple(sorted({entry.principal for entry in self.keys}))

    def principal(self, presented: str, host: str | None) -> Principal | None:
        """Who presents this key from `host`; None if nobody.

        Every entry is compared, in constant time each, so that timing tells nothing about which
        key came close.
        """
        if len(presented) > _LONGEST_KEY:
            return None
        digest = self._digest(presented)
        found: Principal | None = None
        for entry in self.keys:
            same = hmac.compare_digest(digest, entry.digest)
            if same and (not entry.loopback_only or _is_loopback(host)):
                found = Principal(entry.principal, frozenset(entry.scopes))
        return found

    def _digest(self, key: str) -> str:
        salt = bytes.fromhex(self.salt)
        return hashlib.blake2b(key.encode(), key=salt, digest_size=32).hexdigest()


def mint_key() -> str:
    """A new key; shown once, then only its digest is kept."""
    return PREFIX + secrets.token_urlsafe(32)


def _is_loopback(host: str | None) -> bool:
    try:
        return host is not None and ip_address(host).is_loopback
    except ValueError:
        return False
