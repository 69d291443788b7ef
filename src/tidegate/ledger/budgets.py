"""What may leave: caps for an edge between zones, for a principal, and in all."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, NewType

import msgspec

Whole = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""A whole number that every language and SQLite can hold."""

Positive = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]

Name = Annotated[str, msgspec.Meta(pattern=r'\A[^\x00-\x1f\x7f"\\]{1,256}\Z')]
"""Nothing that JSON would escape, so that a name has one spelling in the log."""

Scope = NewType("Scope", str)
"""One account: `TOTAL`, `edge_scope(...)` or `principal_scope(...)`."""

TOTAL = Scope("total")


def edge_scope(edge: str) -> Scope:
    """The account of one edge between zones."""
    return Scope(f"edge:{edge}")


def principal_scope(principal: str) -> Scope:
    """The account of one principal, over all edges."""
    return Scope(f"principal:{principal}")


def edge_between(source: str, target: str) -> str:
    """The name of the edge on which bits leave zone `source` for zone `target`."""
    return f"{source}→{target}"


def edges_along(zones: tuple[str, ...]) -> tuple[str, ...]:
    """The edges of a row of zones, innermost first: three zones have two edges."""
    return tuple(edge_between(*pair) for pair in pairwise(zones))


@dataclass(frozen=True, slots=True)
class Rolling:
    """At most `bits` in any `seconds` of ledger time."""

    seconds: Positive
    bits: Whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Caps that hold at once; `lifetime` in bits, None for no lifetime cap."""

    lifetime: Whole | None = None
    windows: tuple[Rolling, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """Every cap of one deployment.

    Only edges named in `edges` may carry anything. `principal` holds for each principal that
    `principals` does not name.
    """

    name: Name
    total: Budget
    edges: tuple[tuple[Name, Budget], ...]
    principal: Budget
    principals: tuple[tuple[Name, Budget], ...] = ()

    def has_edge(self, edge: str) -> bool:
        """Whether configuration knows `edge`."""
        return any(name == edge for name, _ in self.edges)

    def of(self, scope: Scope) -> Budget:
        """The caps of one account; none for an edge that an older configuration knew."""
        kind, _, name = scope.partition(":")
        if kind == "principal":
            return dict(self.principals).get(name, self.principal)
        return dict(self.edges).get(name, Budget()) if kind == "edge" else self.total
