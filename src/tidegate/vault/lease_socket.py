"""Keys of a lease for other processes of the same user on the same host, over a Unix socket.

One process holds the lease, renews it and wipes it (`tidegate vault release`); engines ask it for
data keys, shard by shard. The socket takes callers of its own user only, and it is gone with the
lease. Messages are lines of JSON.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from pathlib import Path
from typing import Literal

import msgspec

from tidegate.errors import TidegateError
from tidegate.vault.errors import VaultError
from tidegate.vault.lease_holder import Lease

MAX_LINE = 4096
CALL_S = 60.0
"""A renewal asks a TPM for a quote, and the broker for its appraisal."""

_CREDENTIALS = struct.Struct("3i")


class _Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    do: Literal["key", "renew", "wipe", "left"]
    shard: int = 0


class _Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: bytes = b""
    left_s: float = 0.0
    error: str = ""


class LeaseServer:
    """Answers at `path`, a socket that is made here, while the lease lasts; a context manager."""

    def __init__(self, lease: Lease, path: Path) -> None:
        self._lease = lease
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            self._socket.bind(str(path))
        except OSError as error:
            raise VaultError(f"Cannot listen at {path}: {error.strerror}") from error
        finally:
            os.umask(before)
        self._socket.listen(16)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> LeaseServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            # Closing alone would leave `accept` waiting.
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._path.unlink(missing_ok=True)
        self._thread.join(CALL_S)

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(caller,), daemon=True).start()

    def _answer(self, caller: socket.socket) -> None:
        with caller, contextlib.suppress(OSError):
            caller.settimeout(CALL_S)
            raw = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            if _CREDENTIALS.unpack(raw)[1] != os.getuid():
                return
            caller.sendall(msgspec.json.encode(self._done(_line(caller))) + b"\n")

    def _done(self, raw: bytes) -> _Answer:
        try:
            call = msgspec.json.decode(raw, type=_Call)
            match call.do:
                case "key":
                    return _Answer(key=self._lease.key(call.shard), left_s=self._lease.left())
                case "renew":
                    if not self._lease.renew():
                        raise VaultError("The lease was not renewed; its keys are wiped.")
                case "wipe":
                    self._lease.wipe()
                case "left":
                    self._lease.check()
        except msgspec.DecodeError as error:
            return _Answer(error=f"this call cannot be read: {error}")
        except TidegateError as error:
            return _Answer(error=error.message)
        return _Answer(left_s=self._lease.left())


class LeaseCalls:
    """The other end: `key` is what opening a sealed folder asks keys of.

    Every call raises VaultError where nobody answers, or the answer is no.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def key(self, shard: int) -> bytes:
        """A shard's data key, 32 bytes."""
        return self._call("key", shard).key

    def renew(self) -> float:
        """Renew now; seconds that the lease has left."""
        return self._call("renew").left_s

    def left(self) -> float:
        """Seconds that the lease has left."""
        return self._call("left").left_s

    def wipe(self) -> None:
        """Wipe the keys and end the grant."""
        self._call("wipe")

    def _call(self, do: Literal["key", "renew", "wipe", "left"], shard: int = 0) -> _Answer:
        try:
            with socket.socket(socket.AF_UNIX) as there:
                there.settimeout(CALL_S)
                there.connect(str(self._path))
                there.sendall(msgspec.json.encode(_Call(do, shard)) + b"\n")
                answer = msgspec.json.decode(_line(there), type=_Answer)
        except (OSError, msgspec.DecodeError) as error:
            raise VaultError(f"No lease is held at {self._path}: {error}") from error
        if answer.error:
            raise VaultError(answer.error)
        return answer


def _line(there: socket.socket) -> bytes:
    raw = b""
    while not raw.endswith(b"\n") and len(raw) < MAX_LINE:
        part = there.recv(MAX_LINE)
        if not part:
            break
        raw += part
    return raw
