"""What the gate remembers over kills and reboots: one small file, replaced whole or not at all.

The file is JSON and, on a line of its own, its SHA-256. A write goes to a file beside it, which
takes its place only once it is on the disk. What does not match its hash is never half believed:
the gate stays closed until somebody has looked.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tidegate.disk import replace_whole
from tidegate.errors import GateError
from tidegate.gate.accounts import State
from tidegate.gate.policy import Policy

_STATE = "state"
_POLICY = "policy.json"
_LOCK = "lock"


def encode(state: State) -> bytes:
    """A state as the file's bytes."""
    body = msgspec.json.encode(state)
    return body + b"\n" + hashlib.sha256(body).hexdigest().encode() + b"\n"


def decode(data: bytes) -> State:
    """A state from the file's bytes. Raises GateError for anything that `encode` does not write."""
    body, _, rest = data.partition(b"\n")
    if rest != hashlib.sha256(body).hexdigest().encode() + b"\n":
        raise GateError("the gate's state does not match its hash: it was cut off or altered")
    try:
        state = msgspec.json.decode(body, type=State)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise GateError(f"the gate's state is of another version: {error}") from error
    if any(min(account.granted, account.generation) < 0 for account in state.accounts):
        raise GateError("the gate's state holds a negative count")
    return state


class Store:
    """The gate's folder.

    Contract: what `write` returned from is what the next `read` gives, whatever happens between;
    where it raised or never returned, `read` gives the state before or the state meant.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> State | None:
        """The state; None where there never was one. Raises GateError for one that is damaged."""
        path = self.folder / _STATE
        try:
            return decode(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise GateError(f"cannot read {path}: {error.strerror}", path=str(path)) from error

    def write(self, state: State) -> None:
        """Put `state` on the disk. Raises GateError where it cannot, as on a full disk."""
        self._replace(_STATE, encode(state))

    def applied(self) -> Policy | None:
        """The policy applied last, for a diff; None where there is none that can be read."""
        try:
            return Policy.model_validate_json((self.folder / _POLICY).read_bytes())
        except (OSError, ValueError):
            return None

    def keep_policy(self, policy: Policy) -> None:
        """Remember what was applied. Raises GateError."""
        self._replace(_POLICY, policy.model_dump_json().encode())

    def holder(self) -> int | None:
        """Process id of the controller that holds the gate, if one does."""
        try:
            with (self.folder / _LOCK).open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return None
        except BlockingIOError:
            return int((self.folder / _LOCK).read_text().strip() or 0)
        except FileNotFoundError:
            return None

    @contextmanager
    def sole(self) -> Iterator[None]:
        """No other controller holds the gate while the context is open. Raises GateError."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with (self.folder / _LOCK).open("a+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.truncate(0)
                file.write(f"{os.getpid()}\n")
                file.flush()
                yield
        except BlockingIOError as error:
            raise GateError(f"another controller holds the gate of {self.folder}") from error

    def _replace(self, name: str, data: bytes) -> None:
        path = self.folder / name
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_whole(path, data)
        except OSError as error:
            raise GateError(f"cannot write {path}: {error.strerror}", path=str(path)) from error
