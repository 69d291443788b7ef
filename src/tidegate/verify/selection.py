"""Which answers are verified: a choice that nobody can steer and anybody can check afterwards.

**Commit and reveal.** For every epoch the verifier draws a 32-byte key, publishes a commitment to
it, and selects an answer by a keyed hash of what the signed record says of it. The server fixed
that before it could know the key, so it cannot avoid being chosen, nor grind for it: every guess
costs a recorded answer and tells nothing about the next. The verifier committed before the answers
existed, so he cannot spare a friend. Once the key is revealed, everybody recomputes the choice.

**Not a VRF** (RFC 9381): it would prove each choice at once, without a reveal. No well-kept library
at hand offers ECVRF, and one's own curve code is a worse risk than waiting for an epoch to end.

**By token weight** each token tosses its own coin, and one hit selects the whole answer:
`1 - (1 - rate)^tokens`. Cutting an answer into many or joining many into one changes nothing.

Pure: whole numbers only, so that every machine selects the same.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

from tidegate.errors import ConfigError
from tidegate.verify.record_response import Response

KEY_BYTES: Final = 32
_SCALE: Final = 128
"""Bits after the point in which chances are computed, rounded up: never less than was asked."""

EPOCH_ENTRIES: Final = 1 << 14
"""Entries of the record in one epoch: with the last of them under a checkpoint its key may go out.
"""

By = Literal["message", "token"]


@dataclass(frozen=True, slots=True)
class Subject:
    """What of an answer the choice hangs on: all of it fixed by the record's signed tree.

    `origin` is the record's, `number` and `digest` those of `record_response.Response`.
    """

    origin: str
    number: int
    digest: bytes
    tokens: int


def epoch_of(response: Response) -> int:
    """The epoch that an answer belongs to, by its last entry."""
    return response.last // EPOCH_ENTRIES


def closed_epochs(signed: int) -> range:
    """The epochs of which nothing more can be signed, once `signed` entries are."""
    return range(signed // EPOCH_ENTRIES)


def subject_of(response: Response, origin: str, begins: int, ends: int) -> Subject | None:
    """An answer as a subject of the epoch between checkpoints of `begins` and `ends` entries.

    None where it belongs to another epoch: its last entry is under the earlier checkpoint already,
    or not under the later one yet.
    """
    if not begins <= response.last < ends:
        return None
    return Subject(origin, response.number, response.digest, len(response.tokens))


@dataclass(frozen=True, slots=True)
class Policy:
    """How much is selected: `rate` of the messages, or of the tokens each with its own coin.

    Raises ConfigError for a rate outside 0 to 1.
    """

    rate: Fraction
    by: By = "token"

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ConfigError("the share to verify lies between 0 and 1")


def epoch_key(secret: bytes, epoch: int) -> bytes:
    """The key of one epoch, from the verifier's master secret: revealing it reveals no other.

    Raises ConfigError unless the secret has 32 bytes.
    """
    return _keyed(_checked(secret), b"tidegate.sel.key", epoch.to_bytes(8, "big"))


def commitment(key: bytes, origin: str, epoch: int) -> bytes:
    """What the verifier publishes before an epoch begins. Raises ConfigError for a bad key."""
    return _keyed(_checked(key), b"tidegate.sel.com", origin.encode() + epoch.to_bytes(8, "big"))


def opens(key: bytes, committed: bytes, origin: str, epoch: int) -> bool:
    """Whether `key` is the one committed to."""
    return hmac.compare_digest(commitment(key, origin, epoch), committed)


def draw(key: bytes, subject: Subject) -> int:
    """The answer's lot, from 0 to 2**128 - 1. Raises ConfigError for a bad key."""
    said = subject.number.to_bytes(8, "big") + subject.digest + subject.origin.encode()
    return int.from_bytes(_keyed(_checked(key), b"tidegate.sel.lot", said)[:16], "big")


def threshold(policy: Policy, tokens: int) -> int:
    """Lots below it are selected: the chance of selection times 2**128."""
    tosses = tokens if policy.by == "token" else 1
    whole = 1 << _SCALE
    # Rounded down at each step, so the chance of not being selected is never overstated.
    miss = (policy.rate.denominator - policy.rate.numerator) * whole // policy.rate.denominator
    left, power = whole, miss
    while tosses:
        if tosses & 1:
            left = left * power >> _SCALE
        power = power * power >> _SCALE
        tosses >>= 1
    return whole - left


def selected(key: bytes, subject: Subject, policy: Policy) -> bool:
    """Whether an answer is verified. Raises ConfigError for a bad key."""
    return draw(key, subject) < threshold(policy, subject.tokens)


def _keyed(key: bytes, person: bytes, said: bytes) -> bytes:
    return hashlib.blake2b(said, digest_size=32, key=key, person=person).digest()


def _checked(key: bytes) -> bytes:
    if len(key) != KEY_BYTES:
        raise ConfigError(f"a selection key has {KEY_BYTES} bytes", key_bytes=len(key))
    return key
