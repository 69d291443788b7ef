"""The outer half's ledger where several share one in PostgreSQL: opened, kept, looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

from tidegate.cli.ground import sole_user
from tidegate.clock import SystemClock
from tidegate.config import Settings, SharedLedger
from tidegate.errors import ConfigError
from tidegate.ledger import CLOSE_BITS, Balance, Budgets, Scope, SqliteStore
from tidegate.ledger.budgets import edges_along
from tidegate.ledger.entries import OWN_PRINCIPAL
from tidegate.ledger.lease import LeaseDesk, LeaseTerms

if TYPE_CHECKING:
    from tidegate.ledger.lease_keeper import LeaseKeeper
    from tidegate.ledger.store_postgres import PostgresStore
    from tidegate.ledger.store_postgres_shared import SharedPostgresStore

NEEDED = "a ledger in PostgreSQL needs one more package: pip install 'tidegate[postgres]'"


class BalanceView:
    """`serve.outer.app.LedgerView` over a keeper's ledger, whichever that is now."""

    def __init__(self, keeper: LeaseKeeper) -> None:
        self._keeper = keeper

    def balance(self, scope: Scope) -> Balance:
        """One account now. Raises LedgerError."""
        return self._keeper.ledger.balance(scope)


@contextmanager
def shared_purse(
    settings: Settings, budgets: Budgets, incident: Callable[[str], None]
) -> Iterator[tuple[LeaseDesk, BalanceView]]:
    """Leases on the shared ledger while the context is open.

    Raises ConfigError, or LedgerError where it cannot be used.
    """
    from tidegate.ledger.backup import CopyingStore
    from tidegate.ledger.lease_keeper import LeaseKeeper

    chosen, zones, homes = settings.ledger, settings.budget.zones, settings.budget.homes
    if chosen.holder is None:
        raise ConfigError("[ledger] urls needs [ledger] holder: a name no other outer half has")
    for principal, zone in homes.items():
        if zone not in zones[1:]:
            raise ConfigError(f"{principal} is in zone {zone!r}, which no edge leads to")

    def route(principal: str) -> tuple[str, ...]:
        return edges_along(zones[: zones.index(homes.get(principal, zones[-1])) + 1])

    with sole_user(chosen.copy_file), closing(SqliteStore(chosen.copy_file)) as copy:
        store = _shared_store(chosen, chosen.holder, copy)
        terms = LeaseTerms(
            chunk=chosen.lease_bits,
            most=max(chosen.lease_bits, chosen.longest_lease_bits),
            lasts=float(chosen.lasts_s),
            patience=chosen.patience_ms / 1000,
            standing=16 * CLOSE_BITS,
        )
        desk = LeaseDesk(SystemClock(), route, OWN_PRINCIPAL, terms)
        keeper = LeaseKeeper(
            desk, CopyingStore(store, copy), chosen.holder, budgets, SystemClock(), incident
        )
        with closing(store):
            keeper.start()
            try:
                yield desk, BalanceView(keeper)
            finally:
                keeper.close()


def _shared_store(chosen: SharedLedger, holder: str, copy: SqliteStore) -> SharedPostgresStore:
    try:
        from tidegate.ledger.store_postgres_shared import SharedPostgresStore
    except ImportError as error:
        raise ConfigError(NEEDED) from error
    return SharedPostgresStore(
        urls_of(chosen),
        holder,
        chosen.table,
        replicated=chosen.replicated,
        extends=copy.tip,
        timeout=chosen.silent_ms / 1000,
    )


def looked_at(chosen: SharedLedger, *, replicated: bool | None = None) -> PostgresStore:
    """The shared ledger for a command, as no holder. Raises ConfigError or LedgerError."""
    try:
        from tidegate.ledger.store_postgres import PostgresStore
    except ImportError as error:
        raise ConfigError(NEEDED) from error
    return PostgresStore(
        urls_of(chosen),
        chosen.table,
        replicated=chosen.replicated if replicated is None else replicated,
        timeout=chosen.silent_ms / 1000,
    )


def urls_of(chosen: SharedLedger) -> tuple[str, ...]:
    """The URLs with their password. Raises ConfigError."""
    if not chosen.urls:
        raise ConfigError("[ledger] urls names no PostgreSQL server; see docs/howto/postgres.md")
    if chosen.password_file is None:
        return chosen.urls
    try:
        password = chosen.password_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the password in {chosen.password_file}") from error
    return tuple(_with_password(url, password) for url in chosen.urls)


def _with_password(url: str, password: str) -> str:
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at or ":" in user:
        raise ConfigError("with [ledger] password_file, URLs look like postgresql://user@host/db")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))
