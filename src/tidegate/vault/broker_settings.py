"""A broker's settings: one TOML file; paths in it are taken from its own folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from tidegate.clock import Clock
from tidegate.errors import ConfigError
from tidegate.ledger.store import Store
from tidegate.ledger.store_sqlite import SqliteStore
from tidegate.transparency.errors import CheckpointError
from tidegate.transparency.log import Log
from tidegate.transparency.note import Verifier
from tidegate.transparency.store_sqlite import SqliteStore as LogStore
from tidegate.vault.broker import Broker
from tidegate.vault.broker_clock import BrokerClock
from tidegate.vault.grant_journal import Journal
from tidegate.vault.grant_policy import Policy, read_policy
from tidegate.vault.kms_port import Kms
from tidegate.vault.notify import Hook, Notifier, Quiet
from tidegate.vault.open_sealed import open_sealed
from tidegate.vault.release_appraise import FileAppraiser
from tidegate.vault.release_keys import SealedKeys


class BrokerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a broker needs.

    `journal`: a file, or a `postgresql://` URL; `log`: a file. `references`: hosts' files of
    reference values. `sealed`: folders whose keys may be asked for, sealed by `owner` (a verifier
    key). `kms`: as `tidegate vault seal --kms` takes it. `hook`: a program that is told the news.
    `certificate` and `key` are for TLS; without them only this machine is answered.
    """

    policy: str
    tokens: str
    owner: str
    kms: str
    journal: str = "journal.sqlite"
    log: str = "log.sqlite"
    references: tuple[str, ...] = ()
    sealed: tuple[str, ...] = ()
    hook: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8443
    certificate: str | None = None
    key: str | None = None


def read_settings(path: Path) -> BrokerSettings:
    """The settings in a TOML file. Raises ConfigError."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=BrokerSettings)
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}", path=str(path)) from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise ConfigError(f"In {path}: {error}", path=str(path)) from error


def opened(
    settings: BrokerSettings, folder: Path, clock: Clock, kms_of: Callable[[str], Kms]
) -> Broker:
    """The broker that the settings describe, going by its policy file from now on.

    Args:
        settings: what the file says.
        folder: where its relative paths begin.
        clock: the host's.
        kms_of: makes a key service of its name.

    Raises:
        ConfigError: a file is missing or malformed, or break-glass has nobody to tell.
        VaultError, LedgerError, LogError: folders, journal or log are not what they should be.
    """
    policy = _policy(folder / settings.policy)
    if policy.break_glass is not None and not settings.hook:
        raise ConfigError("Break-glass has to be heard: set `hook`, or take it out of the policy.")
    try:
        owner = Verifier.parse(settings.owner)
    except CheckpointError as error:
        raise ConfigError(f"`owner` is no verifier key: {error.message}") from error
    folders = [open_sealed(folder / name, owner) for name in settings.sealed]
    keys = SealedKeys({s.manifest.digest.hex(): s for s in folders}, kms_of(settings.kms))
    appraiser = FileAppraiser([_bytes(folder / name) for name in settings.references])
    log = Log(LogStore(folder / settings.log), clock)
    time = BrokerClock(clock)
    notifier: Notifier = Hook(settings.hook) if settings.hook else Quiet()
    journal = Journal(_store(settings, folder), log, time)
    broker = Broker(journal, time, appraiser, keys, notifier)
    broker.adopt(policy)
    return broker


def _policy(path: Path) -> Policy:
    return read_policy(_bytes(path))


def _store(settings: BrokerSettings, folder: Path) -> Store:
    if settings.journal.startswith(("postgresql://", "postgres://")):
        # Only here: SQLite needs no driver.
        from tidegate.ledger.store_postgres import PostgresStore

        return PostgresStore(settings.journal, "tidegate_grants")
    return SqliteStore(folder / settings.journal)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}", path=str(path)) from error
