"""Who is logged in. Kept in memory, by hash: a restart logs everybody out.

A session ends 30 minutes after its last request and 12 hours after login (NIST SP 800-63B-4, AAL2:
no more than an hour and a day), when its owner logs out, and when the person's entry changes.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, replace
from typing import Final

from tidegate.clock import Clock
from tidegate.console.people import People, Person

IDLE_S: Final = 30 * 60.0
LONGEST_S: Final = 12 * 3600.0
_MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class Session:
    """One login. `csrf` has to come with everything that changes something."""

    person: Person
    csrf: str
    began: float
    seen: float


class Sessions:
    """All logins. Belongs to one event loop."""

    def __init__(self, people: People, clock: Clock) -> None:
        self._people, self._clock = people, clock
        self._open: dict[bytes, Session] = {}

    def begin(self, person: Person) -> tuple[str, Session]:
        """The token for the browser, and the session."""
        now = self._clock.monotonic()
        if len(self._open) >= _MOST:
            self._sweep(now)
        token = secrets.token_urlsafe(32)
        session = Session(person, secrets.token_urlsafe(32), now, now)
        self._open[_key(token)] = session
        return token, session

    def of(self, token: str | None) -> Session | None:
        """The session of a token, if it lasts; asking keeps it alive."""
        if not token:
            return None
        key, now = _key(token), self._clock.monotonic()
        session = self._open.get(key)
        if session is None:
            return None
        if _over(session, now) or self._people.one(session.person.name) != session.person:
            del self._open[key]
            return None
        session = replace(session, seen=now)
        self._open[key] = session
        return session

    def lasts(self, token: str | None) -> bool:
        """As `of`, for a page that is only left open: does not keep it alive."""
        session = None if not token else self._open.get(_key(token))
        return (
            session is not None
            and not _over(session, self._clock.monotonic())
            and self._people.one(session.person.name) == session.person
        )

    def end(self, token: str | None) -> None:
        """Log out."""
        if token:
            self._open.pop(_key(token), None)

    def _sweep(self, now: float) -> None:
        self._open = {key: one for key, one in self._open.items() if not _over(one, now)}
        if len(self._open) >= _MOST:
            del self._open[min(self._open, key=lambda key: self._open[key].seen)]


def same(left: str, right: str) -> bool:
    """Whether two secrets are the same, in constant time."""
    return hmac.compare_digest(left.encode(), right.encode())


def _key(token: str) -> bytes:
    # Found by hash, so that how long a look-up takes tells nothing of tokens.
    return hashlib.sha256(token.encode()).digest()


def _over(session: Session, now: float) -> bool:
    return now - session.seen > IDLE_S or now - session.began > LONGEST_S
