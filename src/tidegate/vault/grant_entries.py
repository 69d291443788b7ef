"""Requests and journal entries: what they say, the bytes that say it, and what is hashed.

`spec/grants.md` has all of it byte for byte. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from tidegate.ledger.budgets import Name, Whole
from tidegate.vault.grant_errors import GrantError
from tidegate.vault.grant_policy import Binary, Hash, Policy, Seconds

GrantId = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
NO_GRANT = "0" * 32
"""Stands in a refusal for a grant that does not exist."""

MAX_SHARDS = 8_192
"""In one request: more would not fit an entry of the log. A larger set takes several grants."""
Shards = Annotated[
    tuple[Annotated[int, Meta(ge=0, lt=2**32)], ...], Meta(min_length=1, max_length=MAX_SHARDS)
]
Blob = Annotated[bytes, Meta(min_length=1, max_length=65_536)]
Verdict = Literal["approve", "deny"]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Request(_Strict, frozen=True):
    """Who asks for what, why, where and for how long; `time` in milliseconds."""

    v: Literal[1]
    id: GrantId
    requester: Name
    why: Name
    model: Name
    manifest: Hash
    shards: Shards
    host: Name
    reference: Hash
    seconds: Seconds
    break_glass: bool
    policy: Hash
    time: Whole

    @property
    def digest(self) -> bytes:
        """SHA-256 of this exact request, 32 bytes; what approvals and evidence are bound to."""
        return _hash(b"tidegate grant request v1\n", msgspec.json.encode(self))


class Assertion(_Strict, frozen=True):
    """A WebAuthn assertion as it came: whose key, authenticator data, client data, signature."""

    credential: Binary
    authenticator: Blob
    client: Blob
    signature: Binary


class Seen(_Strict, frozen=True):
    """What was appraised as what: kind, device, hash of reference values, hash of the evidence."""

    kind: Name
    device: Name
    reference: Hash
    digest: Hash


class _Does(_Strict, frozen=True, tag_field="kind"):
    pass


class Adopt(_Does, frozen=True, tag="policy"):
    """The broker goes by this policy from here on."""

    policy: Policy


class Current(_Does, frozen=True, tag="manifest"):
    """Of this model, this manifest is the current one."""

    model: Name
    manifest: Hash
    shards: Annotated[int, Meta(ge=1, lt=2**32)]
    by: Name


class Asked(_Does, frozen=True, tag="request"):
    """Somebody asks."""

    request: Request


class Approved(_Does, frozen=True, tag="approve"):
    """One approval for one team."""

    grant: GrantId
    by: Name
    team: Name
    assertion: Assertion


class Denied(_Does, frozen=True, tag="deny"):
    """One veto."""

    grant: GrantId
    by: Name
    team: Name
    reason: Name
    assertion: Assertion


class Challenged(_Does, frozen=True, tag="challenge"):
    """The nonce that the next evidence must bind."""

    grant: GrantId
    by: Name
    nonce: Hash


class Released(_Does, frozen=True, tag="release"):
    """The keys left, or may have."""

    grant: GrantId
    by: Name
    evidence: Seen
    key: Hash
    until: Whole


class Renewed(_Does, frozen=True, tag="renew"):
    """Fresh evidence; the lease goes on."""

    grant: GrantId
    by: Name
    evidence: Seen
    until: Whole


class Wiped(_Does, frozen=True, tag="wipe"):
    """The host says that it wiped its keys."""

    grant: GrantId
    by: Name


class Revoked(_Does, frozen=True, tag="revoke"):
    """Somebody ended the grant."""

    grant: GrantId
    by: Name
    reason: Name


class Expired(_Does, frozen=True, tag="expire"):
    """The grant ended by itself; `what` it was."""

    grant: GrantId
    what: Literal["pending", "approved", "leased"]


class Refused(_Does, frozen=True, tag="refuse"):
    """An approval, a release or a renewal was refused at a check."""

    grant: GrantId
    by: Name
    what: Name
    check: Whole
    reason: Name


Does: TypeAlias = (
    Adopt
    | Current
    | Asked
    | Approved
    | Denied
    | Challenged
    | Released
    | Renewed
    | Wiped
    | Revoked
    | Expired
    | Refused
)


class Entry(_Strict, frozen=True):
    """One line of the journal; `time` decides and never goes back, `wall` is for people."""

    n: Whole
    time: Whole
    wall: Whole
    does: Does


_DECODER = msgspec.json.Decoder(Entry)


def encode(entry: Entry) -> bytes:
    """The one spelling of `entry`. Raises GrantError: a field that cannot be recorded."""
    try:
        raw = msgspec.json.encode(entry)
        _DECODER.decode(raw)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError) as error:
        raise GrantError(f"This cannot be recorded: {error}") from error
    return raw


def parse(raw: bytes, n: int) -> Entry:
    """Read entry `n`. Raises GrantError: malformed, another spelling, or another number."""
    try:
        entry = _DECODER.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise GrantError(f"Entry {n} of the journal cannot be read: {error}", entry=n) from error
    if msgspec.json.encode(entry) != raw or entry.n != n:
        raise GrantError(f"Entry {n} of the journal is not in its one spelling.", entry=n)
    return entry


def read_body(body: Mapping[str, Any]) -> Entry:
    """An entry as the transparency log's entry holds it. Raises GrantError."""
    try:
        return _DECODER.decode(msgspec.json.encode(body))
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise GrantError(f"The log holds something else than an entry: {error}") from error


def challenge_of(verdict: Verdict, request: bytes) -> bytes:
    """What a hardware key signs to approve or deny the request with this hash: 32 bytes."""
    return _hash(f"tidegate grant {verdict} v1\n".encode(), request)


def binding_of(what: Literal["release", "renew"], nonce: str, request: bytes, key: str) -> bytes:
    """What evidence has to bind: nonce and key hash in hex, the request's hash; 32 bytes."""
    return _hash(
        f"tidegate {what} v1\n".encode(), bytes.fromhex(nonce), request, bytes.fromhex(key)
    )


def _hash(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()
