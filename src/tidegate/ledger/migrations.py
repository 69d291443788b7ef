"""The versions of the ledger's tables in PostgreSQL, and the way from each to the next.

A table that is not there is made at the newest version. One that is older is brought up by
`migrate` alone (`tidegate ledger migrate`), never by a half that happens to start; one that is
newer is refused. No migration touches an entry: entries are what they were (`spec/ledger.md`).
"""

from __future__ import annotations

import re

from tidegate.errors import ConfigError, LedgerError
from tidegate.ledger.store_postgres_connect import Asked, Primary

_TABLE = re.compile(r"[a-z_][a-z0-9_]{0,40}")

_ENTRIES = (
    """CREATE TABLE IF NOT EXISTS {table} (
        n BIGINT PRIMARY KEY CHECK (n >= 0),
        entry BYTEA NOT NULL,
        head BYTEA NOT NULL CHECK (length(head) = 32)
    )""",
    """CREATE OR REPLACE FUNCTION {table}_is_final() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'the log is append-only'; END $$""",
    """CREATE OR REPLACE TRIGGER {table}_stays
        BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
        EXECUTE FUNCTION {table}_is_final()""",
)

_HOLDERS = (
    """CREATE TABLE {table}_holders (
        name TEXT PRIMARY KEY,
        fence BIGINT NOT NULL,
        beats BIGINT NOT NULL,
        hungry BOOLEAN NOT NULL
    )""",
    """CREATE TABLE {table}_leases (
        n BIGINT PRIMARY KEY,
        holder TEXT NOT NULL,
        fence BIGINT NOT NULL
    )""",
    """CREATE TABLE {table}_schema (
        version INT PRIMARY KEY,
        since TIMESTAMPTZ NOT NULL DEFAULT now()
    )""",
)

STEPS: tuple[tuple[str, ...], ...] = (_ENTRIES, _HOLDERS)
"""Step i leads to version i + 1. 1: the entries. 2: who holds which reservation."""

NEWEST = len(STEPS)


def checked(table: str) -> str:
    """`table`, if it is a name. Raises ConfigError."""
    if not _TABLE.fullmatch(table):
        raise ConfigError("A table's name is lower-case letters, digits and underscores.")
    return table


def version(ask: Asked, table: str) -> int:
    """Of the tables as they are; 0 where there are none.

    Raises:
        LedgerError: a newer Tidegate made them.
    """
    if not _exists(ask, table):
        return 0
    if not _exists(ask, f"{table}_schema"):
        return 1
    ((found,),) = ask(f"SELECT max(version) FROM {table}_schema")  # noqa: S608
    if not isinstance(found, int) or found > NEWEST:
        raise LedgerError(
            f"The ledger's tables are of version {found}, and this Tidegate knows {NEWEST}."
            " Upgrade it.",
            version=found,
        )
    return found


def migrate(primary: Primary, table: str) -> tuple[int, int]:
    """Bring the tables up to the newest version in one transaction, or leave them as they are.

    Returns:
        The version before and after.

    Raises:
        LedgerError: the server failed, or a newer Tidegate made the tables.
    """
    before = version(primary.run, checked(table))
    if before < NEWEST:
        steps = [step.format(table=table) for steps in STEPS[before:] for step in steps]
        # Two at once: the second waits here, and then fails because all is there already.
        steps.insert(0, f"SELECT pg_advisory_xact_lock(hashtext('{table}'))")
        steps.append(f"INSERT INTO {table}_schema (version) VALUES ({NEWEST})")  # noqa: S608
        try:
            primary.together(steps)
        except LedgerError:
            if version(primary.run, table) != NEWEST:
                raise
    return before, NEWEST


def _exists(ask: Asked, table: str) -> bool:
    return ask("SELECT to_regclass(:name) IS NOT NULL", name=table)[0][0] is True
