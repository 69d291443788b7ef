"""What both halves need before they start: secrets, ledgers, addresses, logs."""

from __future__ import annotations

import fcntl
import io
import os
import secrets
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, TextIO, cast

import structlog

from tidegate.clock import SystemClock
from tidegate.config import Caps, Settings
from tidegate.errors import ConfigError
from tidegate.ledger import Budget, Budgets, Ledger, Rolling, SqliteStore, profile
from tidegate.ledger.entries import OWN_PRINCIPAL
from tidegate.ledger.profiles import DAY, HOUR
from tidegate.serve.telemetry import make_logger

_SECRET_BYTES = 32


def secret_bytes(path: Path) -> bytes:
    """A secret file's 32 bytes; made, readable by its owner alone, if it is not there.

    Raises ConfigError for a file that is too short or cannot be read.
    """
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(_SECRET_BYTES))
                file.flush()
                os.fsync(file.fileno())
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
    if len(value) < _SECRET_BYTES:
        raise ConfigError(f"the secret in {path} has {len(value)} bytes; it needs {_SECRET_BYTES}")
    return value[:_SECRET_BYTES]


def budgets_of(settings: Settings, parameters: int) -> Budgets:
    """The caps of the settings' profile for a strong model of that size, and their exceptions.

    The link's own account stands for all users together, so it has an edge's budget, not one's.

    Raises ConfigError for an unknown profile or an edge that no two zones have.
    """
    chosen = settings.budget
    budgets = profile(chosen.profile, parameters=parameters, zones=chosen.zones)
    edges = dict(budgets.edges)
    for edge, caps in chosen.edges.items():
        if edge not in edges:
            raise ConfigError(f"there is no edge {edge!r}; there are {', '.join(edges)}")
        edges[edge] = budget_of_caps(caps)
    principals = {name: budget_of_caps(caps) for name, caps in chosen.principals.items()}
    principals[OWN_PRINCIPAL] = next(iter(edges.values()))
    return replace(budgets, edges=tuple(edges.items()), principals=tuple(principals.items()))


def lane_budgets(budgets: Budgets, settings: Settings) -> Budgets:
    """`budgets` of an inner half, with an account for each of its lanes.

    One without caps of its own has what the link has where there is only one.
    """
    edge = next(iter(dict(budgets.edges).values()))
    lanes = tuple(
        (lane_principal(name), edge if lane.budget == Caps() else budget_of_caps(lane.budget))
        for name, lane in settings.lanes.items()
    )
    return replace(budgets, principals=(*budgets.principals, *lanes))


def lane_principal(lane: str) -> str:
    """The name of a lane's account in the inner half's ledger."""
    return f"lane:{lane}"


def budget_of_caps(caps: Caps) -> Budget:
    """A budget as settings write it."""
    windows = [(HOUR, caps.hour), (DAY, caps.day)]
    return Budget(
        lifetime=caps.lifetime,
        windows=tuple(Rolling(length, bits) for length, bits in windows if bits is not None),
    )


@contextmanager
def open_ledger(path: Path, budgets: Budgets) -> Iterator[Ledger]:
    """A half's ledger, used by no other half while the context is open.

    What an earlier half held and did not settle is charged in full. Raises ConfigError or
    LedgerError.
    """
    with sole_user(path), closing(SqliteStore(path)) as store:
        ledger = Ledger(store, budgets, SystemClock())
        for held in ledger.held():
            # Whoever held it is gone, and nobody knows how much of it crossed: all of it counts.
            ledger.recover(held, held.bits, "its writer ended without settling it")
        yield ledger


@contextmanager
def sole_user(path: Path) -> Iterator[None]:
    """Two halves over one ledger would each take the other's reservations for a dead one's."""
    lock = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError as error:
        raise ConfigError(f"another half is running on the ledger {path}") from error


def host_port(address: str) -> tuple[str | None, int]:
    """Host and port, or None and 0 where `address` is a socket's path. Raises ConfigError."""
    host, colon, port = address.rpartition(":")
    if not colon or "/" in address:
        return None, 0
    host = host.removeprefix("[").removesuffix("]")
    if not (host and port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ConfigError(f"link address {address!r} is neither a socket's path nor host:port")
    return host, int(port)


class _Lossy(io.TextIOBase):
    """Drops what cannot be written: a full disk under the log must not stop who is logging."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def log_stream() -> TextIO:
    """Standard error, for logs; what cannot be written is dropped."""
    return cast("TextIO", _Lossy(sys.stderr))


def log_as_json(stream: TextIO) -> None:
    """What the rooms log goes to `stream` as JSON lines, without anybody's text."""
    lines = make_logger(stream, SystemClock())

    def forward(_logger: object, method: str, event: MutableMapping[str, Any]) -> NoReturn:
        # `diagnostics` calls the sentence `message`; in logs it is the `reason` of an event.
        told = {"reason" if name == "message" else name: value for name, value in event.items()}
        getattr(lines, method)(told.pop("event"), **told)
        raise structlog.DropEvent

    structlog.configure(processors=[forward])
