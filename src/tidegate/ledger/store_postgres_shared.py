"""`PostgresStore` for several holders: tokens, beats and claims beside the entries.

The token is checked, the beat counted, the entries and claims written by one statement. It locks
the holder's own row first, so it either comes before the one that fences it off or sees it; other
holders' rows it does not touch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tidegate.errors import LedgerError
from tidegate.ledger.errors import FencedError
from tidegate.ledger.lease_port import Claim, Seen, claimed
from tidegate.ledger.migrations import NEWEST, version
from tidegate.ledger.state import EMPTY, Row, Tip
from tidegate.ledger.store_postgres import PUT, READY, TIMEOUT_S, PostgresStore

_JOIN = """INSERT INTO {table}_holders VALUES (:name, 1, 0, false)
    ON CONFLICT (name) DO UPDATE SET fence = {table}_holders.fence + 1, hungry = false
    RETURNING fence"""

_MINE = """UPDATE {table}_holders SET beats = beats + 1{change}
    WHERE name = :name AND fence = CAST(:fence AS BIGINT) RETURNING 1"""

_BEAT = f"""WITH mine AS ({_MINE.replace("{change}", ", hungry = CAST(:hungry AS BOOLEAN)")})
    SELECT name, fence, beats, hungry, (SELECT count(*) FROM mine)
    FROM {{table}}_holders ORDER BY name"""  # noqa: S608

_APPEND = f"""WITH mine AS ({_MINE.replace("{change}", "")}),
    ready AS ({READY} AND EXISTS (SELECT FROM mine)),
    put AS ({PUT}),
    held AS (INSERT INTO {{table}}_leases
      SELECT n, :name, CAST(:fence AS BIGINT) FROM ready, unnest(CAST(:opened AS BIGINT[])) AS n),
    gone AS (DELETE FROM {{table}}_leases
      WHERE n = ANY (CAST(:settled AS BIGINT[])) AND EXISTS (SELECT FROM ready))
    SELECT (SELECT count(*) FROM put), (SELECT count(*) FROM mine)"""  # noqa: S608

_CLAIMS = "SELECT n, holder, fence FROM {table}_leases ORDER BY n"

_HOLDERS = "SELECT name, fence, beats, hungry FROM {table}_holders ORDER BY name"

_FENCE_OFF = """UPDATE {table}_holders SET fence = fence + 1
    WHERE name = :other AND fence = CAST(:fence AS BIGINT) AND beats = CAST(:beats AS BIGINT)
    RETURNING 1"""


class SharedPostgresStore(PostgresStore):
    """`lease_port.SharedStore` over a table and the two beside it.

    Args:
        holder: this outer half's name, unlike any other's.

    The other arguments, and what is raised, are `PostgresStore`'s; also raises LedgerError where
    the tables are of an older version.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        holder: str,
        table: str = "tidegate_ledger",
        *,
        replicated: bool = True,
        extends: Callable[[], Tip] = lambda: EMPTY,
        timeout: float = TIMEOUT_S,
    ) -> None:
        super().__init__(url, table, replicated=replicated, extends=extends, timeout=timeout)
        self._holder = holder
        self._fence = 0
        require_newest(self)

    def join(self) -> int:
        ((fence,),) = self._ask(_JOIN, name=self._holder)
        self._fence = int(fence)
        return self._fence

    def append(self, expected: Tip, rows: Sequence[Row]) -> None:
        opened, settled = claimed(expected.size, rows)
        ((written, mine),) = self._append(
            _APPEND,
            expected,
            rows,
            name=self._holder,
            fence=self._fence,
            opened=opened,
            settled=settled,
        )
        if not mine:
            raise _fenced(self._holder)
        if written != len(rows):
            self._refuse()

    def beat(self, *, hungry: bool) -> Sequence[Seen]:
        rows = self._ask(_BEAT, name=self._holder, fence=self._fence, hungry=hungry)
        if not rows or not rows[0][-1]:
            raise _fenced(self._holder)
        return tuple(Seen(*row[:-1]) for row in rows)

    def holders(self) -> Sequence[Seen]:
        return holders_in(self)

    def claims(self) -> Sequence[Claim]:
        return claims_in(self)

    def fence_off(self, seen: Seen) -> bool:
        return bool(self._ask(_FENCE_OFF, other=seen.name, fence=seen.fence, beats=seen.beats))

    def look_around(self) -> None:
        self.primary.look_around()


def holders_in(store: PostgresStore) -> tuple[Seen, ...]:
    """Every holder that ever joined, for who only looks. Raises LedgerError."""
    return tuple(Seen(*row) for row in store.primary.run(_HOLDERS.format(table=store.table)))


def claims_in(store: PostgresStore) -> tuple[Claim, ...]:
    """Who holds which reservation. Raises LedgerError."""
    return tuple(Claim(*row) for row in store.primary.run(_CLAIMS.format(table=store.table)))


def require_newest(store: PostgresStore) -> None:
    """Raise LedgerError for tables of an older version."""
    found = version(store.primary.run, store.table)
    if found != NEWEST:
        raise LedgerError(
            f"The ledger's tables are of version {found}; bring them to {NEWEST} with `tidegate"
            " ledger migrate`, while no half runs.",
            version=found,
        )


def _fenced(holder: str) -> FencedError:
    return FencedError(
        f"Others took the holder {holder!r} for dead, or another uses its name: its leases were"
        " charged in full.",
        holder=holder,
    )
