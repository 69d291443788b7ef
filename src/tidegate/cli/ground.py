"""What both halves need before they start: secrets, ledgers, addresses."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from tidegate.clock import SystemClock
from tidegate.config import Settings
from tidegate.errors import ConfigError
from tidegate.ledger import Ledger, SqliteStore, profile


def secret_bytes(path: Path) -> bytes:
    """A secret file's 32 bytes; made, readable by its owner alone, if it is not there.

    Raises ConfigError for a file that is too short or cannot be read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        if not path.exists():
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(32))
            # A link, not a rename: of two processes that start at once, the first one's stays.
            try:
                os.link(fresh, path)
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        value = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read or make the secret {path}: {error.strerror}") from error
    if len(value) < 32:
        raise ConfigError(f"the secret in {path} has {len(value)} bytes; it needs 32")
    return value[:32]


def open_ledger(path: Path, settings: Settings, parameters: int) -> Ledger:
    """The ledger at `path` under the settings' budgets. Raises ConfigError or LedgerError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    budgets = profile(settings.budget.profile, parameters=parameters, zones=settings.budget.zones)
    ledger = Ledger(SqliteStore(path), budgets, SystemClock())
    for held in ledger.held():
        # Whoever held it is gone, and nobody knows how much of it crossed: all of it counts.
        ledger.recover(held, held.bits, "its writer ended without settling it")
    return ledger


def host_port(address: str) -> tuple[str | None, int]:
    """Host and port, or None and 0 where `address` is a socket's path. Raises ConfigError."""
    host, colon, port = address.rpartition(":")
    if not colon or "/" in address:
        return None, 0
    if not (host and port.isdigit()):
        raise ConfigError(f"link address {address!r} is neither a socket's path nor host:port")
    return host, int(port)
