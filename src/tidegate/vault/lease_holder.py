"""A host's side of a lease: one key for HPKE, the shards' keys in memory, and their end.

Deadlines go by the host's monotonic clock, counted from before the broker was asked, so that
neither a slow answer nor a clock that is set makes a lease longer. **This binds honest software
only**: who owns the host while keys are in its memory has them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal, Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tidegate.clock import Clock
from tidegate.errors import TidegateError
from tidegate.vault.broker import Broker
from tidegate.vault.errors import VaultError
from tidegate.vault.grant_entries import Request, binding_of
from tidegate.vault.grant_errors import GrantError, RefusedError
from tidegate.vault.release_seal import Package, hash_of, opened

RENEW_AT = 0.5
"""Of a lease; half of it is left to try again in."""

Attest = Callable[[bytes], bytes]
"""Evidence that binds 32 bytes."""


class BrokerCalls(Protocol):
    """What a host asks of the broker, as the requester."""

    def challenge(self, name: str) -> str: ...
    def release(self, name: str, evidence: bytes, public: bytes) -> bytes: ...
    def renew(self, name: str, evidence: bytes) -> int: ...
    def wipe(self, name: str) -> object: ...


class Lease:
    """Keys that a host holds for one grant, until they are wiped. Threads may share it."""

    def __init__(self, broker: BrokerCalls, request: Request, attest: Attest, clock: Clock) -> None:
        self._broker = broker
        self._request = request
        self._attest = attest
        self._clock = clock
        self._private = X25519PrivateKey.generate()
        self._public = self._private.public_key().public_bytes_raw()
        self._package: Package | None = None
        self._begun: float = clock.monotonic()
        self._ends: float = self._begun
        self._lock = threading.RLock()

    def acquire(self) -> None:
        """Ask for the keys, once. Raises RefusedError, VaultError, or what attesting raises."""
        with self._lock:
            if self._package is not None:
                raise GrantError("This lease has been acquired.")
            asked = self._clock.monotonic()
            evidence = self._evidence("release")
            sealed = self._broker.release(self._request.id, evidence, self._public)
            self._package = opened(self._private, self._request.digest, sealed)
            self._extend(asked, self._package.lease)

    def key(self, shard: int) -> bytes:
        """A shard's data key, 32 bytes. Raises VaultError without a lease, or once it is over."""
        with self._lock:
            self.check()
            for number, key in self._package.keys if self._package else ():
                if number == shard:
                    return bytes(key)
        raise VaultError(f"No key of shard {shard} is held under this grant.", shard=shard)

    def left(self) -> float:
        """Seconds until the keys have to be wiped."""
        return max(0.0, self._ends - self._clock.monotonic())

    def check(self) -> bool:
        """Whether keys are held; they are wiped here if their time is over."""
        with self._lock:
            if self._package is not None and not self.left():
                self._forget()
            return self._package is not None

    def due(self) -> bool:
        """Whether it is time to renew."""
        whole = self._ends - self._begun
        return self._clock.monotonic() - self._begun >= RENEW_AT * whole

    def renew(self) -> bool:
        """Ask for more time, with fresh evidence; whether keys are still held afterwards.

        A refusal wipes them at once. A broker that cannot be reached leaves them until their time
        is over.
        """
        with self._lock:
            if not self.check():
                return False
            asked = self._clock.monotonic()
            try:
                left = self._broker.renew(self._request.id, self._evidence("renew"))
            except RefusedError:
                self._forget()
            except TidegateError:
                self.check()
            else:
                self._extend(asked, left)
            return self.check()

    def wipe(self) -> None:
        """Overwrite the keys, then tell the broker. Raises as the broker's calls do."""
        with self._lock:
            self._forget()
        self._broker.wipe(self._request.id)

    def _extend(self, asked: float, milliseconds: int) -> None:
        self._begun, self._ends = asked, asked + milliseconds / 1000

    def _evidence(self, what: Literal["release", "renew"]) -> bytes:
        nonce = self._broker.challenge(self._request.id)
        return self._attest(binding_of(what, nonce, self._request.digest, hash_of(self._public)))

    def _forget(self) -> None:
        if self._package is not None:
            self._package.wipe()
        self._package = None


class OwnCalls:
    """A principal's calls to a broker in the same process."""

    def __init__(self, broker: Broker, by: str) -> None:
        self._broker = broker
        self._by = by

    def challenge(self, name: str) -> str:
        return self._broker.challenge(self._by, name)

    def release(self, name: str, evidence: bytes, public: bytes) -> bytes:
        return self._broker.release(self._by, name, evidence, public)

    def renew(self, name: str, evidence: bytes) -> int:
        return self._broker.renew(self._by, name, evidence)

    def wipe(self, name: str) -> None:
        self._broker.wipe(self._by, name)
