"""Principals that belong together: those that share a credential or a source.

A source that many principals use (a proxy, an office) says nothing about any of them and ties none.
"""

from __future__ import annotations

from typing import Final

HUB: Final = 8
"""Principals by which a credential or an address is shared before it stops being a tie."""

MOST_TIES: Final = 256
"""Credentials and addresses that are remembered of one principal."""


class Ties:
    """Which credentials and addresses each principal read a model with."""

    def __init__(self) -> None:
        self._of: dict[str, set[str]] = {}

    def add(self, who: str, credential: str, address: str) -> None:
        """Remember one read's credential and address."""
        ties = self._of.get(who)
        if ties is None:
            ties = self._of[who] = set()
        if len(ties) < MOST_TIES:
            if credential:
                ties.add("credential " + credential)
            if address:
                ties.add("source " + address)

    def clusters(self) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Every cluster of two or more: its principals, and what ties them, both sorted."""
        holders: dict[str, list[str]] = {}
        for who, ties in self._of.items():
            for tie in ties:
                holders.setdefault(tie, []).append(who)
        parent = {who: who for who in self._of}

        def root(who: str) -> str:
            while parent[who] != who:
                parent[who] = parent[parent[who]]
                who = parent[who]
            return who

        binding = {tie: held for tie, held in holders.items() if 2 <= len(held) <= HUB}
        for held in binding.values():
            for other in held[1:]:
                parent[root(other)] = root(held[0])
        members: dict[str, list[str]] = {}
        for who in self._of:
            members.setdefault(root(who), []).append(who)
        tied: dict[str, list[str]] = {}
        for tie, held in binding.items():
            tied.setdefault(root(held[0]), []).append(tie)
        return sorted(
            (tuple(sorted(group)), tuple(sorted(tied[head])))
            for head, group in members.items()
            if len(group) > 1
        )
