"""Who may log in, and as what. Passwords are kept as Argon2id hashes in one file.

Settings of Argon2id: RFC 9106's second recommended option (64 MiB, three passes, four lanes).
"""

from __future__ import annotations

import secrets
import threading
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from tidegate.console.errors import ConsoleError
from tidegate.disk import replace_whole

LEAST_PASSWORD: Final = 12
MOST_PASSWORD: Final = 256
_SALT: Final = 16

Name = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9._@-]{0,63}\Z")]


class Role(StrEnum):
    """What a person may do beside looking."""

    VIEWER = "viewer"
    """Nothing: looks, and sees neither prompts nor answers."""
    APPROVER = "approver"
    """Approve and deny requests for weights."""
    OPERATOR = "operator"
    """Close alerts."""


class Person(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One who may log in. `reads_prompts`: may see what users wrote and were told."""

    name: Name
    role: Role
    password: str
    reads_prompts: bool = False

    def may(self, role: Role) -> bool:
        """Whether this person may do what `role` is for. Everybody may look; an operator does not
        approve, nor an approver close alerts, so that it takes two people to do both."""
        return role in (Role.VIEWER, self.role)


class People:
    """The file of those who may log in. Raises ConsoleError where it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._unknown = _hashed(secrets.token_hex(16))

    def all(self) -> tuple[Person, ...]:
        """Everybody, as the file is now."""
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise ConsoleError(f"{self._path} cannot be read: {error.strerror}") from error
        try:
            return msgspec.json.decode(raw, type=tuple[Person, ...])
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise ConsoleError(f"{self._path} is no list of people: {error}") from error

    def one(self, name: str) -> Person | None:
        """Somebody by name."""
        return next((person for person in self.all() if person.name == name), None)

    def put(self, name: str, role: Role, password: str, *, reads_prompts: bool = False) -> None:
        """Add somebody, or give him another password and role. Raises ConsoleError."""
        if not LEAST_PASSWORD <= len(password) <= MOST_PASSWORD:
            raise ConsoleError(f"a password has {LEAST_PASSWORD} to {MOST_PASSWORD} characters")
        try:
            person = msgspec.convert(
                {
                    "name": name,
                    "role": role,
                    "password": _hashed(password),
                    "reads_prompts": reads_prompts,
                },
                Person,
            )
        except msgspec.ValidationError as error:
            raise ConsoleError("a name is a few of a-z 0-9 . _ @ -, in small letters") from error
        with self._lock:
            self._write((*(one for one in self.all() if one.name != name), person))

    def remove(self, name: str) -> bool:
        """Nobody of that name may log in any more; False if nobody could."""
        with self._lock:
            before = self.all()
            after = tuple(person for person in before if person.name != name)
            if len(after) < len(before):
                self._write(after)
            return len(after) < len(before)

    def check(self, name: str, password: str) -> Person | None:
        """Who that is, if the password is right. As slow for a name that nobody has."""
        person = self.one(name)
        right = _verified(password, self._unknown if person is None else person.password)
        return person if right else None

    def _write(self, people: tuple[Person, ...]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_whole(self._path, msgspec.json.encode(people), 0o600)
        except OSError as error:
            raise ConsoleError(f"{self._path} cannot be written: {error.strerror}") from error


def _hashed(password: str) -> str:
    kdf = Argon2id(
        salt=secrets.token_bytes(_SALT), length=32, iterations=3, lanes=4, memory_cost=1 << 16
    )
    return kdf.derive_phc_encoded(password.encode())


def _verified(password: str, stored: str) -> bool:
    try:
        Argon2id.verify_phc_encoded(password[:MOST_PASSWORD].encode(), stored)
    except (InvalidKey, ValueError):
        return False
    return True
