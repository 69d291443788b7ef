"""What ids say about lanes: which lane holds a piece of reasoning, which one a session goes to.

Both are worked out from names alone, so that several outer halves, and one that was started again,
come to the same lane without telling each other. Names of lanes have to be the same in all of them.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from typing import Final

_TAG: Final = 4
_ID: Final = 16


def mint(lane: str) -> bytes:
    """An id for reasoning that will be kept behind `lane`; 16 bytes, at least 96 of them random
    bits. Without a name all are random."""
    return tag_of(lane) + secrets.token_bytes(_ID - len(tag_of(lane)))


def tag_of(lane: str) -> bytes:
    """What ids that were minted for `lane` begin with."""
    if not lane:
        return b""
    return hashlib.blake2b(lane.encode(), digest_size=_TAG, person=b"tidegate.lanetag").digest()


def ranked(lanes: Iterable[str], principal: str, session: str) -> list[str]:
    """The lanes in the order in which this principal's session prefers them.

    Rendezvous hashing (Thaler and Ravishankar 1998): if a lane goes, only its sessions move, and
    they come back with it.
    """

    def weight(lane: str) -> bytes:
        told = hashlib.blake2b(digest_size=16, person=b"tidegate.session")
        for part in (principal, session, lane):
            raw = part.encode()
            told.update(len(raw).to_bytes(4, "big") + raw)
        return told.digest()

    return sorted(lanes, key=weight, reverse=True)
